//! Every change of any variable, in the order of versions: what one iterator knows, and the round in which it learns
//! what has changed since.
//!
//! The protocol is "Changes" in docs/protocol.md, with the argument that no last state is missed and that the order
//! holds. How a thread sleeps between two rounds is in `changes_wait.rs`.

use crate::coordination::Coordination;
use crate::coordination::known::Known;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{RemovalRing, at};
use crate::key::{Index, IndexBuf, Name};
use crate::os;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::removals::{self, HELD, Noted};
use crate::sync::{bound, removals::count};
use crate::variables::changes_pass::Wanted;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The name of this memory in the error for a lack of it.
const CHANGES: &str = "the changes of a segment";
/// So often the bound is asked for before the change under way is taken to stand still.
const ATTEMPTS: u32 = 2_000;
/// So many passes at most are made at first, while others remove variables meanwhile.
const FIRST_PASSES: u32 = 4;

/// Private to the process: what one iterator over changes knows. All of it changes at the end of a round only.
#[derive(Debug, Default)]
pub struct Changes {
    /// Only texts that begin with this.
    prefix: Option<String>,
    /// Up to this version everything was taken.
    seen: u64,
    /// The indexes that the caller believes to be there.
    known: Known,
    /// Before the first round: the versions that the caller knows.
    versions: Option<HashMap<IndexBuf, u64>>,
    /// Number of the first removal that was not looked at.
    noted: u64,
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
}

/// The removals that a round has read from the ring.
struct Removals {
    /// Those up to the bound, in order.
    made: Vec<Noted>,
    /// The version of the oldest removal that the ring still holds. `None`: all removals since the last round are in
    /// `made`.
    lost_before: Option<u64>,
    /// Number of the first one behind the bound.
    next: u64,
}

/// What is handed out, with its place in the order: a version, and what decides among those of one version.
type Taken = ((u64, u64), IndexBuf, u64);

impl Changes {
    /// Makes an iterator that hands out first what is there in other versions than these.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn since(att: &Coordination, versions: Vec<(IndexBuf, u64)>, prefix: Option<String>) -> Result<Self> {
        let mut changes = Changes { prefix, ..Changes::default() };
        let mut of_index = HashMap::new();
        for (index, version) in versions {
            if version != 0 && changes.is_wanted(&index.as_index()) {
                changes.known.insert(&index.as_index(), att.index_word(&index.as_index()))?;
                fallible::insert(&mut of_index, index, version, CHANGES)?;
            }
        }
        changes.versions = Some(of_index);
        Ok(changes)
    }

    /// Makes an iterator that counts from now.
    ///
    /// # Errors
    /// [`Error::Memory`], and those of a look at all variables.
    pub fn from_now(att: &Coordination, prefix: Option<String>, policy: &dyn WaitPolicy) -> Result<Self> {
        let mut changes = Changes { prefix, ..Changes::default() };
        changes.quiet = bound::quiet(att.state(), att.mem.intent());
        changes.seen = att.bound(policy)?;
        changes.noted = att.removals_since(0, changes.seen)?.next;
        let own_prefix = changes.prefix.clone();
        let wanted = Wanted { newer_than: 0, all: true, prefix: own_prefix.as_deref() };
        // A variable that is removed and made again during a pass may have been missed by it. A removal is noted, so
        // the next pass tells.
        for _ in 0..FIRST_PASSES {
            let removals = count(att.ring()?);
            let passed = att.pass_changes(wanted, policy)?;
            // Also what has changed since the bound: it is known to whoever looks from now on.
            let there = || passed.seen.iter().filter(|seen| !seen.expired);
            let texts = there().filter(|seen| matches!(seen.index, IndexBuf::Text(_))).count();
            if changes.known.len() == (0, 0) {
                changes.known.reserve(there().count() - texts, texts)?;
            }
            for seen in there() {
                changes.known.insert(&seen.index.as_index(), seen.index_word)?;
            }
            changes.expires = passed.expires;
            if count(att.ring()?) == removals {
                break;
            }
        }
        Ok(changes)
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
        self.pending.pop_front()
    }

    /// Returns whether there is something to hand out.
    pub fn has_some(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns when the next variable expires, on the clock of expiries.
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }
}

impl Coordination {
    fn ring(&self) -> Result<&RemovalRing> {
        self.mem.at::<RemovalRing>(at::REMOVALS)
    }

    /// Returns the index word of an index's slot.
    fn index_word(&self, index: &Index<'_>) -> u64 {
        index_word_of(index, self.identity.hash_key)
    }

    /// Returns a version up to which every change is made.
    fn bound(&self, policy: &dyn WaitPolicy) -> Result<u64> {
        let (state, area) = (self.state(), self.mem.intent());
        for attempt in 1..=ATTEMPTS {
            if let Some(version) = bound::settled(state, area) {
                return Ok(version);
            }
            if attempt.is_multiple_of(64) {
                // The writer may need this processor.
                policy.allow_threads(&mut std::thread::yield_now);
            } else {
                crate::atomic::spin();
            }
        }
        // Somebody is in the middle of a change, and does not go on; or changes follow each other all the time.
        Ok(bound::before_change_under_way(area).or_else(|| bound::settled(state, area)).unwrap_or(0))
    }

    /// Reads the removals from number `first` on, up to a version.
    fn removals_since(&self, first: u64, up_to: u64) -> Result<Removals> {
        let ring = self.ring()?;
        loop {
            let end = count(ring);
            // A count that went back is that of a process which keeps to no protocol: everything is looked at then.
            let begin = if end.wrapping_sub(first) <= HELD { first } else { end.saturating_sub(HELD) };
            let mut found =
                Removals { made: fallible::with_room(HELD as usize, CHANGES)?, lost_before: None, next: end };
            let mut oldest = None;
            let complete = (begin..end).all(|number| {
                let Some(noted) = removals::read(ring, number) else { return false };
                oldest = oldest.or(Some(noted.version));
                if noted.version > up_to {
                    found.next = found.next.min(number);
                } else if number < found.next {
                    found.made.push(noted);
                }
                true
            });
            if complete {
                if begin != first {
                    found.lost_before = Some(oldest.unwrap_or(0).min(up_to.saturating_add(1)));
                }
                return Ok(found);
            }
        }
    }

    /// Returns whether a round may find something.
    pub fn is_due(&self, changes: &Changes) -> bool {
        let (state, area) = (self.state(), self.mem.intent());
        let expired = changes.expires.is_some_and(|at| at <= os::boottime_ns());
        let (same, expiring) = (bound::quiet(state, area), state.expiring.load(Ordering::Relaxed) != 0);
        let unmoved = state.version.load(Ordering::Acquire) == changes.seen && !expiring;
        let quiet = changes.quiet.is_some() && changes.quiet == same;
        expired || changes.versions.is_some() || !changes.absent.is_empty() || !(quiet || unmoved)
    }

    /// Makes a round: looks for what has changed since the last one. The caller has marked the wake words before.
    pub fn round(&self, changes: &mut Changes, policy: &dyn WaitPolicy) -> Result<()> {
        let first = changes.versions.is_some();
        let quiet = bound::quiet(self.state(), self.mem.intent());
        let up_to = self.bound(policy)?.max(changes.seen);
        let removed = self.removals_since(changes.noted, up_to)?;
        let all = first || removed.lost_before.is_some() || removed.made.iter().any(Noted::is_all);
        let prefix = changes.prefix.as_deref();
        let passed = self.pass_changes(Wanted { newer_than: changes.seen, all, prefix }, policy)?;

        let mut taken: Vec<Taken> = Vec::new();
        let mut gone: Vec<(IndexBuf, u64)> = Vec::new();
        let mut absent = HashSet::new();
        // Nothing that a program does can be meant to come before an expiry, and much is done because of one.
        for seen in passed.seen.iter().filter(|seen| seen.expired) {
            let index = seen.index.as_index();
            if changes.known.contains(&index, seen.index_word) {
                fallible::push(&mut taken, ((0, 0), copy_of(&index)?, 0), CHANGES)?;
                fallible::push(&mut gone, (copy_of(&index)?, seen.index_word), CHANGES)?;
            }
        }
        if all {
            let there: HashSet<(&IndexBuf, u64)> =
                collect_set(passed.seen.iter().map(|seen| (&seen.index, seen.index_word)), passed.seen.len())?;
            let later = self.removals_since(removed.next, u64::MAX)?;
            for (index, word) in changes.known.iter() {
                let own = copy_of(&index)?;
                if there.contains(&(&own, word)) {
                    continue;
                }
                match place_of_removal(&own, word, &removed, &later, changes.absent.contains(&own), first) {
                    Some(place) => {
                        fallible::push(&mut taken, (place, copy_of(&index)?, 0), CHANGES)?;
                        fallible::push(&mut gone, (own, word), CHANGES)?;
                    }
                    // It was removed behind the bound, or perhaps so.
                    None if later.lost_before.is_some() => drop(fallible::replace(&mut absent, own, CHANGES)?),
                    None => {}
                }
            }
        } else {
            for noted in removed.made.iter().rev() {
                for index in changes.known.with_word(noted.index, noted.is_text()) {
                    let own = copy_of(&index)?;
                    let word = noted.index;
                    if gone.iter().any(|(index, _)| *index == own) || self.version(&index, policy)?.0 != 0 {
                        continue;
                    }
                    fallible::push(&mut taken, (place_of(noted), copy_of(&index)?, 0), CHANGES)?;
                    fallible::push(&mut gone, (own, word), CHANGES)?;
                }
            }
        }
        let is_taken = |seen: &&crate::variables::changes_pass::Seen| {
            let known = changes.versions.as_ref().and_then(|versions| versions.get(&seen.index));
            !seen.expired
                && (changes.seen < seen.version || first)
                && seen.version <= up_to
                && known != Some(&seen.version)
        };
        for seen in passed.seen.iter().filter(is_taken) {
            let place = (seen.version, u64::MAX);
            fallible::push(&mut taken, (place, copy_of(&seen.index.as_index())?, seen.version), CHANGES)?;
        }
        taken.sort_unstable_by_key(|(place, _, _)| *place);

        let (texts, total) =
            (taken.iter().filter(|(_, index, _)| matches!(index, IndexBuf::Text(_))).count(), taken.len());
        changes.known.reserve(total - texts, texts)?;
        let reserved = changes.pending.try_reserve(total);
        reserved.map_err(|_| Error::Memory { asked: (total * size_of::<(IndexBuf, u64)>()) as u64, what: CHANGES })?;
        for (index, word) in &gone {
            changes.known.remove(&index.as_index(), *word);
        }
        let key = self.identity.hash_key;
        for (_, index, version) in taken {
            if version != 0 {
                changes.known.insert(&index.as_index(), index_word_of(&index.as_index(), key))?;
            }
            changes.pending.push_back((index, version));
        }
        (changes.seen, changes.noted, changes.versions, changes.absent) = (up_to, removed.next, None, absent);
        (changes.expires, changes.quiet) = (passed.expires, quiet);
        Ok(())
    }
}

/// Returns the place in the order at which a variable was removed that is known and was not found. `None`: it was
/// removed behind the bound, or that cannot be told yet.
fn place_of_removal(
    index: &IndexBuf,
    word: u64,
    removed: &Removals,
    later: &Removals,
    was_absent: bool,
    first: bool,
) -> Option<(u64, u64)> {
    let text = matches!(index, IndexBuf::Text(_));
    let is_of = |noted: &&Noted| noted.is_all() || (noted.index == word && noted.is_text() == text);
    if later.made.iter().any(|noted| is_of(&noted)) {
        return None;
    }
    let own = removed.made.iter().rev().find(|noted| !noted.is_all() && is_of(noted));
    if let Some(last) = removed.made.iter().rev().find(is_of) {
        return Some(match own {
            Some(own) if own.version != last.version => (last.version, own.version),
            _ => place_of(last),
        });
    }
    match removed.lost_before {
        // Not in the ring: it was removed before all that are, or behind the bound, if that is lost as well.
        Some(before) if was_absent || later.lost_before.is_none() => Some((before, 0)),
        None if first && later.lost_before.is_none() => Some((0, 0)),
        _ => None,
    }
}

/// Returns the place of a removal in the order.
fn place_of(noted: &Noted) -> (u64, u64) {
    if noted.had_expired() { (0, noted.version) } else { (noted.version, noted.version) }
}

fn index_word_of(index: &Index<'_>, key: [u64; 2]) -> u64 {
    let name = Name::from(index);
    name.index_word(name.hash(key))
}

fn copy_of(index: &Index<'_>) -> Result<IndexBuf> {
    Ok(match index {
        Index::Int(number) => IndexBuf::Int(*number),
        Index::Text(text) => IndexBuf::Text(fallible::text(text, CHANGES)?),
    })
}

fn collect_set<T: std::hash::Hash + Eq>(all: impl Iterator<Item = T>, len: usize) -> Result<HashSet<T>> {
    let mut set = HashSet::new();
    fallible::reserve_in_set(&mut set, len, CHANGES)?;
    set.extend(all);
    Ok(set)
}
