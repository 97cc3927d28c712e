//! The removals that an iterator has heard of, and the place of a removal in the order of versions.
//!
//! The protocol is "Changes" in docs/protocol.md, **A removal** and *What is lost*.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::RemovalRing;
use crate::key::{Index, IndexBuf};
use crate::sync::removals::{self, HELD, Noted, count};
use std::collections::{HashMap, HashSet, VecDeque};

/// The name of this memory in the error for a lack of it.
pub const CHANGES: &str = "the changes of a segment";
/// So often the ring is read before it is taken to be damaged.
const TURNS: u32 = 64;
/// So many removals are remembered between two rounds.
const MOST: usize = 1 << 20;

/// Private to the process: the removals that were noted since the last round, in order.
#[derive(Debug, Default)]
pub struct Heard {
    noted: VecDeque<Noted>,
    /// Number of the next one in the ring.
    next: u64,
    /// Some were overwritten before they were read. All of those are older than this version.
    lost_before: Option<u64>,
    /// The same happened during the pass of the round.
    later_lost: Option<u64>,
}

/// Private to the process: a variable that was removed, with its index word and its place in the order.
#[derive(Debug)]
pub struct Gone {
    /// A version, and what decides among those of one version.
    pub place: (u64, u64),
    /// Its index.
    pub index: IndexBuf,
    /// Its index word.
    pub word: u64,
}

impl Heard {
    /// Begins with the removal of this number.
    pub fn from_now(next: u64) -> Self {
        Heard { next, ..Heard::default() }
    }

    /// Reads what was noted since the last time.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn listen(&mut self, ring: &RemovalRing) -> Result<()> {
        // What a round that failed has lost in its pass.
        self.lost_before = self.later_lost.take().or(self.lost_before);
        if let Some(lost_before) = self.read(ring)? {
            self.lost_before = Some(lost_before);
        }
        Ok(())
    }

    /// The same after the pass of a round: what is lost now concerns the next one.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn listen_behind_gap(&mut self, ring: &RemovalRing) -> Result<()> {
        if let Some(lost_before) = self.read(ring)? {
            self.later_lost = Some(lost_before);
        }
        Ok(())
    }

    /// Reads what was noted since the last time. Returns the version before which some are lost.
    fn read(&mut self, ring: &RemovalRing) -> Result<Option<u64>> {
        let (mut gap, mut lost_before) = (false, None);
        for _ in 0..TURNS {
            let end = count(ring);
            if end == self.next {
                return Ok(lost_before);
            }
            // A count that went back is that of a process which keeps to no protocol.
            if end.wrapping_sub(self.next) > HELD {
                (self.next, gap) = (end.saturating_sub(HELD), true);
            }
            if self.noted.len() >= MOST {
                self.noted.clear();
                gap = true;
            }
            let asked = (self.noted.len() + HELD as usize) * size_of::<Noted>();
            let reserved = self.noted.try_reserve(HELD as usize);
            reserved.map_err(|_| Error::Memory { asked: asked as u64, what: CHANGES })?;
            while self.next < end {
                let Some(noted) = removals::read(ring, self.next) else { break };
                if std::mem::take(&mut gap) {
                    lost_before = Some(noted.version);
                }
                self.noted.push_back(noted);
                self.next += 1;
            }
        }
        if self.next == count(ring) && !gap {
            return Ok(lost_before);
        }
        // Others remove faster than this thread reads, or the ring is damaged.
        self.next = count(ring);
        Ok(Some(u64::MAX))
    }

    /// Returns whether some were overwritten before they were read.
    pub fn is_lost(&self) -> bool {
        self.lost_before.is_some()
    }

    /// Returns the version before which some are lost.
    pub fn lost_before(&self) -> Option<u64> {
        self.lost_before
    }

    /// Returns how many were heard of.
    pub fn len(&self) -> usize {
        self.noted.len()
    }

    /// Returns those up to a version.
    pub fn up_to(&self, version: u64) -> impl DoubleEndedIterator<Item = &Noted> {
        self.noted.iter().filter(move |noted| noted.version <= version)
    }

    /// Forgets those up to a version, and what was lost before the pass of the round that has dealt with it.
    pub fn forget(&mut self, version: u64, lost: bool) {
        self.noted.retain(|noted| noted.version > version);
        if lost {
            self.lost_before = None;
        }
        self.lost_before = self.later_lost.take().or(self.lost_before);
    }
}

/// Private to the process: what decides about the place of a removal, in a round that looked at all variables.
pub struct RemovalOrder {
    /// The last removal of each variable up to the round's bound, by its index word and whether that is a text's.
    own: HashMap<(u64, bool), u64>,
    /// What was removed behind the bound, in the same way.
    later: HashSet<(u64, bool)>,
    /// All variables were removed behind the bound, or perhaps so.
    later_all: bool,
    /// Before this place something is lost that was removed before the pass.
    lost_before: Option<(u64, u64)>,
    /// Some were lost during the pass.
    pub later_is_lost: bool,
    /// It is the first round.
    first: bool,
    /// The last clear that was made.
    cleared: Option<(u64, u64)>,
}

impl RemovalOrder {
    /// Takes what a round knows. `oldest`: the least version of all variables that the pass found.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn new(heard: &Heard, up_to: u64, lost_before: Option<u64>, first: bool, oldest: Option<u64>) -> Result<Self> {
        // A clear that was noted and not made left older variables behind.
        let made = |noted: &&Noted| noted.is_all() && oldest.is_none_or(|oldest| oldest > noted.version);
        let mut order = RemovalOrder {
            own: HashMap::new(),
            later: HashSet::new(),
            later_all: false,
            lost_before: lost_before.map(|version| (version.min(up_to.saturating_add(1)), 0)),
            later_is_lost: heard.later_lost.is_some(),
            first,
            cleared: heard.up_to(up_to).rev().find(made).map(|noted| (noted.version, noted.version)),
        };
        for noted in &heard.noted {
            let name = (noted.index, noted.is_text());
            match (noted.version <= up_to, noted.is_all()) {
                (true, false) => drop(fallible::insert(&mut order.own, name, noted.version, CHANGES)?),
                (false, false) => drop(fallible::replace(&mut order.later, name, CHANGES)?),
                (behind, true) => order.later_all |= !behind,
            }
        }
        Ok(order)
    }

    /// Returns the place of the removal of a variable that is known and was not found. `None`: it was removed behind
    /// the bound, or that cannot be told yet. `was_absent`: the round before did not find it either.
    pub fn place(&self, index: &Index<'_>, word: u64, was_absent: bool) -> Option<(u64, u64)> {
        let name = (word, matches!(index, Index::Text(_)));
        if self.later_all || self.later.contains(&name) {
            return None;
        }
        let known = was_absent || !self.later_is_lost;
        let lost = self.lost_before.filter(|_| known);
        if let Some(version) = self.own.get(&name) {
            // What was lost since may be that it was made and removed once more.
            return known.then_some((*version, *version).max(lost.unwrap_or_default()));
        }
        // Right before the oldest that is not lost, or at the clear, whichever is later.
        let first = (known && self.first).then_some((0, 0));
        [lost, self.cleared, first].into_iter().flatten().max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Index<'_> = Index::Int(7);

    fn order(noted: &[Noted], lost: Option<u64>, later_lost: Option<u64>, oldest: Option<u64>) -> RemovalOrder {
        let heard = Heard { noted: noted.iter().copied().collect(), next: 0, lost_before: lost, later_lost };
        RemovalOrder::new(&heard, 100, lost, false, oldest).unwrap()
    }

    #[test]
    fn a_removal_has_its_own_place_and_a_lost_one_comes_late_and_never_early() {
        let own = |version| Noted::of_variable(version, 7, false);
        let (other, all) = (Noted::of_variable(40, 8, false), Noted::of_all(50));
        assert_eq!(order(&[own(10), own(20), other], None, None, None).place(&X, 7, false), Some((20, 20)));
        assert_eq!(order(&[own(10), all], None, None, Some(60)).place(&X, 7, false), Some((10, 10)));
        assert_eq!(order(&[other, all], None, None, Some(60)).place(&X, 7, false), Some((50, 50)));
        // A clear that was not made left something behind.
        assert_eq!(order(&[other, all], None, None, Some(30)).place(&X, 7, false), None);
        assert_eq!(order(&[other, all], Some(40), None, Some(30)).place(&X, 7, false), Some((40, 0)));
        // It may have been made and removed again among those that are lost.
        assert_eq!(order(&[own(10), other], Some(40), None, None).place(&X, 7, false), Some((40, 0)));
        assert_eq!(order(&[own(41), other], Some(40), None, None).place(&X, 7, false), Some((41, 41)));
        assert_eq!(order(&[own(10)], None, Some(200), None).place(&X, 7, false), None);
        // Behind the bound.
        assert_eq!(order(&[own(10), own(101)], None, None, None).place(&X, 7, false), None);
        assert_eq!(order(&[own(10), Noted::of_all(101)], None, None, None).place(&X, 7, false), None);
        // Lost before the pass, and during it: only the next round can tell.
        let both = order(&[other], Some(40), Some(200), None);
        assert_eq!((both.place(&X, 7, false), both.place(&X, 7, true)), (None, Some((40, 0))));
        assert_eq!(order(&[], Some(u64::MAX), None, None).place(&X, 7, false), Some((101, 0)));
    }

    #[test]
    fn a_damaged_ring_is_lost_and_ends() {
        let ring = RemovalRing::zeroed();
        ring.removals.store(1_000, std::sync::atomic::Ordering::Relaxed);
        let mut heard = Heard::default();
        heard.listen(&ring).unwrap();
        assert_eq!((heard.lost_before(), heard.next, heard.len()), (Some(u64::MAX), 1_000, 0));
        // A count that goes back.
        ring.removals.store(3, std::sync::atomic::Ordering::Relaxed);
        heard.listen(&ring).unwrap();
        assert_eq!((heard.lost_before(), heard.next), (Some(u64::MAX), 3));
        for version in 1..=200 {
            removals::note(&ring, Noted::of_variable(version, version, false));
        }
        heard.listen(&ring).unwrap();
        assert_eq!((heard.lost_before(), heard.len()), (Some(74), HELD as usize));
    }
}
