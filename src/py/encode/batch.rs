//! The items of a large batch. Short values are copied into the entries of the batch, and the objects behind them are let go
//! at once; values that are long, or have buffers, are kept until they are stored.

use super::encoded::{Encoded, EncodedParts};
use crate::error::Result;
use crate::fallible;
use crate::format::RECORD_MAX;
use crate::key::Index;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::Variables;
use crate::variables::batch_entries::BatchEntries;
use crate::variables::stored::{Layout, Stored};

/// The name of the values in the error for a lack of memory.
const VALUES: &str = "the values of a batch";

/// Private to the process: indexes and values of a batch, as they are stored.
pub struct EncodedBatch<'a, 'py> {
    entries: BatchEntries,
    /// The values that have spans of their own.
    apart: Vec<Encoded<'a, 'py>>,
    expiry: Option<u64>,
}

impl<'a, 'py> EncodedBatch<'a, 'py> {
    /// Begins a batch of so many items, in the segment with this hash key.
    pub fn new(hash_key: [u64; 2], len: usize, expiry: Option<u64>) -> Result<Self> {
        Ok(EncodedBatch { entries: BatchEntries::new(hash_key, len)?, apart: Vec::new(), expiry })
    }

    /// Appends an item.
    #[inline(always)]
    pub fn push(&mut self, index: &Index<'_>, encoded: Encoded<'a, 'py>) -> Result<()> {
        let parts = encoded.whole_parts();
        let len = parts.as_slice().iter().map(|part| part.len()).sum::<usize>();
        if encoded.is_whole() && len <= RECORD_MAX as usize {
            let stored = Stored { parts: parts.as_slice(), layout: Layout::Pickle, expiry: self.expiry };
            if self.entries.push(index, stored)? {
                return Ok(());
            }
        } else {
            let parts = encoded.parts()?;
            let (parts, has_buffers) = parts.slices()?;
            let len = parts.iter().map(|part| part.len() as u64).sum();
            self.entries.push_apart(index, stored(&[], has_buffers, self.expiry), len)?;
        }
        fallible::push(&mut self.apart, encoded, VALUES)
    }

    /// Stores the items at one instant, or none of them.
    pub fn put(self, variables: &Variables, policy: &dyn WaitPolicy) -> Result<()> {
        let parts = fallible::collect(self.apart.iter().map(Encoded::parts), VALUES)?;
        let parts = fallible::collect(parts.iter().map(EncodedParts::slices), VALUES)?;
        let apart = parts.iter().map(|(parts, has_buffers)| Ok(stored(parts, *has_buffers, self.expiry)));
        variables.put_entries(self.entries, &fallible::collect(apart, VALUES)?, policy)
    }
}

/// Returns a value that has a span of its own.
fn stored<'a>(parts: &'a [&'a [u8]], has_buffers: bool, expiry: Option<u64>) -> Stored<'a> {
    Stored { parts, layout: if has_buffers { Layout::Buffers } else { Layout::Pickle }, expiry }
}
