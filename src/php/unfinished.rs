//! Chunks `PREPARED`: what a process has left that was killed in a change. It is finished by the next change that will
//! not be refused, so it is computed first what the chain will be then. "Order of stores" in `docs/php.md`.

use crate::error::Result;
use crate::php::chain::{Chunk, Survey, find};
use crate::php::close_gaps::free_when_closed_as;
use crate::php::layout::{FREE, PREPARED, is_reserved};
use crate::php::room::full;
use crate::php::writer::Writer;

/// Private to the process: what becomes of the chunks `PREPARED` of a segment. There is at most one, unless several
/// processes changed the segment at a time: then the last one counts.
#[derive(Clone, Copy, Debug)]
pub struct Unfinished {
    /// Where the chunk is that will be published, and under which index. All others become gaps.
    published: Option<(u64, i64)>,
}

impl Unfinished {
    /// Looks at what a walk has found. Nothing is stored.
    #[cold]
    pub fn look(writer: &Writer<'_>, survey: &Survey) -> Result<Self> {
        let mut published = None;
        if let Some(chunk) = survey.prepared.filter(|chunk| chunk.own() <= chunk.next) {
            let index = writer.map.load(trailer(&chunk))?;
            if !is_reserved(index) && find(writer.map, &writer.header, index)?.is_none() {
                published = Some((chunk.at, index));
            }
        }
        Ok(Unfinished { published })
    }

    /// Returns `true` if a variable of this index will be there.
    pub fn publishes(self, index: i64) -> bool {
        self.published.is_some_and(|(_, published)| published == index)
    }

    /// The chunk as it will be.
    fn seen(self, mut chunk: Chunk) -> Chunk {
        if chunk.key == PREPARED {
            chunk.key = self.published.filter(|(at, _)| *at == chunk.at).map_or(FREE, |(_, index)| index);
        }
        chunk
    }

    /// Returns `true` if a chunk of `own` bytes for this index will fit: by one of the ways of `put` and `replace`.
    ///
    /// # Errors
    /// [`Error::Full`](crate::error::Error::Full) if it will not.
    #[cold]
    pub fn has_room(self, writer: &Writer<'_>, index: i64, own: u64) -> Result<bool> {
        let header = &writer.header;
        let mut fits = own <= header.free;
        let (mut old, mut old_needs) = (None, 0);
        let (mut at, mut slack_at) = (header.start, header.start);
        while at < header.end {
            let chunk = self.seen(Chunk::read(writer.map, at, header.end)?);
            if chunk.key == index {
                (old, old_needs) = (Some(at), chunk.needs());
                // The new chunk may take the place of the old one, and all slack beside it.
                fits |= own <= chunk.following() - slack_at;
            }
            fits |= own <= chunk.next - chunk.needs();
            slack_at = chunk.slack_at();
            at = chunk.following();
        }
        if fits {
            return Ok(true);
        }
        let free = free_when_closed_as(writer, old, |chunk| self.seen(chunk))?;
        if own <= free { Ok(true) } else { Err(full(index, own, free, old_needs, writer)) }
    }

    /// Gives the chunk `PREPARED` that counts its index, and makes the others gaps.
    #[cold]
    pub fn finish(self, writer: &Writer<'_>) -> Result<()> {
        let mut at = writer.header.start;
        while at < writer.header.end {
            let chunk = Chunk::read(writer.map, at, writer.header.end)?;
            let seen = self.seen(chunk);
            if seen.key != chunk.key {
                writer.map.store(at, seen.key)?;
                if seen.key != FREE {
                    writer.map.store(trailer(&chunk), 0)?;
                }
            }
            at = chunk.following();
        }
        Ok(())
    }
}

/// Where the index of a chunk `PREPARED` is.
fn trailer(chunk: &Chunk) -> u64 {
    chunk.at + chunk.own() - 8
}
