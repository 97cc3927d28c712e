//! The choice of a victim, and its removal.
//!
//! The protocol is "Eviction" in docs/protocol.md, **The victim** and **Evicting**. The writer lock is held.

use crate::error::Result;
use crate::format::{Eviction, GRANULE, Slot, SpanState};
use crate::hash::{of_int, spread};
use crate::os;
use crate::sync::slot::{Content, Kind, Seqlock};
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::record::record_at;
use crate::variables::{AsVariables, VariablesWriter};
use std::sync::atomic::Ordering;

/// How many variables that may be evicted are compared with each other.
const SAMPLE: usize = 16;

/// Private to the process: what must not be evicted.
pub(super) struct Rules<'a> {
    /// Says of a hash that it is one of the indexes that are being stored.
    pub spares: &'a dyn Fn(u64) -> bool,
    /// Whether values that somebody has pinned may be evicted. They give no memory back until nobody has.
    pub pinned: bool,
}

/// Private to the process: a way from leaf to leaf, once round, for when a sample has no victim.
#[derive(Default)]
pub(super) struct Turn(Option<Round>);

/// Private to the process: how far the way is.
#[derive(Clone, Copy)]
struct Round {
    /// The hash at which the way began.
    began: u64,
    /// The hash whose leaf comes next.
    next: u64,
    /// The way has come to the last leaf, and went on with the first one.
    wrapped: bool,
}

/// Private to the process: how one step ended.
pub(super) enum Step {
    /// A variable with this hash and this charge was evicted.
    Evicted {
        /// Its hash.
        hash: u64,
        /// Its charge.
        charge: u64,
    },
    /// A leaf was looked at that has no victim.
    Looked,
    /// No variable can be evicted.
    Nothing,
}

/// Private to the process: a variable that may be evicted.
struct Victim {
    leaf: Leaf,
    offset: u64,
    content: Content,
    hash: u64,
    /// The greatest one goes first. `u64::MAX`: it has expired, which is not counted as evicted.
    rank: u64,
}

/// Private to the process: variables that may be evicted, of which the best is kept.
struct Sample {
    best: Option<Victim>,
    /// How many more are looked at.
    left: usize,
    /// The time, once it was asked for.
    now: Option<u64>,
}

impl Sample {
    fn of(left: usize) -> Self {
        Sample { best: None, left, now: None }
    }
}

impl VariablesWriter<'_> {
    /// Evicts one variable, or looks at one leaf more for one.
    pub(super) fn evict_next(&mut self, turn: &mut Turn, rules: &Rules<'_>) -> Result<Step> {
        let (att, state) = (self.att.variables(), self.att.state());
        let Some(eviction) = att.eviction else { return Ok(Step::Nothing) };
        let counter = if eviction == Eviction::Ttl { &state.expiring } else { &state.count };
        if counter.load(Ordering::Relaxed) == 0 {
            return Ok(Step::Nothing);
        }
        let round = match &mut turn.0 {
            Some(round) => round,
            none => {
                // The place follows from the version, which grows with each change. It is spread as the hashes of
                // indexes are, so that each variable is looked at as often as any other.
                let version = state.version.load(Ordering::Relaxed);
                let hash = spread(of_int(att.identity.hash_key, version as i64));
                let leaf = att.leaf_of(hash, TableOf::Variables)?;
                let mut sample = Sample::of(SAMPLE);
                self.sample(eviction, &leaf, leaf.home(hash), &mut sample, rules)?;
                if sample.left > 0 {
                    let next = att.leaf_of(leaf.end(hash).unwrap_or(0), TableOf::Variables)?;
                    if next.base != leaf.base {
                        self.sample(eviction, &next, 1, &mut sample, rules)?;
                    }
                }
                if let Some(victim) = sample.best {
                    return self.evict(victim);
                }
                none.insert(Round { began: hash, next: hash, wrapped: false })
            }
        };
        if round.wrapped && round.next > round.began {
            return Ok(Step::Nothing);
        }
        let leaf = att.leaf_of(round.next, TableOf::Variables)?;
        let mut sample = Sample::of(if eviction == Eviction::Ttl { usize::MAX } else { SAMPLE });
        self.sample(eviction, &leaf, 1, &mut sample, rules)?;
        if let Some(victim) = sample.best {
            // The next one may be in the same leaf. From there on a whole round is made again.
            (round.began, round.wrapped) = (round.next, false);
            return self.evict(victim);
        }
        match leaf.end(round.next) {
            Some(next) => round.next = next,
            None if round.wrapped => return Ok(Step::Nothing),
            None => (round.next, round.wrapped) = (0, true),
        }
        Ok(Step::Looked)
    }

    /// Looks at a leaf, from slot number `from` on and round, until the sample is as large as it is to be.
    fn sample(&self, eviction: Eviction, leaf: &Leaf, from: u64, sample: &mut Sample, rules: &Rules<'_>) -> Result<()> {
        let (att, mut number) = (self.att.variables(), from);
        for _ in 0..leaf.slots {
            if sample.left == 0 {
                break;
            }
            let offset = leaf.slot_at(number);
            number = leaf.after(number);
            let Some((content, hash)) = self.candidate(offset, rules)? else { continue };
            let expiry = if content.expires() { att.expiry_of(&content) } else { Ok(None) };
            let rank = match (expiry, eviction) {
                (Ok(Some(at)), _) if at <= *sample.now.get_or_insert_with(os::boottime_ns) => u64::MAX,
                (Ok(Some(at)), Eviction::Ttl) => u64::MAX - at,
                (Ok(_), Eviction::Lru) => u64::from(att.age_of(hash)),
                // It does not expire. (A record that cannot be read is not this call's to report.)
                _ => continue,
            };
            let better = sample.best.as_ref().is_none_or(|best| rank > best.rank);
            // What gives no memory back, or is damaged, does not count.
            if (better || content.kind() == Kind::Span) && !self.can_go(&content, rules)? {
                continue;
            }
            sample.left -= 1;
            if better {
                sample.best = Some(Victim { leaf: *leaf, offset, content, hash, rank });
            }
        }
        Ok(())
    }

    /// Returns what is in a slot, and its hash, if it is of a kind that may be evicted.
    fn candidate(&self, offset: u64, rules: &Rules<'_>) -> Result<Option<(Content, u64)>> {
        let att = self.att.variables();
        let content = att.mem.at::<Slot>(offset)?.copy();
        let Some(content) = content.filter(|content| content.is_variable() && !content.is_in_place()) else {
            return Ok(None);
        };
        let hash = att.hash_of(&content);
        Ok((!(rules.spares)(hash)).then_some((content, hash)))
    }

    /// Returns the sum of the charges of what may be evicted in the leaf of a hash, and where the next leaf begins.
    pub(super) fn charge_of_leaf(&self, hash: u64, rules: &Rules<'_>) -> Result<(u64, Option<u64>)> {
        let att = self.att.variables();
        let leaf = att.leaf_of(hash, TableOf::Variables)?;
        let mut sum = 0_u64;
        for number in 1..=leaf.slots {
            if let Some((content, _)) = self.candidate(leaf.slot_at(number), rules)? {
                if att.eviction == Some(Eviction::Lru) || content.expires() {
                    sum = sum.saturating_add(content.charge());
                }
            }
        }
        Ok((sum, leaf.end(hash)))
    }

    /// Returns how many bytes of memory the variables in the leaf of a hash take that stay, whatever is evicted, and
    /// where the next leaf begins.
    pub(super) fn stays_in_leaf(&self, hash: u64, rules: &Rules<'_>) -> Result<(u64, Option<u64>)> {
        let att = self.att.variables();
        let leaf = att.leaf_of(hash, TableOf::Variables)?;
        let mut sum = 0_u64;
        for number in 1..=leaf.slots {
            let offset = leaf.slot_at(number);
            let Some(content) = att.mem.at::<Slot>(offset)?.copy().filter(Content::is_variable) else { continue };
            let goes = self.candidate(offset, rules)?.is_some()
                && (att.eviction == Some(Eviction::Lru) || content.expires())
                && self.can_go(&content, rules)?;
            sum = sum.saturating_add(match content.kind() {
                _ if goes => 0,
                Kind::Span => self.arena().entry(content.granule()).unwrap_or_default().len() * GRANULE,
                _ => content.charge(),
            });
        }
        Ok((sum, leaf.end(hash)))
    }

    /// Returns whether a variable can be removed, and gives its memory back if that is asked for. One that is damaged
    /// stays: whoever reads it is told.
    fn can_go(&self, content: &Content, rules: &Rules<'_>) -> Result<bool> {
        Ok(match content.kind() {
            Kind::Inline => true,
            Kind::Record => record_at(self.att, content)?.is_some(),
            Kind::Span => {
                self.arena().entry(content.granule()).is_ok_and(|entry| entry.state() == SpanState::Live)
                    && (rules.pinned || !self.att.is_pinned(content.granule())?)
            }
            _ => false,
        })
    }

    /// Removes a victim, and counts it.
    fn evict(&mut self, victim: Victim) -> Result<Step> {
        self.discard(&victim.leaf, victim.offset, &victim.content)?;
        // CRASH: it is gone, and was not counted.
        crash_point!("evicted");
        if victim.rank != u64::MAX {
            let evicted = &self.att.state().evicted;
            evicted.store(evicted.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        // CRASH: those that wait for it are not woken; each looks again after its slice.
        crash_point!("victim-counted");
        Ok(Step::Evicted { hash: victim.hash, charge: victim.content.charge() })
    }
}
