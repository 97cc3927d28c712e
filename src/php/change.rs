//! Where every change begins: reading the header, walking the chain, and finishing what a process has left that was
//! killed in a change.

use crate::error::Result;
use crate::php::chain::{Survey, survey};
use crate::php::header::Header;
use crate::php::patience::patiently;
use crate::php::writer::Writer;

/// Begins a change of a variable, whose new chunk takes `own` bytes. The header of the writer and `found` are filled
/// where they lie, for to move them costs as much as the walk.
///
/// # Errors
/// [`Error::Incompatible`](crate::error::Error::Incompatible), [`Error::Corrupt`](crate::error::Error::Corrupt).
#[inline(always)]
pub fn begin(writer: &mut Writer<'_>, index: i64, own: u64, found: &mut Survey) -> Result<()> {
    if look(writer, index, own, found).is_ok() && found.prepared.is_none() {
        return Ok(());
    }
    begin_patiently(writer, index, own, found)
}

/// Begins a change where another was not finished, or where PHP is in the middle of one.
#[cold]
#[inline(never)]
fn begin_patiently(writer: &mut Writer<'_>, index: i64, own: u64, found: &mut Survey) -> Result<()> {
    loop {
        patiently(|| look(writer, index, own, found))?;
        // Each turn leaves one chunk less that is prepared.
        let Some(chunk) = found.prepared else { return Ok(()) };
        writer.resolve(&chunk)?;
    }
}

/// Looks at the whole segment.
#[inline(always)]
fn look(writer: &mut Writer<'_>, index: i64, own: u64, found: &mut Survey) -> Result<()> {
    writer.header = Header::read_to_change(writer.map)?;
    survey(writer.map, &writer.header, index, own, found)
}
