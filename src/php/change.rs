//! Where every change begins: reading the header, walking the chain, and finishing what a process has left that was killed
//! in a change.

use crate::error::Result;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::{Survey, survey};
use crate::php::header::Header;
use crate::php::patience::patiently;
use crate::php::writer::Writer;

/// Begins a change of a variable, whose new chunk takes `own` bytes.
///
/// # Errors
/// [`Error::Incompatible`](crate::error::Error::Incompatible), [`Error::Corrupt`](crate::error::Error::Corrupt).
#[inline(always)]
pub fn begin(map: &Mapping, index: i64, own: u64) -> Result<(Writer<'_>, Survey)> {
    match look(map, index, own) {
        Ok((writer, survey)) if survey.prepared.is_none() => Ok((writer, survey)),
        _ => begin_patiently(map, index, own),
    }
}

/// Begins a change where another was not finished, or where PHP is in the middle of one.
#[cold]
fn begin_patiently(map: &Mapping, index: i64, own: u64) -> Result<(Writer<'_>, Survey)> {
    loop {
        let (writer, survey) = patiently(|| look(map, index, own))?;
        // Each turn leaves one chunk less that is prepared.
        let Some(chunk) = survey.prepared else { return Ok((writer, survey)) };
        writer.resolve(&chunk)?;
    }
}

/// Looks at the whole segment.
#[inline(always)]
fn look(map: &Mapping, index: i64, own: u64) -> Result<(Writer<'_>, Survey)> {
    let header = Header::read_to_change(map)?;
    let survey = survey(map, &header, index, own)?;
    Ok((Writer { map, header }, survey))
}
