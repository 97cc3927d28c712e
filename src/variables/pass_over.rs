//! The inner loop of a search: passing over slots that cannot be what is looked for.

use crate::error::Result;
use crate::format::slot_flags::{LOCK, TEXT};
use crate::process::access::{Access, MappedAccess, PreadAccess};
use crate::sync::slot::BUSY;
use crate::sync::slot::Seqlock;
use crate::variables::Variables;
use crate::variables::leaf::Leaf;
use std::sync::atomic::Ordering;

/// Loads of the slots of a leaf.
pub trait PassOver: Access {
    /// Passes over slots that cannot be what is looked for, from this one on, at most so many: the one to look at, and how many
    /// are left with it. `first` and `flags`: the slot's second word, and the bits for text and names of its third.
    fn pass_over(self, att: &Variables, leaf: &Leaf, at: (u64, u64), first: u64, flags: u64) -> Result<(u64, u64)>;
}

impl PassOver for MappedAccess {
    #[inline(always)]
    fn pass_over(self, att: &Variables, leaf: &Leaf, at: (u64, u64), first: u64, flags: u64) -> Result<(u64, u64)> {
        let (mut number, mut left) = at;
        let slots = att.mem.slots(leaf.base, leaf.slots + 1)?;
        while left > 0 {
            let Some(slot) = slots.get(number as usize) else { break };
            let word = slot.begin();
            let ours = slot.rest[0].load(Ordering::Relaxed) == first
                && slot.rest[1].load(Ordering::Relaxed) & (TEXT | LOCK) == flags;
            if word == 0 || word & BUSY == 1 || ours {
                break;
            }
            number = leaf.after(number);
            left -= 1;
        }
        Ok((number, left))
    }
}

impl PassOver for PreadAccess<'_> {
    fn pass_over(self, _: &Variables, _: &Leaf, at: (u64, u64), _: u64, _: u64) -> Result<(u64, u64)> {
        Ok(at)
    }
}
