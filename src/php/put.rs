//! Storing a variable. "Order of stores" in `docs/php.md`.

use crate::error::{Error, Result};
use crate::os::sysv_shm::Mapping;
use crate::php::chain::Survey;
use crate::php::change::begin;
use crate::php::close_gaps::{close_gaps, free_when_closed};
use crate::php::header::Header;
use crate::php::layout::{is_reserved, own_size};
use crate::php::replace::replace;
use crate::php::room::{full, gaps_must_go};
use crate::php::writer::Writer;

/// Stores a variable. Returns `true` if it replaced one. `often` tells whether the handle replaces often.
///
/// # Errors
/// [`Error::Full`], [`Error::Corrupt`], [`Error::Incompatible`], [`Error::Invalid`]; nothing has changed then.
#[inline]
pub fn put(map: &Mapping, index: i64, text: &[u8], often: bool) -> Result<bool> {
    if is_reserved(index) {
        return Err(reserved(index));
    }
    let own = own_size(text.len() as u64);
    let mut survey = Survey::default();
    let mut writer = Writer { map, header: Header::default() };
    begin(&mut writer, index, own, &mut survey)?;
    if let Some(at) = survey.twice {
        return Err(twice(index, at));
    }
    let gaps = match &survey.found {
        Some(old) => replace(&mut writer, index, text, own, old, &survey, often)?,
        None => add(&mut writer, index, text, own, &survey)?,
    };
    if gaps_must_go(&writer, gaps) {
        close_gaps(&mut writer, false)?;
    }
    Ok(survey.found.is_some())
}

/// Stores a new variable. Returns the bytes of all gaps after that.
fn add(writer: &mut Writer<'_>, index: i64, text: &[u8], own: u64, survey: &Survey) -> Result<u64> {
    if let Some(gap) = &survey.fit {
        writer.write_into(gap, index, text, false)?;
        return Ok(survey.gaps - own);
    }
    let mut gaps = survey.gaps;
    if own > writer.header.free {
        let free = free_when_closed(writer, None)?;
        if own > free {
            return Err(full(index, own, free, 0, writer));
        }
        close_gaps(writer, true)?;
        gaps = 0;
    }
    writer.append(index, text, own, false)?;
    Ok(gaps)
}

/// Returns the error for an index that occurs twice.
#[cold]
fn twice(index: i64, at: u64) -> Error {
    Error::Corrupt(format!(
        "variable {index} occurs twice, the second time at offset {at} (a process was killed in a put): remove it, \
         which removes both, and store it again"
    ))
}

/// Returns the error for an index that no variable has.
#[cold]
fn reserved(index: i64) -> Error {
    Error::Invalid(format!(
        "index {index} is reserved: it marks room in a segment that is not in use; take any other one"
    ))
}
