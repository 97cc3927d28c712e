//! The last steps of a check: sums, and suspects (what is in use in the arena and was named by no table). If nothing
//! has changed since the check began, the first walk has settled both already. Otherwise a *pass* looks at all leaves
//! again; its result is certain if nobody changed anything during the pass, and nobody can if it ends within one hold.
//! After a few passes the rest is reported as undecided. Protocol: docs/protocol.md, "Check", *Used and named by
//! nobody* and *Sums*.

use super::checker::Checker;
use super::invariant::{LISTS, ensure};
use super::leaf_id::{DOOMED_RESTARTS, doomed, first_remaining_slot};
use super::queues::queue_state;
use super::sums::VariableSums;
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

/// After this many passes, what could not be decided is reported as undecided.
const PASSES: u32 = 4;
/// A sum that must be made within one hold is given up after this long.
const ONE_HOLD: Duration = Duration::from_millis(10);

/// What the closing looks at next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ClosingStep {
    /// The sums that can be compared within one hold each: pages present, granules retired, variables counted.
    #[default]
    Sums,
    /// A pass begins: it lists the suspects.
    Begin,
    /// Suspect blocks of the slab of this number in the list: are they still in use?
    Slab(usize),
    /// The same of a span.
    Span(usize),
    /// The same of a leaf.
    SuspectLeaf(usize),
    /// The leaf of a table that serves this hash: which suspects does it name?
    Leaf(TableOf, u64),
    /// The same of a word of the doomed directory; and how often the walk over the doomed table has begun again.
    Doomed(u64, u32),
    /// The pass ends.
    End,
}

/// The suspects when a pass began, in the order in which it looks at them.
#[derive(Default)]
struct SuspectList {
    slabs: Vec<u64>,
    spans: Vec<u64>,
    leaves: Vec<u64>,
}

/// How far the closing has come.
#[derive(Default)]
pub(super) struct Closing {
    next: ClosingStep,
    /// Passes that have ended.
    passes: u32,
    /// Nobody has changed anything since this pass began.
    pub unchanged: bool,
    /// What this pass has added up.
    sums: VariableSums,
    /// `retired` was compared within one hold.
    retired_compared: bool,
    /// `count` was compared within one hold.
    count_compared: bool,
    suspects: SuspectList,
}

impl Closing {
    /// Is a pass about to begin? It then gets a hold of its own.
    pub fn begins(&self) -> bool {
        self.next == ClosingStep::Begin
    }

    /// Makes one step. Returns `true` if the check has ended.
    pub fn step(&mut self, check: &mut Checker<'_>) -> Result<bool> {
        self.next = match self.next {
            ClosingStep::Sums => {
                check.compare_present()?;
                if check.unchanged {
                    check.compare_sums(&check.totals.variables)?;
                    check.compare_retired(check.totals.retired)?;
                    return Ok(true);
                }
                self.retired_compared = check.retired_at_once()?;
                self.count_compared = check.counted_at_once()?;
                ClosingStep::Begin
            }
            ClosingStep::Begin => {
                (self.unchanged, self.sums) = (true, VariableSums::default());
                self.suspects = SuspectList {
                    slabs: list(check.suspects.blocks.keys())?,
                    spans: list(&check.suspects.spans)?,
                    leaves: list(&check.suspects.leaves)?,
                };
                ClosingStep::Slab(0)
            }
            ClosingStep::Slab(number) => match self.suspects.slabs.get(number) {
                Some(granule) => {
                    check.clear_unused_blocks(*granule)?;
                    ClosingStep::Slab(number + 1)
                }
                None => ClosingStep::Span(0),
            },
            ClosingStep::Span(number) => match self.suspects.spans.get(number) {
                Some(granule) => {
                    if check.state_at(*granule) != SpanState::Live {
                        check.suspects.spans.remove(granule);
                    }
                    ClosingStep::Span(number + 1)
                }
                None => ClosingStep::SuspectLeaf(0),
            },
            ClosingStep::SuspectLeaf(number) => match self.suspects.leaves.get(number) {
                Some(granule) => {
                    if check.state_at(*granule) != SpanState::Leaf {
                        check.suspects.leaves.remove(granule);
                    }
                    ClosingStep::SuspectLeaf(number + 1)
                }
                None => ClosingStep::Leaf(TableOf::Variables, 0),
            },
            ClosingStep::Leaf(of, hash) => match (check.pass_leaf(of, hash, &mut self.sums)?, of) {
                (Some(hash), _) => ClosingStep::Leaf(of, hash),
                (None, TableOf::Variables) => ClosingStep::Leaf(TableOf::Names, 0),
                (None, TableOf::Names) => ClosingStep::Doomed(0, 0),
            },
            ClosingStep::Doomed(number, restarts) => match check.pass_doomed(number, restarts)? {
                Some((number, restarts)) => ClosingStep::Doomed(number, restarts),
                None => ClosingStep::End,
            },
            ClosingStep::End => {
                self.passes += 1;
                if self.unchanged {
                    check.compare_sums(&self.sums)?;
                    check.suspects.ensure_none(check.att)?;
                } else if self.passes < PASSES {
                    self.next = ClosingStep::Begin;
                    return Ok(false);
                } else {
                    // 2 for `used` and `expiring`, 1 for `count` if it took longer than a hold, and each suspect.
                    check.report.undecided = 2 + u64::from(!self.count_compared) + check.suspects.count();
                }
                check.report.undecided += u64::from(!self.retired_compared);
                return Ok(true);
            }
        };
        Ok(false)
    }
}

/// Copies granules into a list, which stays as it is while suspects are cleared.
fn list<'a>(granules: impl IntoIterator<Item = &'a u64>) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for granule in granules {
        fallible::push(&mut all, *granule, LISTS)?;
    }
    Ok(all)
}

impl Checker<'_> {
    /// Compares the number of pages that are said to be present with the memory that the object takes, within one hold.
    fn compare_present(&mut self) -> Result<()> {
        let arena = self.att.arena();
        let mut pages = 0;
        for zone in 0..arena.zones() {
            let present = &arena.zone(zone)?.present;
            pages += present.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum::<u64>();
        }
        let status = self.att.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
        let (present, resident) = (pages * GRANULE, status.resident);
        ensure!(
            present <= resident,
            12,
            "{present} bytes of the arena are said to be present, the object takes {resident}"
        );
        Ok(())
    }

    /// Compares the granules of retired spans with the segment's counter. Returns `false` if that takes longer than a
    /// hold.
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

    /// Compares the sum of the leaves' counts with the segment's counter. Returns `false` if that takes longer than a
    /// hold.
    fn counted_at_once(&self) -> Result<bool> {
        let (began, mut counted, mut hash) = (Instant::now(), 0, Some(0));
        while let Some(from) = hash {
            let leaf = self.current_leaf(TableOf::Variables, from)?;
            let counts = self.att.mem.at::<LeafHead>(leaf.base)?.counts.load(Ordering::Relaxed);
            counted += LeafCounts::unpack(counts).entries;
            hash = leaf.end(from);
            if began.elapsed() > ONE_HOLD {
                return Ok(false);
            }
        }
        let count = self.att.state().count.load(Ordering::Relaxed);
        ensure!(counted == count, 1, "count is {count}, there are {counted} variables");
        Ok(true)
    }

    /// The leaf that serves a hash now, known to be one that can be walked over.
    fn current_leaf(&self, of: TableOf, hash: u64) -> Result<Leaf> {
        let leaf = self.att.variables().leaf_of(hash, of)?;
        let sound = self.att.variables().leaf_is_sound(&leaf, MappedAccess)?;
        ensure!(sound, 3, "a word of a directory names {:#x} as a leaf", leaf.word.0);
        Ok(leaf)
    }

    /// The state of the span that begins at a granule.
    fn state_at(&self, granule: u64) -> SpanState {
        self.att.arena().entry(granule).map_or(SpanState::None, |entry| entry.state())
    }

    /// Clears the suspect blocks of a slab that are free now.
    fn clear_unused_blocks(&mut self, granule: u64) -> Result<()> {
        let slab = self.state_at(granule) == SpanState::Slab;
        let used = if slab { self.att.arena().used_words(granule)? } else { [0; 8] };
        self.suspects.keep_blocks(granule, used);
        Ok(())
    }

    /// Looks at the leaf of a hash: clears the suspects that it names, and adds its variables up. Returns the next
    /// leaf's hash.
    fn pass_leaf(&mut self, of: TableOf, hash: u64, sums: &mut VariableSums) -> Result<Option<u64>> {
        let leaf = self.current_leaf(of, hash)?;
        self.pass_slots(&leaf, 1, true, sums)?;
        Ok(leaf.end(hash))
    }

    /// Clears the suspects that the slots of a leaf name, from the slot of number `first` on; adds them up if they are
    /// `counted`.
    fn pass_slots(&mut self, leaf: &Leaf, first: u64, counted: bool, sums: &mut VariableSums) -> Result<()> {
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
                if content.is_queue() {
                    sums.add_stated(&queue_state(self.att, &content)?);
                }
            }
            if look {
                suspects.clear(content.kind(), content.granule(), content.block());
            }
        }
        Ok(())
    }

    /// The same for a word of the doomed directory. Returns the next word, and how often the walk has begun again
    /// because another table had become the doomed one.
    fn pass_doomed(&mut self, number: u64, restarts: u32) -> Result<Option<(u64, u32)>> {
        let (root, at) = doomed(self.att);
        if root.0 == 0 || restarts > DOOMED_RESTARTS {
            return Ok(None);
        }
        if std::mem::replace(&mut self.doomed, root.0) != root.0 {
            return Ok(Some((0, restarts + 1)));
        }
        let number = number.max(at >> 32);
        if root.depth() > DEPTH_MAX || number >= 1 << root.depth() {
            return Ok(None);
        }
        let leaf = self.att.variables().leaf_of_word(root, number)?;
        let sound = leaf.filter(|leaf| self.att.variables().leaf_is_sound(leaf, MappedAccess).unwrap_or(false));
        let Some(leaf) = sound else {
            ensure!(false, 3, "word {number} of the doomed directory names no leaf");
            return Ok(None);
        };
        let first = first_remaining_slot(at, number);
        self.pass_slots(&leaf, first, false, &mut VariableSums::default())?;
        let (first, count) = leaf.words(self.att.variables().directory_at(root));
        Ok(Some((first + count, restarts)))
    }
}
