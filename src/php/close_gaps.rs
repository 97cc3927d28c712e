//! Closing gaps: every chunk is moved down as far as it goes, and what is left at the end is given back. "Closing gaps"
//! in `docs/php.md`.

use crate::error::Result;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::{Chunk, Link};
use crate::php::header::Header;
use crate::php::layout::{GAP, HEADER, LENGTH, TEXT};
use crate::php::writer::Writer;

/// The ways in which a chunk comes to a lower place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Move {
    /// It is there, or cannot be moved.
    None,
    /// Copied, because the places do not overlap.
    Copy,
    /// Copied to `end` and from there.
    Twice,
    /// Its numbers are written first, with an empty text.
    Emptied,
}

/// Chooses how a chunk is moved down to `to`, if `free` bytes are free behind `end`.
fn way(chunk: &Chunk, to: u64, free: u64) -> Move {
    let (needs, gap) = (chunk.needs(), chunk.at - to);
    if gap == 0 {
        Move::None
    } else if needs <= gap {
        Move::Copy
    } else if needs <= free {
        Move::Twice
    } else if gap >= TEXT {
        Move::Emptied
    } else {
        Move::None
    }
}

/// Closes the gaps.
pub fn close_gaps(writer: &mut Writer<'_>) -> Result<()> {
    writer.begin()?;
    let (mut link, mut to, mut at) = (Link::FIRST, writer.header.base(), writer.header.start);
    while at < writer.header.end {
        let chunk = Chunk::read(writer.map, at, writer.header.end)?;
        let following = chunk.following();
        if chunk.key == GAP {
            if following == writer.header.end {
                writer.header.lower_end(writer.map, at)?;
            } else if link.is_first() && !writer.header.owns_start() {
                (link, to) = (Link::behind(at), at + TEXT);
            } else {
                writer.link(link, following)?;
            }
            at = following;
            continue;
        }
        let place = match way(&chunk, to, writer.header.free) {
            Move::None => at,
            Move::Copy => {
                writer.copy_chunk(&chunk, to, following)?;
                writer.link(link, to)?;
                to
            }
            Move::Twice => {
                move_twice(writer, &chunk, link, to)?;
                to
            }
            Move::Emptied => {
                move_emptied(writer, &chunk, link, to)?;
                to
            }
        };
        (link, to, at) = (Link::behind(place), place + chunk.needs(), following);
    }
    writer.cut_tail(link, to)?;
    writer.finish()
}

/// Moves a chunk to `end`, and from there to its new place, which overlaps the old one.
fn move_twice(writer: &mut Writer<'_>, chunk: &Chunk, link: Link, to: u64) -> Result<()> {
    let (last, following) = (writer.header.end, chunk.following());
    let copy = Chunk { at: last, next: chunk.needs(), ..*chunk };
    writer.copy_chunk(chunk, last, copy.following())?;
    writer.header.raise_end(writer.map, copy.next)?;
    // CRASH: until here the index is in the chain twice, with the same text.
    writer.link(link, following)?;
    writer.copy_chunk(&copy, to, following)?;
    writer.link(link, to)?;
    // CRASH: until here it is so again.
    writer.header.lower_end(writer.map, last)
}

/// Moves a chunk to a place that overlaps the old one, when there is no room for a second copy.
fn move_emptied(writer: &mut Writer<'_>, chunk: &Chunk, link: Link, to: u64) -> Result<()> {
    writer.write_numbers(to, chunk.key, 0, chunk.following() - to)?;
    writer.link(link, to)?;
    // CRASH: until the length is stored, the variable has an empty text, which no reader takes for a value.
    writer.map.copy(chunk.at + TEXT, to + TEXT, chunk.needs() - TEXT)?;
    writer.map.store(to + LENGTH, chunk.length as i64)
}

/// Returns how many bytes would be free if the chunk at `without` were removed and the gaps closed.
pub fn free_when_closed(map: &Mapping, header: &Header, without: Option<u64>) -> Result<u64> {
    let (mut free, mut end) = (header.free, header.end);
    let (mut to, mut at, mut first) = (header.base(), header.start, true);
    while at < end {
        let chunk = Chunk::read(map, at, end)?;
        if chunk.key == GAP || without == Some(at) {
            if chunk.following() == end {
                free += end - at;
                end = at;
            } else if first && !header.owns_start() {
                to = at + TEXT;
            }
        } else {
            to = if way(&chunk, to, free) == Move::None { at } else { to } + chunk.needs();
        }
        first = false;
        at = chunk.following();
    }
    debug_assert!(to >= HEADER && to <= end);
    Ok(if end - to >= TEXT { free + (end - to) } else { free })
}
