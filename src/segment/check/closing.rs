//! The end of a check: sums, and what was met in the arena before anybody who names it. Where nothing has changed since the check
//! began, all of it is known. Else it is looked at again, a few times: for certain where nobody changes anything during such a
//! pass, as none does that takes one hold.

use super::named::doomed;
use super::slices::{Check, DOOMED_TURNS};
use super::table::Sums;
use super::{NAMED, hold};
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{DEPTH_MAX, GRANULE, LeafHead, SpanState};
use crate::os::object;
use crate::process::access::MappedAccess;
use crate::sync::intent::LeafCounts;
use crate::sync::slot::Seqlock;
use crate::variables::AsVariables;
use crate::variables::leaf::{Leaf, TableOf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Passes before what could not be told is reported so.
const PASSES: u32 = 4;
/// A sum that takes one hold takes no longer.
const ONE_HOLD: Duration = Duration::from_millis(10);

/// What a pass looks at next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// What was present, retired and counted, each in one hold.
    #[default]
    Sums,
    /// Suspects that are used no more.
    Begin,
    Slab(usize),
    Span(usize),
    Suspected(usize),
    Leaf(TableOf, u64),
    Doomed(u64, u32),
    End,
}

#[derive(Default)]
pub(super) struct Closing {
    at: At,
    passes: u32,
    /// Nobody has changed anything since this pass began.
    pub still: bool,
    sums: Sums,
    /// What was compared in one hold.
    retired: bool,
    counted: bool,
    /// Suspects, in the order of the list.
    slabs: Vec<u64>,
    spans: Vec<u64>,
    leaves: Vec<u64>,
}

impl Closing {
    /// Is a pass about to begin? It has a hold of its own, if it can do with one.
    pub fn begins(&self) -> bool {
        self.at == At::Begin
    }

    /// One step. True: all is done.
    pub fn unit(&mut self, check: &mut Check<'_>) -> Result<bool> {
        self.at = match self.at {
            At::Sums => {
                check.compare_present()?;
                if check.still {
                    check.compare_sums(&check.sums)?;
                    check.compare_retired(check.retired)?;
                    return Ok(true);
                }
                self.retired = check.retired_at_once()?;
                self.counted = check.counted_at_once()?;
                At::Begin
            }
            At::Begin => {
                (self.still, self.sums) = (true, Sums::default());
                (self.slabs, self.spans, self.leaves) =
                    (list(check.suspects.blocks.keys())?, list(&check.suspects.spans)?, list(&check.suspects.leaves)?);
                At::Slab(0)
            }
            At::Slab(number) => match self.slabs.get(number) {
                Some(granule) => {
                    check.still_used(*granule)?;
                    At::Slab(number + 1)
                }
                None => At::Span(0),
            },
            At::Span(number) => match self.spans.get(number) {
                Some(granule) => {
                    if check.state_at(*granule) != SpanState::Live {
                        check.suspects.spans.remove(granule);
                    }
                    At::Span(number + 1)
                }
                None => At::Suspected(0),
            },
            At::Suspected(number) => match self.leaves.get(number) {
                Some(granule) => {
                    if check.state_at(*granule) != SpanState::Leaf {
                        check.suspects.leaves.remove(granule);
                    }
                    At::Suspected(number + 1)
                }
                None => At::Leaf(TableOf::Variables, 0),
            },
            At::Leaf(of, hash) => match (check.pass_leaf(of, hash, &mut self.sums)?, of) {
                (Some(hash), _) => At::Leaf(of, hash),
                (None, TableOf::Variables) => At::Leaf(TableOf::Names, 0),
                (None, TableOf::Names) => At::Doomed(0, 0),
            },
            At::Doomed(number, turns) => match check.pass_doomed(number, turns)? {
                Some((number, turns)) => At::Doomed(number, turns),
                None => At::End,
            },
            At::End => {
                self.passes += 1;
                if self.still {
                    check.compare_sums(&self.sums)?;
                    check.suspects.accuse(check.att)?;
                } else if self.passes < PASSES {
                    self.at = At::Begin;
                    return Ok(false);
                } else {
                    // `used` and `expiring`, and `count` where it took too long by itself.
                    check.report.undecided = 2 + u64::from(!self.counted) + check.suspects.count();
                }
                check.report.undecided += u64::from(!self.retired);
                return Ok(true);
            }
        };
        Ok(false)
    }
}

fn list<'a>(granules: impl IntoIterator<Item = &'a u64>) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for granule in granules {
        fallible::push(&mut all, *granule, NAMED)?;
    }
    Ok(all)
}

impl Check<'_> {
    /// The pages that are said to be present, all in one hold, against what the object takes.
    fn compare_present(&mut self) -> Result<()> {
        let arena = self.att.arena();
        let mut pages = 0;
        for zone in 0..arena.zones() {
            let present = &arena.zone(zone)?.present;
            pages += present.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum::<u64>();
        }
        let status = self.att.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
        let (present, resident) = (pages * GRANULE, status.resident);
        hold!(
            present <= resident,
            12,
            "{present} bytes of the arena are said to be present, the object takes {resident}"
        );
        Ok(())
    }

    /// What is retired. False: that takes longer than a hold.
    fn retired_at_once(&self) -> Result<bool> {
        let (began, mut retired) = (Instant::now(), 0);
        for (number, span) in self.att.arena().spans().enumerate() {
            let (_, entry) = span?;
            retired += if entry.state() == SpanState::Retired { entry.len() } else { 0 };
            if number % 1_024 == 0 && began.elapsed() > ONE_HOLD {
                return Ok(false);
            }
        }
        self.compare_retired(retired).map(|()| true)
    }

    /// How many variables the leaves count. False: that takes longer than a hold.
    fn counted_at_once(&self) -> Result<bool> {
        let (began, mut counted, mut hash) = (Instant::now(), 0, Some(0));
        while let Some(from) = hash {
            let leaf = self.leaf_in_force(TableOf::Variables, from)?;
            let counts = self.att.mem.at::<LeafHead>(leaf.base)?.counts.load(Ordering::Relaxed);
            counted += LeafCounts::unpack(counts).entries;
            hash = leaf.end(from);
            if began.elapsed() > ONE_HOLD {
                return Ok(false);
            }
        }
        let count = self.att.state().count.load(Ordering::Relaxed);
        hold!(counted == count, 1, "count is {count}, there are {counted} variables");
        Ok(true)
    }

    fn leaf_in_force(&self, of: TableOf, hash: u64) -> Result<Leaf> {
        let leaf = self.att.variables().leaf_of(hash, of)?;
        let sound = self.att.variables().leaf_is_sound(&leaf, MappedAccess)?;
        hold!(sound, 3, "a word of a directory names {:#x} as a leaf", leaf.word.0);
        Ok(leaf)
    }

    fn state_at(&self, granule: u64) -> SpanState {
        self.att.arena().entry(granule).map_or(SpanState::None, |entry| entry.state())
    }

    /// Of the suspects of a slab, only those that are used still.
    fn still_used(&mut self, granule: u64) -> Result<()> {
        let slab = self.state_at(granule) == SpanState::Slab;
        let used = if slab { self.att.arena().used_words(granule)? } else { [0; 8] };
        if let Some(bits) = self.suspects.blocks.get_mut(&granule) {
            bits.iter_mut().zip(used).for_each(|(bits, used)| *bits &= used);
            if *bits == [0; 8] {
                self.suspects.blocks.remove(&granule);
            }
        }
        Ok(())
    }

    /// One leaf: what it holds, and whom it clears. The next hash.
    fn pass_leaf(&mut self, of: TableOf, hash: u64, sums: &mut Sums) -> Result<Option<u64>> {
        let leaf = self.leaf_in_force(of, hash)?;
        self.pass_slots(&leaf, 1, of == TableOf::Variables, sums)?;
        Ok(leaf.end(hash))
    }

    fn pass_slots(&mut self, leaf: &Leaf, first: u64, counted: bool, sums: &mut Sums) -> Result<()> {
        let suspects = &mut self.suspects;
        suspects.leaves.remove(&leaf.word.granule());
        let look = !suspects.blocks.is_empty() || !suspects.spans.is_empty();
        for slot in self.att.mem.slots(leaf.base, leaf.slots + 1)?.iter().skip(first as usize) {
            let content = crate::sync::slot::Content { word: 0, rest: slot.rest() };
            if !content.is_entry() {
                continue;
            }
            if counted {
                sums.add(&content);
            }
            if look {
                suspects.seen(content.kind(), content.granule(), content.block());
            }
        }
        Ok(())
    }

    /// The same of a leaf of the doomed table.
    fn pass_doomed(&mut self, number: u64, turns: u32) -> Result<Option<(u64, u32)>> {
        let (root, at) = doomed(self.att);
        if root.0 == 0 || turns > DOOMED_TURNS {
            return Ok(None);
        }
        if std::mem::replace(&mut self.doomed, root.0) != root.0 {
            return Ok(Some((0, turns + 1)));
        }
        let number = number.max(at >> 32);
        if root.depth() > DEPTH_MAX || number >= 1 << root.depth() {
            return Ok(None);
        }
        let leaf = self.att.variables().leaf_of_word(root, number)?;
        let sound = leaf.filter(|leaf| self.att.variables().leaf_is_sound(leaf, MappedAccess).unwrap_or(false));
        let Some(leaf) = sound else {
            hold!(false, 3, "word {number} of the doomed directory names no leaf");
            return Ok(None);
        };
        let first = if number == at >> 32 { (at & u64::from(u32::MAX)).max(1) } else { 1 };
        self.pass_slots(&leaf, first, false, &mut Sums::default())?;
        let (first, count) = leaf.words(self.att.variables().directory_at(root));
        Ok(Some((first + count, turns)))
    }
}
