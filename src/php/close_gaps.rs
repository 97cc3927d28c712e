//! Closing gaps: every chunk is moved down as far as it goes, and what is left at the end is given back. "Closing gaps"
//! in `docs/php.md`.

use crate::error::Result;
use crate::php::chain::{Chunk, Found};
use crate::php::layout::{FREE, LENGTH, PREPARED, SMALLEST, TEXT, is_reserved};
use crate::php::run::{Lengths, Run};
use crate::php::writer::Writer;

/// Where the next chunk would be if there were no gap before it.
#[derive(Clone, Copy)]
struct Target {
    /// The chunk before. It is the first one and `FREE` if it is the target itself.
    of: u64,
    /// Where the gap begins.
    to: u64,
}

impl Target {
    /// The next chunk takes the place of the first chunk, which is `FREE`.
    fn is_first(self) -> bool {
        self.of == self.to
    }
}

/// Closes the gaps. With `complete`, also where that takes a store that a kill makes a loss.
pub fn close_gaps(writer: &mut Writer<'_>, complete: bool) -> Result<()> {
    let start = writer.header.start;
    let mut target = Target { of: start, to: start };
    let (mut at, mut run) = (start, Run::default());
    while at < writer.header.end {
        let chunk = Chunk::read(writer.map, at, writer.header.end)?;
        at = chunk.following();
        if chunk.key == FREE {
            if chunk.at == start {
                continue;
            } else if at == writer.header.end {
                writer.header.lower_end(writer.map, chunk.at)?;
            } else {
                writer.lead(target.of, at)?;
            }
        } else if chunk.at == start {
            target.to = chunk.slack_at();
        } else if let Some(place) = move_down(writer, &chunk, target, complete)? {
            let needs = if place == chunk.at { chunk.needs() } else { chunk.own() };
            target = Target { of: place, to: place + needs };
        }
        if run.goes_on(chunk.next) && target.to == at {
            // There is no gap here, so chunks that leave none stay.
            let lengths = Lengths::without_slack(chunk.next);
            let behind = run.end(writer.map, at, writer.header.end, &lengths, is_reserved)?;
            if behind > at {
                target = Target { of: behind - chunk.next, to: behind };
                at = behind;
            }
        }
    }
    give_back(writer, target)
}

/// Moves a chunk to the target, or to `end`, or not at all. Returns where it is after that; `None` stands for `end`.
fn move_down(writer: &mut Writer<'_>, chunk: &Chunk, target: Target, complete: bool) -> Result<Option<u64>> {
    let Target { of, to } = target;
    let (gap, own, following) = (chunk.at - to, chunk.own(), chunk.following());
    let found = Found { chunk: *chunk, before: Some(of), slack_at: to };
    if gap == 0 {
        return Ok(Some(chunk.at));
    }
    if own <= gap {
        if target.is_first() {
            writer.copy_chunk(chunk, to, PREPARED, gap)?;
            writer.exchange(&found, to, chunk.key, own)?;
        } else {
            // SYNC, CRASH: the store of the link publishes the copy and unlinks the chunk.
            writer.copy_chunk(chunk, to, chunk.key, following - to)?;
            writer.lead(of, to)?;
        }
        return Ok(Some(to));
    }
    if own <= writer.header.free {
        let last = writer.header.end;
        writer.copy_chunk(chunk, last, PREPARED, own)?;
        writer.header.raise_end(writer.map, own)?;
        writer.exchange(&found, last, chunk.key, own)?;
        return Ok(None);
    }
    if complete && gap >= TEXT {
        move_over_itself(writer, chunk, target)?;
        return Ok(Some(to));
    }
    Ok(Some(chunk.at))
}

/// Moves a chunk to a target that overlaps it, when there is no room for a second copy.
fn move_over_itself(writer: &Writer<'_>, chunk: &Chunk, target: Target) -> Result<()> {
    let Target { of, to } = target;
    let following = chunk.following();
    if target.is_first() {
        writer.map.store(to + LENGTH, 0)?;
        writer.lead(to, following)?;
        // CRASH: between these two stores, the variable is lost.
        writer.map.store(to, chunk.key)?;
    } else {
        writer.write_empty(to, chunk.key, following - to)?;
        writer.lead(of, to)?;
    }
    // CRASH: until the length is stored, the variable has an empty text, which no reader takes for a value.
    writer.map.copy(chunk.at + TEXT, to + TEXT, chunk.length)?;
    writer.clear_trailer(to, chunk.own())?;
    writer.map.store(to + LENGTH, chunk.length as i64)
}

/// Gives back what is behind the last chunk, if it is enough for a chunk.
fn give_back(writer: &mut Writer<'_>, target: Target) -> Result<()> {
    let gap = writer.header.end - target.to;
    if gap > 0 && target.is_first() {
        let start = target.to;
        return writer.header.lower_end(writer.map, start);
    }
    if gap < SMALLEST {
        return Ok(());
    }
    writer.write_empty(target.to, FREE, gap)?;
    writer.lead(target.of, target.to)?;
    writer.header.lower_end(writer.map, target.to)
}

/// Returns how many bytes would be free, at least, if the chunk at `without` were removed and the gaps closed
/// completely.
pub fn free_when_closed(writer: &Writer<'_>, without: Option<u64>) -> Result<u64> {
    free_when_closed_as(writer, without, |chunk| chunk)
}

/// The same, where chunks count as what `seen` makes of them.
pub fn free_when_closed_as(writer: &Writer<'_>, without: Option<u64>, seen: impl Fn(Chunk) -> Chunk) -> Result<u64> {
    let header = &writer.header;
    let (mut to, mut at, mut moves) = (header.start, header.start, false);
    while at < header.end {
        let chunk = seen(Chunk::read(writer.map, at, header.end)?);
        if chunk.key != FREE && without != Some(at) {
            let gap = at - to;
            // Once a chunk can be moved, the gap is large enough for all behind it, or has room for three numbers.
            moves |= gap >= TEXT || gap > 0 && chunk.own() <= header.free;
            to = if moves { to + chunk.own() } else { at + chunk.needs() };
        }
        at = chunk.following();
    }
    let gap = header.end.saturating_sub(to);
    Ok(if gap >= SMALLEST || to == header.start { header.free + gap } else { header.free })
}
