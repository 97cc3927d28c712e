//! The inner loop of a reader's search: passing over slots that cannot be the one that is wanted.
//!
//! It only saves time. Whether a slot is the one is decided by `lookup.rs`.

use crate::error::Result;
use crate::process::access::{Access, MappedAccess, PreadAccess};
use crate::sync::slot::BUSY;
use crate::sync::slot::Seqlock;
use crate::variables::Variables;
use crate::variables::leaf::Leaf;
use std::sync::atomic::Ordering;

/// A way to load slots of a leaf that can pass over several of them in one go.
pub trait PassOver: Access {
    /// Passes over slots that cannot hold a name. Begins at slot `at.0` and looks at `at.1` slots at most. Returns the
    /// slot to look at closely, and how many are left, that one included.
    ///
    /// `first` is what the second word of the name's slot would be, `flags` some bits of its third: which, and their
    /// values.
    fn pass_over(
        self,
        att: &Variables,
        leaf: &Leaf,
        at: (u64, u64),
        first: u64,
        flags: (u64, u64),
    ) -> Result<(u64, u64)>;
}

impl PassOver for MappedAccess {
    #[inline(always)]
    fn pass_over(
        self,
        att: &Variables,
        leaf: &Leaf,
        at: (u64, u64),
        first: u64,
        (mask, flags): (u64, u64),
    ) -> Result<(u64, u64)> {
        let (mut number, mut left) = at;
        let slots = att.mem.slots(leaf.base, leaf.slots + 1)?;
        while left > 0 {
            let Some(slot) = slots.get(number as usize) else { break };
            let word = slot.begin();
            let matches =
                slot.rest[0].load(Ordering::Relaxed) == first && slot.rest[1].load(Ordering::Relaxed) & mask == flags;
            if word == 0 || word & BUSY == 1 || matches {
                break;
            }
            number = leaf.after(number);
            left -= 1;
        }
        Ok((number, left))
    }
}

impl PassOver for PreadAccess<'_> {
    fn pass_over(self, _: &Variables, _: &Leaf, at: (u64, u64), _: u64, _: (u64, u64)) -> Result<(u64, u64)> {
        Ok(at)
    }
}
