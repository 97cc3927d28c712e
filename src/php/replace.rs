//! Replacing a variable: where the new chunk goes. "Replacing" and "No room for two" in `docs/php.md`.

use crate::error::Result;
use crate::php::chain::{Found, Gap, Survey};
use crate::php::close_gaps::{close_gaps, free_when_closed};
use crate::php::room::{full, gaps_max, gaps_must_go};
use crate::php::writer::Writer;

/// Slack behind the new chunk of a variable that is replaced often, in chunks of its size.
const MORE_PLACES: u64 = 7;

/// Replaces a variable by a chunk of `own` bytes. Returns the bytes of all gaps after that.
#[inline]
pub fn replace(
    writer: &mut Writer<'_>,
    index: i64,
    text: &[u8],
    own: u64,
    old: &Found,
    survey: &Survey,
    often: bool,
) -> Result<u64> {
    let gaps_with_old = survey.gaps + old.chunk.needs();
    let slack = if often { slack(writer, own, old, gaps_with_old) } else { 0 };
    if slack > 0 {
        let at = writer.header.end;
        writer.append(index, text, own + slack, true)?;
        writer.exchange(old, at, index, own)?;
        return Ok(gaps_with_old + slack);
    }
    if let Some(gap) = beside(old, own) {
        // SYNC, CRASH: the store of the link publishes the new chunk and unlinks the old one.
        writer.write_into(&gap, index, text, false)?;
        return Ok(gaps_with_old - own);
    }
    replace_elsewhere(writer, index, text, own, old, survey)
}

/// Replaces a variable where no slack beside it fits.
fn replace_elsewhere(
    writer: &mut Writer<'_>,
    index: i64,
    text: &[u8],
    own: u64,
    old: &Found,
    survey: &Survey,
) -> Result<u64> {
    let gaps_with_old = survey.gaps + old.chunk.needs();
    let (last, fits_at_end) = (writer.header.end, own <= writer.header.free);
    match old.before {
        Some(before) if old.chunk.following() == last && fits_at_end => {
            writer.append_free(own)?;
            writer.lead(old.chunk.at, writer.header.end)?;
            let gap = Gap { of: before, place: old.chunk.slack_at(), following: writer.header.end };
            writer.write_into(&gap, index, text, false)?;
            return Ok(gaps_with_old);
        }
        _ => {}
    }
    if let Some(gap) = &survey.fit {
        writer.write_into(gap, index, text, true)?;
        writer.exchange(old, gap.place, index, own)?;
        return Ok(gaps_with_old - own);
    }
    if fits_at_end {
        writer.append(index, text, own, true)?;
        writer.exchange(old, last, index, own)?;
        if old.chunk.next == own && gaps_must_go(writer, gaps_with_old) {
            move_back(writer, index, text, own, old, last)?;
            return Ok(survey.gaps);
        }
        return Ok(gaps_with_old);
    }
    replace_alone(writer, index, text, own, old, survey)
}

/// Moves the new chunk, which is the last, to the old one's place, which it fills: all other chunks stay.
fn move_back(writer: &mut Writer<'_>, index: i64, text: &[u8], own: u64, old: &Found, last: u64) -> Result<()> {
    let place = old.chunk.at;
    let gap = Gap { of: old.before.unwrap_or(place), place, following: old.chunk.following() };
    writer.write_into(&gap, index, text, true)?;
    // CRASH: the index is missing until the key is stored.
    writer.cut_off_for(last, place, index)?;
    writer.clear_trailer(place, own)
}

/// Replaces a variable when there is no room for both values.
fn replace_alone(
    writer: &mut Writer<'_>,
    index: i64,
    text: &[u8],
    own: u64,
    old: &Found,
    survey: &Survey,
) -> Result<u64> {
    let chunk = &old.chunk;
    let of = old.before.unwrap_or(chunk.at);
    let place = if old.before.is_some() { old.slack_at } else { chunk.at };
    let gap = Gap { of, place, following: chunk.following() };
    if own <= gap.following - place {
        writer.unlink(old)?;
        // CRASH: from here on until the new chunk is published, this variable is lost.
        writer.write_into(&gap, index, text, false)?;
        return Ok(survey.gaps + chunk.needs() - own);
    }
    let free = free_when_closed(writer, Some(chunk.at))?;
    if own > free {
        return Err(full(index, own, free, old.chunk.needs(), writer));
    }
    writer.unlink(old)?;
    // CRASH: from here on until the new chunk is published, this variable is lost.
    writer.empty(old)?;
    close_gaps(writer, true)?;
    writer.append(index, text, own, false)?;
    Ok(0)
}

/// Returns where a chunk of `own` bytes fits into the slack behind a chunk, or into the slack before it.
#[inline(always)]
fn beside(old: &Found, own: u64) -> Option<Gap> {
    let of = old.before?;
    let (behind, following) = (old.chunk.slack_at(), old.chunk.following());
    if following - behind >= own {
        Some(Gap { of, place: behind, following })
    } else if old.chunk.at - old.slack_at >= own {
        Some(Gap { of, place: old.slack_at, following })
    } else {
        None
    }
}

/// Returns how much slack the new chunk of a variable gets that is replaced often. 0 if there is slack beside the old
/// one already, or too little room in the segment.
#[inline(always)]
fn slack(writer: &Writer<'_>, own: u64, old: &Found, gaps: u64) -> u64 {
    let header = &writer.header;
    let wanted = own.saturating_mul(MORE_PLACES);
    let behind = old.chunk.following() - old.chunk.slack_at();
    let has = behind + if old.before.is_some() { old.chunk.at - old.slack_at } else { 0 };
    let allowed = gaps_max(writer).saturating_sub(gaps).min(header.free.saturating_sub(header.total / 2 + own));
    if has >= wanted || allowed < own || old.before.is_some() && allowed <= has.saturating_mul(2) {
        return 0;
    }
    if allowed >= wanted { wanted } else { allowed / own * own }
}
