//! Every change of any variable, in the order of versions: what one iterator knows, and the round in which it learns
//! what has changed since.
//!
//! The protocol is "Changes" in docs/protocol.md, with the argument that no last state is missed and that the order
//! holds. Where a removal has its place is in `removal_order.rs`, how a thread sleeps between two rounds in
//! `changes_wait.rs`.

use crate::coordination::Coordination;
use crate::coordination::known::Known;
use crate::coordination::removal_order::{CHANGES, Gone, Heard, RemovalOrder};
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{RemovalRing, at};
use crate::key::{Index, IndexBuf, Name};
use crate::os;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::bound;
use crate::sync::removals::count;
use crate::variables::changes_pass::{PassResult, Seen, Wanted};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// So often the bound is asked for before the change under way is taken to stand still.
const ATTEMPTS: u32 = 2_000;
/// So many passes at most are made at first, while others remove variables meanwhile.
const FIRST_PASSES: u32 = 4;
/// With more variables than this, what follows a pass lets the interpreter's other threads go on.
const MANY: usize = 10_000;

/// Private to the process: what one iterator over changes knows. A round that fails leaves it as it was.
#[derive(Debug, Default)]
pub struct Changes {
    /// Only texts that begin with this.
    prefix: Option<String>,
    /// Up to this version everything was taken.
    pub(super) seen: u64,
    /// No round was made yet, and what is there is to be told.
    first: bool,
    /// The indexes that the caller believes to be there.
    known: Known,
    /// The versions that the caller knows and that no round has passed yet.
    versions: HashMap<IndexBuf, u64>,
    /// The removals that were noted since the last round.
    pub(super) heard: Heard,
    /// What the last round did not find, and could not tell when it was removed: before its end, at the latest.
    absent: HashSet<IndexBuf>,
    /// What was taken and not handed out, with the version, 0 for a removal.
    pending: VecDeque<(IndexBuf, u64)>,
    /// When the next variable expires, on the clock of expiries.
    expires: Option<u64>,
    /// The serial number of the last change at the last look, if nobody was changing anything.
    quiet: Option<u64>,
    /// The change and the batch that were under way at the last looks, and since when they have not moved.
    pub(super) under_way: Option<([u64; 3], Instant)>,
    /// No round is begun before this, so that a segment that changes all the time is not looked at all the time.
    pub(super) rest_until: Option<Instant>,
    /// How many rounds have followed each other of which each found that others change something all the time.
    pub(super) in_a_row: u32,
    /// How long the next part of a pause is.
    pub(super) part: Duration,
}

/// What is to be handed out: its place in the order, the index, its index word, the version.
struct Taken {
    place: (u64, u64),
    index: IndexBuf,
    word: u64,
    version: u64,
}

impl Changes {
    /// Makes an iterator that hands out first what is there in other versions than these.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn since(att: &Coordination, versions: Vec<(IndexBuf, u64)>, prefix: Option<String>) -> Result<Self> {
        let mut changes = Changes { prefix, first: true, ..Changes::default() };
        for (index, version) in versions {
            if version != 0 && changes.is_wanted(&index.as_index()) {
                changes.known.insert(&index.as_index(), att.index_word(&index.as_index()))?;
                fallible::insert(&mut changes.versions, index, version, CHANGES)?;
            }
        }
        Ok(changes)
    }

    /// Makes an iterator that counts from now.
    ///
    /// # Errors
    /// [`Error::Memory`], and those of a look at all variables.
    pub fn from_now(att: &Coordination, prefix: Option<String>, policy: &dyn WaitPolicy) -> Result<Self> {
        let mut changes = Changes { prefix, ..Changes::default() };
        changes.quiet = bound::quiet(att.state(), att.mem.intent());
        changes.heard = Heard::from_now(count(att.ring()?));
        changes.seen = att.bound(0, policy)?;
        let prefix = changes.prefix.clone();
        let wanted = Wanted { newer_than: 0, all: true, prefix: prefix.as_deref() };
        // A variable that is removed and made again during a pass may have been missed by it. A removal is noted, so
        // the next pass tells.
        for _ in 0..FIRST_PASSES {
            let removals = count(att.ring()?);
            let passed = att.pass_changes(wanted, &mut || Ok(()), policy)?;
            // Also what has changed since the bound: it is known to whoever looks from now on.
            let (many, mut done, mut passed) = (passed.seen.len(), Ok(()), Some(passed));
            beside_others(many, policy, &mut || done = passed.take().map_or(Ok(()), |passed| changes.learn(passed)));
            done?;
            if count(att.ring()?) == removals {
                break;
            }
        }
        Ok(changes)
    }

    /// Returns how many rounds count as made for a process that changes something all the time.
    #[cfg(test)]
    pub fn rounds_in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Makes known what a pass has found.
    fn learn(&mut self, passed: PassResult) -> Result<()> {
        self.expires = passed.expires;
        let there = || passed.seen.iter().filter(|seen| !seen.expired);
        if self.known.is_empty() {
            let texts = there().filter(|seen| matches!(seen.index, IndexBuf::Text(_))).count();
            self.known.reserve(there().count() - texts, texts)?;
        }
        there().try_for_each(|seen| self.known.insert(&seen.index.as_index(), seen.index_word))
    }

    fn is_wanted(&self, index: &Index<'_>) -> bool {
        match (&self.prefix, index) {
            (None, _) => true,
            (Some(prefix), Index::Text(text)) => text.starts_with(prefix.as_str()),
            (Some(_), Index::Int(_)) => false,
        }
    }

    /// Takes the next change that was not handed out yet: an index, and its version, 0 where it was removed.
    pub fn take(&mut self) -> Option<(IndexBuf, u64)> {
        // The room of the last one is kept: it may be given back without memory.
        if self.pending.is_empty() && self.pending.capacity() > MANY {
            self.pending = VecDeque::new();
        }
        self.pending.pop_front()
    }

    /// Returns how many indexes the caller believes to be there.
    pub(super) fn known(&self) -> usize {
        self.known.len()
    }

    /// Gives back what was taken last and could not be handed out.
    #[cfg(feature = "python")]
    pub fn give_back(&mut self, index: IndexBuf, version: u64) {
        self.pending.push_front((index, version));
    }

    /// Returns whether there is something to hand out.
    pub fn has_some(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns when the next variable expires, on the clock of expiries.
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }

    fn has_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= os::boottime_ns())
    }

    /// Decides which known variables of a pass over all of them are removed, and which may be.
    fn find_gone(&self, passed: &PassResult, order: &RemovalOrder) -> Result<(Vec<Gone>, HashSet<IndexBuf>)> {
        let (mut gone, mut absent, mut there) = (Vec::new(), HashSet::new(), HashSet::new());
        fallible::reserve_in_set(&mut there, passed.seen.len(), CHANGES)?;
        there.extend(passed.seen.iter().map(|seen| seen.index.as_index()));
        for (index, word) in self.known.iter().filter(|(index, _)| !there.contains(index)) {
            let own = copy_of(&index)?;
            match order.place(&index, word, self.absent.contains(&own)) {
                Some(place) => fallible::push(&mut gone, Gone { place, index: own, word }, CHANGES)?,
                None if order.later_is_lost => drop(fallible::replace(&mut absent, own, CHANGES)?),
                None => {}
            }
        }
        Ok((gone, absent))
    }

    /// Returns whether a variable that a pass found is to be told.
    fn is_news(&self, seen: &Seen, up_to: u64) -> bool {
        !seen.expired
            && (self.first || seen.version > self.seen)
            && seen.version <= up_to
            && self.versions.get(&seen.index) != Some(&seen.version)
    }
}

impl Coordination {
    pub(super) fn ring(&self) -> Result<&RemovalRing> {
        self.mem.at::<RemovalRing>(at::REMOVALS)
    }

    /// Returns the index word of an index's slot.
    fn index_word(&self, index: &Index<'_>) -> u64 {
        let name = Name::from(index);
        name.index_word(name.hash(self.identity.hash_key))
    }

    /// Returns a version up to which every change is made. `seen` is one that was such a version before.
    fn bound(&self, seen: u64, policy: &dyn WaitPolicy) -> Result<u64> {
        let (state, area, mut backoff) = (self.state(), self.mem.intent(), Backoff::default());
        if state.version.load(Ordering::Acquire) < seen {
            return Err(Error::corrupt("the version counter, which went back"));
        }
        loop {
            for attempt in 1..=ATTEMPTS {
                if let Some(version) = bound::settled(state, area) {
                    return Ok(version);
                }
                if attempt.is_multiple_of(256) {
                    // The writer may need this processor.
                    policy.allow_threads(&mut std::thread::yield_now);
                } else {
                    crate::atomic::spin();
                }
            }
            // Somebody is in the middle of a change, and does not go on.
            if let Some(version) = bound::before_change_under_way(state, area) {
                return Ok(version);
            }
            backoff.again(Obstacle::HalfChanged, self, policy)?;
        }
    }

    /// Returns whether a round may find something.
    pub fn is_due(&self, changes: &Changes) -> bool {
        let state = self.state();
        let same = bound::quiet(state, self.mem.intent());
        let expiring = state.expiring.load(Ordering::Relaxed) != 0;
        let unmoved = state.version.load(Ordering::Acquire) == changes.seen && !expiring;
        let quiet = changes.quiet.is_some() && changes.quiet == same;
        changes.has_expired() || changes.first || !changes.absent.is_empty() || !(quiet || unmoved)
    }

    /// Makes a round: looks for what has changed since the last one. The caller has marked the wake words before.
    pub fn round(&self, changes: &mut Changes, policy: &dyn WaitPolicy) -> Result<()> {
        let quiet = bound::quiet(self.state(), self.mem.intent());
        let expired = changes.has_expired() || self.state().expiring.load(Ordering::Relaxed) != 0;
        let up_to = self.bound(changes.seen, policy)?.max(changes.seen);
        changes.heard.listen(self.ring()?)?;
        let all = changes.first || changes.heard.is_lost() || changes.heard.up_to(up_to).any(|noted| noted.is_all());
        if !all && !expired && up_to == changes.seen && changes.absent.is_empty() {
            changes.quiet = quiet;
            return Ok(());
        }
        let wanted = Wanted { newer_than: changes.seen, all, prefix: changes.prefix.as_deref() };
        let (ring, heard) = (self.ring()?, &mut changes.heard);
        // The ring holds few removals, and a pass may take long. What is lost during the pass is behind the bound.
        let passed = self.pass_changes(wanted, &mut || heard.listen_behind_gap(ring), policy)?;
        let mut gone = Vec::new();
        if all {
            heard.listen_behind_gap(ring)?;
        } else {
            self.find_noted(changes, up_to, &mut gone, policy)?;
        }
        let mut found = (Some((passed, gone)), Ok(()));
        let many = changes.known.len().max(found.0.as_ref().map_or(0, |(passed, _)| passed.seen.len()));
        beside_others(many, policy, &mut || {
            if let Some((passed, gone)) = found.0.take() {
                found.1 = changes.end_round(passed, gone, up_to, all);
            }
        });
        found.1?;
        changes.quiet = quiet;
        Ok(())
    }

    /// Finds those of the noted removals that were made, of variables that are known.
    fn find_noted(&self, changes: &Changes, up_to: u64, gone: &mut Vec<Gone>, policy: &dyn WaitPolicy) -> Result<()> {
        let mut names = HashSet::new();
        for (number, noted) in changes.heard.up_to(up_to).rev().enumerate() {
            if number % MANY == MANY - 1 {
                policy.allow_threads(&mut || {});
                policy.interrupted()?;
            }
            for index in changes.known.with_word(noted.index, noted.is_text()) {
                // Of several the last one counts. A removal that was not made, or not for good, left the variable there.
                if names.contains(&index) || self.version(&index, policy)?.0 != 0 {
                    continue;
                }
                fallible::replace(&mut names, index, CHANGES)?;
                let place = (noted.version, noted.version);
                fallible::push(gone, Gone { place, index: copy_of(&index)?, word: noted.index }, CHANGES)?;
            }
        }
        Ok(())
    }
}

impl Changes {
    /// Decides what a round tells, and makes it the last one. A round of which this fails has not been. Nothing here is
    /// of the segment or of Python.
    fn end_round(&mut self, passed: PassResult, mut gone: Vec<Gone>, up_to: u64, all: bool) -> Result<()> {
        let (lost_before, mut absent) = (self.heard.lost_before(), HashSet::new());
        if all {
            let order = RemovalOrder::new(&self.heard, up_to, lost_before, self.first, passed.oldest)?;
            (gone, absent) = self.find_gone(&passed, &order)?;
        }
        let mut taken = Vec::new();
        let mut gone_already = HashSet::new();
        fallible::reserve_in_set(&mut gone_already, gone.len(), CHANGES)?;
        gone_already.extend(gone.iter().map(|one| one.index.as_index()));
        // An expiry has no version. What was written before it may have been meant to precede it.
        for seen in passed.seen.iter().filter(|seen| seen.expired) {
            let index = seen.index.as_index();
            if self.known.contains(&index, seen.index_word) && !gone_already.contains(&index) {
                let (place, index) = ((u64::MAX, 0), copy_of(&index)?);
                fallible::push(&mut taken, Taken { place, index, word: seen.index_word, version: 0 }, CHANGES)?;
            }
        }
        drop(gone_already);
        for Gone { place, index, word } in gone {
            fallible::push(&mut taken, Taken { place, index, word, version: 0 }, CHANGES)?;
        }
        for seen in passed.seen.into_iter().filter(|seen| self.is_news(seen, up_to)) {
            let Seen { index, index_word: word, version, .. } = seen;
            fallible::push(&mut taken, Taken { place: (version, u64::MAX), index, word, version }, CHANGES)?;
        }
        taken.sort_unstable_by_key(|one| one.place);
        self.accept(taken)?;
        (self.seen, self.first, self.absent) = (up_to, false, absent);
        self.heard.forget(up_to, lost_before.is_some());
        self.versions.retain(|_, version| *version > up_to);
        self.expires = passed.expires;
        Ok(())
    }

    /// Makes what was taken known, or not known any more, and puts it behind what is to be handed out: all of it, or
    /// nothing.
    fn accept(&mut self, taken: Vec<Taken>) -> Result<()> {
        let texts = taken.iter().filter(|one| matches!(one.index, IndexBuf::Text(_))).count();
        self.known.reserve(taken.len() - texts, texts)?;
        let asked = (taken.len() * size_of::<(IndexBuf, u64)>()) as u64;
        self.pending.try_reserve(taken.len()).map_err(|_| Error::Memory { asked, what: CHANGES })?;
        let mut own_texts = fallible::with_room(taken.len(), CHANGES)?;
        for one in &taken {
            own_texts.push(match &one.index {
                IndexBuf::Text(text) if one.version != 0 => {
                    self.known.make_room_beside(text, one.word)?;
                    Some(fallible::text(text, CHANGES)?.into_boxed_str())
                }
                _ => None,
            });
        }
        // From here on nothing fails.
        for (Taken { index, word, version, .. }, text) in taken.into_iter().zip(own_texts) {
            match (&index, text) {
                (index, _) if version == 0 => self.known.remove(&index.as_index(), word),
                (IndexBuf::Int(number), _) => self.known.insert_int(*number),
                (_, Some(text)) => self.known.insert_text(text, word),
                (IndexBuf::Text(_), None) => {}
            }
            self.pending.push_back((index, version));
        }
        self.known.give_back_room();
        Ok(())
    }
}

/// Runs what follows a pass. With many variables the interpreter's other threads go on meanwhile.
fn beside_others(variables: usize, policy: &dyn WaitPolicy, run: &mut (dyn FnMut() + Send)) {
    if variables > MANY { policy.allow_threads(run) } else { run() }
}

/// Returns a copy of an index.
pub(super) fn copy_of(index: &Index<'_>) -> Result<IndexBuf> {
    Ok(match index {
        Index::Int(number) => IndexBuf::Int(*number),
        Index::Text(text) => IndexBuf::Text(fallible::text(text, CHANGES)?),
    })
}
