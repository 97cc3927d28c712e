//! Where every change begins: reading the header, walking the chain, and finishing what a process has left that was
//! killed in a change. A call that is refused stores nothing, so it finishes nothing either.

use crate::error::{Error, Result};
use crate::php::chain::{Survey, survey};
use crate::php::header::Header;
use crate::php::patience::patiently;
use crate::php::unfinished::Unfinished;
use crate::php::writer::Writer;

/// The size of the new chunk of a change that writes none: a removal.
pub const NO_CHUNK: u64 = u64::MAX;

/// Begins a change of a variable, whose new chunk takes `own` bytes. The header of the writer and `found` are filled
/// where they lie, for to move them costs as much as the walk.
///
/// # Errors
/// [`Error::Incompatible`], [`Error::Corrupt`], and [`Error::Full`] where another change was not finished.
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
    patiently(|| {
        writer.header = Header::read_to_change(writer.map)?;
        survey(writer.map, &writer.header, index, own, found)
    })?;
    let unfinished = Unfinished::look(writer, found)?;
    let goes_on = if own == NO_CHUNK {
        found.found.is_some() || unfinished.publishes(index)
    } else {
        found.twice.is_none() && unfinished.has_room(writer, index, own)?
    };
    if !goes_on {
        return Ok(()); // The caller refuses, by what was found.
    }
    writer.header.mend_free(writer.map)?;
    if found.prepared.is_none() {
        return Ok(());
    }
    unfinished.finish(writer)?;
    survey(writer.map, &writer.header, index, own, found)
}

/// Looks at the whole segment. It is an error if `free` has to be mended first.
#[inline(always)]
fn look(writer: &mut Writer<'_>, index: i64, own: u64, found: &mut Survey) -> Result<()> {
    writer.header = Header::read(writer.map)?;
    if writer.header.free > writer.header.total - writer.header.end {
        return Err(Error::Corrupt(String::new()));
    }
    survey(writer.map, &writer.header, index, own, found)
}
