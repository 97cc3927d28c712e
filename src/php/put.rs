//! Storing a variable. "Order of stores" in `docs/php.md`.

use crate::error::{Error, Lack, Result};
use crate::os::sysv_shm::Mapping;
use crate::php::chain::{Found, Survey, survey};
use crate::php::close_gaps::{close_gaps, free_when_closed};
use crate::php::layout::{GAP, LENGTH, TEXT, own_size};
use crate::php::unfinished::writer;
use crate::php::writer::Writer;

/// How a handle stores: what it does with gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// It closes all gaps at once.
    Seldom,
    /// It replaces often. Gaps stay, and a variable gets a region of so many places.
    Often(u64),
}

/// Stores a variable. Returns `true` if it replaced one other than in place or in a gap.
///
/// With `quiet`, nobody reads without the lock.
///
/// # Errors
/// [`Error::Full`] and [`Error::Corrupt`]; nothing has changed then.
#[inline]
pub fn put(map: &Mapping, index: i64, text: &[u8], habit: Habit, quiet: bool) -> Result<bool> {
    if index == GAP {
        return Err(reserved());
    }
    let mut writer = writer(map)?;
    let survey = survey(map, &writer.header, index)?;
    let own = own_size(text.len() as u64);
    let Some(old) = survey.found else {
        add(&mut writer, index, text, own, survey.gaps)?;
        settle(&mut writer, habit)?;
        return Ok(false);
    };
    if quiet && text.len() as u64 == old.chunk.length && (1..=8).contains(&text.len()) {
        // CRASH: one store, and so the old value or the new one.
        map.copy_in(old.chunk.at + TEXT, text)?;
        return Ok(false);
    }
    if let Some(place) = gap_beside(&old, own) {
        // SYNC, CRASH: one store of the link publishes the new chunk and unlinks the old one.
        writer.write(place, index, text, old.chunk.following() - place)?;
        writer.link(old.link, place)?;
        if habit == Habit::Seldom {
            settle(&mut writer, habit)?;
        }
        return Ok(false);
    }
    replace(&mut writer, index, text, own, &old, &survey, habit)?;
    settle(&mut writer, habit)?;
    Ok(true)
}

/// Returns where a chunk of `own` bytes fits into the gap behind a chunk, or into the one before it.
#[inline(always)]
fn gap_beside(old: &Found, own: u64) -> Option<u64> {
    let behind = old.chunk.at + old.chunk.needs();
    if old.chunk.following() - behind >= own {
        Some(behind)
    } else if old.chunk.at - old.gap_at >= own {
        Some(old.gap_at)
    } else {
        None
    }
}

/// Stores a new variable.
fn add(writer: &mut Writer<'_>, index: i64, text: &[u8], own: u64, gaps: u64) -> Result<()> {
    if own > writer.header.free {
        let free = if gaps == 0 { writer.header.free } else { free_when_closed(writer.map, &writer.header, None)? };
        if own > free {
            return Err(full(index, own, free, writer.header.total));
        }
        close_gaps(writer)?;
    }
    writer.begin()?;
    writer.append(index, text, own)?;
    writer.finish()
}

/// Replaces a variable where no gap beside it fits.
fn replace(
    writer: &mut Writer<'_>,
    index: i64,
    text: &[u8],
    own: u64,
    old: &Found,
    survey: &Survey,
    habit: Habit,
) -> Result<()> {
    let chunk = &old.chunk;
    if own <= writer.header.free {
        let region = region(writer, own, survey.gaps, habit);
        writer.begin()?;
        let last = writer.header.end;
        writer.append(index, text, region)?;
        // CRASH: until here the index is in the chain twice, and the old value counts.
        let at_start_of_others = old.link.is_first() && !writer.header.owns_start();
        writer.unlink(old)?;
        if region == own && own == chunk.needs() && !at_start_of_others {
            writer.write(chunk.at, index, text, chunk.next)?;
            writer.link(old.link, chunk.at)?;
            // CRASH: until here the index is in the chain twice, with the new value.
            writer.header.lower_end(writer.map, last)?;
        }
        return writer.finish();
    }
    if own <= chunk.next {
        return replace_in_place(writer, index, text, chunk.at);
    }
    let free = free_when_closed(writer.map, &writer.header, Some(chunk.at))?;
    if own > free {
        return Err(full(index, own, free, writer.header.total));
    }
    writer.begin()?;
    writer.unlink(old)?;
    // CRASH: until it is appended, this variable is lost.
    close_gaps(writer)?;
    writer.begin()?;
    writer.append(index, text, own)?;
    writer.finish()
}

/// Replaces a variable by one that fits into its place, when there is no room for two.
fn replace_in_place(writer: &mut Writer<'_>, index: i64, text: &[u8], at: u64) -> Result<()> {
    writer.begin()?;
    writer.map.store(at, GAP)?;
    // CRASH: from here on until the index is stored again, this variable is lost.
    writer.map.copy_in(at + TEXT, text)?;
    writer.map.store(at + LENGTH, text.len() as i64)?;
    writer.map.store(at, index)?;
    writer.finish()
}

/// Returns the bytes that the new chunk of a variable takes: a region if the handle replaces often and there is plenty
/// of room, and else the chunk alone.
fn region(writer: &Writer<'_>, own: u64, gaps: u64, habit: Habit) -> u64 {
    let header = &writer.header;
    match habit {
        Habit::Often(places) => match own.checked_mul(places) {
            // The old place becomes a gap, too, of about the size of the new one.
            Some(bytes) if gaps.saturating_add(bytes) <= header.total / 8 && bytes <= header.free => {
                if header.free - bytes >= header.total / 2 { bytes } else { own }
            }
            _ => own,
        },
        Habit::Seldom => own,
    }
}

/// Closes gaps, unless they may stay.
pub fn settle(writer: &mut Writer<'_>, habit: Habit) -> Result<()> {
    let gaps = survey(writer.map, &writer.header, GAP)?.gaps;
    let header = &writer.header;
    let may_stay = matches!(habit, Habit::Often(_)) && gaps <= header.total / 8 && header.free >= header.total / 2;
    if gaps == 0 || may_stay { Ok(()) } else { close_gaps(writer) }
}

/// Returns the error for a text that does not fit.
#[cold]
pub fn full(index: i64, needed: u64, free: u64, total: u64) -> Error {
    Error::Full {
        needed,
        free,
        size: total,
        remedy: format!(
            "variable {index} was not stored: remove variables, or make a larger segment (PHP fixes the size when it is \
             created)"
        ),
        lack: Lack::Other,
    }
}

/// Returns the error for the index of gaps.
#[cold]
fn reserved() -> Error {
    Error::Invalid(format!("index {GAP} stands for a gap in a segment: take any other one"))
}
