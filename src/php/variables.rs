//! The variables of a segment: a list of them, and a private copy of all, which is made in one pass. "What is believed"
//! in `docs/php.md`.

use crate::error::Result;
use crate::fallible;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::{Chunk, each};
use crate::php::header::Header;
use crate::php::layout::{TEXT, is_reserved};
use crate::php::patience::pause;
use std::sync::atomic::{Ordering, fence};

/// How often all variables are copied before they are read one by one.
const COPIES: u32 = 10;
const LIST: &str = "a list of the variables of a segment of PHP's";

/// Returns the chunks of all variables in order, each index once.
pub fn variables(map: &Mapping) -> Result<Vec<Chunk>> {
    let header = Header::read(map)?;
    let mut all = Vec::new();
    each(map, &header, |chunk| fallible::push(&mut all, chunk, LIST))?;
    each_once(all)
}

/// Leaves the first chunk of each index. A process that is killed in a put may leave an index twice.
fn each_once(mut all: Vec<Chunk>) -> Result<Vec<Chunk>> {
    let mut sorted = fallible::collect(all.iter().map(|chunk| Ok((chunk.key, chunk.at))), LIST)?;
    sorted.sort_unstable();
    let again = sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| Ok(pair[1].1));
    let mut again = fallible::collect(again, LIST)?;
    again.sort_unstable();
    if !again.is_empty() {
        all.retain(|chunk| again.binary_search(&chunk.at).is_err());
    }
    Ok(all)
}

/// Private to the process: a copy of all variables, of one moment.
pub struct Snapshot {
    /// The bytes from the first chunk to the end of the last one.
    bytes: Vec<u8>,
    /// Where they begin in the segment.
    start: u64,
    chunks: Vec<Chunk>,
}

impl Snapshot {
    /// Copies all variables. Returns `None` if the segment changes all the time, or cannot be walked, or if there is no
    /// memory for the copy.
    pub fn take(map: &Mapping) -> Option<Self> {
        for number in 1..=COPIES {
            if let Ok(Some(snapshot)) = Self::look(map) {
                return Some(snapshot);
            }
            pause(number);
        }
        None
    }

    /// Copies all variables once. Returns `None` if something changed meanwhile.
    fn look(map: &Mapping) -> Result<Option<Self>> {
        let header = Header::read(map)?;
        let start = header.start;
        let bytes = map.copy_out(start, header.end - start, "a copy of the variables of a segment of PHP's")?;
        // SYNC: everything above is loaded before the comparisons. Equal bytes mean that nobody wrote here between the
        // two passes, or wrote the same again.
        fence(Ordering::Acquire);
        if Header::read(map)? != header || !map.still_is(start, &bytes)? {
            return Ok(None);
        }
        let (mut chunks, mut at) = (Vec::new(), start);
        while at < header.end {
            let numbers = bytes.get((at - start) as usize..).and_then(<[u8]>::first_chunk::<{ TEXT as usize }>);
            let chunk = Chunk::checked(at, numbers.map(numbers_of), header.end)?;
            if !is_reserved(chunk.key) {
                fallible::push(&mut chunks, chunk, LIST)?;
            }
            at = chunk.following();
        }
        Ok(Some(Snapshot { bytes, start, chunks: each_once(chunks)? }))
    }

    /// Returns index, text and the offset of the text of each variable, in the order of the chain.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &[u8], u64)> {
        self.chunks.iter().map(|chunk| {
            let offset = chunk.at + TEXT;
            let text = &self.bytes[(offset - self.start) as usize..][..chunk.length as usize];
            (chunk.key, text, offset)
        })
    }
}

/// Returns the three numbers of a chunk.
fn numbers_of(bytes: &[u8; TEXT as usize]) -> [i64; 3] {
    std::array::from_fn(|i| i64::from_le_bytes(std::array::from_fn(|byte| bytes[i * 8 + byte])))
}
