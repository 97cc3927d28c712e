//! Where every change begins: reading the header, and finishing what a process has left that was killed in a change.
//! "Unfinished changes" in `docs/php.md`.

use crate::error::Result;
use crate::fallible;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::{Chunk, Found, Link, each};
use crate::php::header::Header;
use crate::php::layout::{FREE, FREE_IS_REST, GAP, UNFINISHED};
use crate::php::writer::Writer;

/// Begins a call that changes something.
#[inline(always)]
pub fn writer(map: &Mapping) -> Result<Writer<'_>> {
    let header = Header::read(map)?;
    let mut writer = Writer { map, header };
    if header.marks & UNFINISHED != 0 {
        finish_change(&mut writer)?;
    }
    Ok(writer)
}

/// Finishes the change of a process that was killed in it. Of an index that is in the chain twice, the last chunk is the
/// newer one.
#[cold]
fn finish_change(writer: &mut Writer<'_>) -> Result<()> {
    let mut all = Vec::new();
    each(writer.map, &writer.header, |chunk| {
        fallible::push(&mut all, (chunk.key, chunk.at), "the indexes of a segment of PHP's")
    })?;
    all.sort_unstable();
    let older = all.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].1);
    let mut older = fallible::collect(older.map(Ok), "the indexes that occur twice")?;
    older.sort_unstable();
    // From the last to the first, so that no link changes that is still needed.
    for at in older.into_iter().rev() {
        let found = with_link(writer, at)?;
        if let Some(found) = found {
            writer.unlink(&found)?;
        }
    }
    let header = &mut writer.header;
    let rest = header.total - header.end;
    if header.marks & FREE_IS_REST != 0 && header.free != rest {
        header.free = rest;
        writer.map.store(FREE, rest as i64)?;
    }
    writer.finish()
}

/// Returns the chunk that begins here, with its link.
fn with_link(writer: &Writer<'_>, at: u64) -> Result<Option<Found>> {
    let (mut now, mut link) = (writer.header.start, Link::FIRST);
    while now < writer.header.end {
        let chunk = Chunk::read(writer.map, now, writer.header.end)?;
        if now == at && chunk.key != GAP {
            return Ok(Some(Found { chunk, link, gap_at: now }));
        }
        link = Link::behind(now);
        now = chunk.following();
    }
    Ok(None)
}
