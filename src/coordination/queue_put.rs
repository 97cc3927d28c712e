//! Putting an item into a queue, and waiting for room.
//!
//! The protocol is "Queues" in docs/protocol.md (*put*, **A queue that is full**, **A full segment**).

use crate::coordination::queue_edit::WorkArounds;
use crate::coordination::queue_keys::ItemKey;
use crate::coordination::queue_record::Parts;
use crate::coordination::queue_state::QueueState;
use crate::coordination::{Coordination, CoordinationWriter};
use crate::error::{Error, Result};
use crate::format::{ITEM_KEY, QUEUE_HEAD, SLOT, VERSION_MAX, granules_of, sleeper_of};
use crate::heap::span_writer::FilledSpan;
use crate::key::Index;
use crate::os;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::call_guard::CallGuard;
use crate::process::deadline::WithDeadline;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::wake_word;
use crate::variables::change::LOCKED_COPY_MAX;
use crate::variables::evict::{Charges, Evictions};
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::{Stored, ValueSource};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

/// How long one try waits for the writer lock: long enough to take the writer lock over from a dead owner.
pub(super) const TRY_LIMIT: Duration = Duration::from_millis(50);
/// How often a call that waits for room in a queue looks again.
const SLICE: Duration = Duration::from_millis(100);
/// The first pause of a call that waits for room in the segment, of which nobody tells it.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest such pause, for a small item and for one that a try copies whole.
const LONGEST_PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// From this many bytes on an item counts as large for that.
const LARGE: u64 = 1 << 20;
/// How often a call that waits for room in the segment collects what has expired, in milliseconds.
const COLLECT_EVERY_MS: u64 = 1_000;

/// Bytes of an item's record before its value: the instant of the put, and the key.
const PREFIX: usize = 8 + ITEM_KEY;

/// Private to the process: a value to be put into a queue.
#[derive(Clone, Copy)]
pub struct NewItem<'a> {
    /// The value.
    pub stored: Stored<'a>,
    /// Where its bytes lie.
    pub source: ValueSource,
    /// Only if fewer items than this wait. `u64::MAX`: in any case.
    pub most: u64,
    /// The caller's own: when it is time to collect again what has expired, in milliseconds of the monotonic clock.
    /// Zero before the first time.
    pub next_collection: &'a AtomicU64,
}

/// How a put ended.
#[derive(Debug)]
pub enum PutOutcome {
    /// The item is in the queue.
    Put,
    /// As many items wait as may.
    QueueFull,
    /// Another process held the writer lock until the time was over.
    Busy,
    /// The segment has no room for the item, as this error says.
    SegmentFull(Error),
}

impl Coordination {
    /// Puts an item into a queue. Waits for room, `timeout` at most (`None`: without a bound).
    ///
    /// # Errors
    /// [`Error::Full`] if the item can never fit; and others.
    pub fn queue_put(
        &self,
        name: &Index<'_>,
        item: NewItem<'_>,
        timeout: Option<Duration>,
        policy: &dyn WaitPolicy,
    ) -> Result<PutOutcome> {
        name.check_length()?;
        let hash = self.queue_hash(name);
        let deadline = |timeout: Duration| Instant::now().checked_add(timeout);
        let mut until = WithDeadline::new(timeout.and_then(|timeout| deadline(timeout.max(TRY_LIMIT))), policy);
        let end = timeout.and_then(deadline);
        let Some(word) = self.wake_word(!hash) else { return Err(Error::corrupt("the wake words")) };
        let (mut waits, mut count, mut pause) = (false, 0, FIRST_PAUSE);
        let is_large = item.stored.parts.iter().map(|part| part.len() as u64).sum::<u64>() >= LARGE;
        let longest = LONGEST_PAUSE[usize::from(is_large)];
        loop {
            let tried = self.try_put(name, hash, item, &until);
            let full = match until.outcome(tried)? {
                None => return Ok(PutOutcome::Busy),
                Some(PutOutcome::Put) => {
                    self.notify_released(hash, false);
                    if waits {
                        // Other waiters may sleep behind this one. With the mark the next removal wakes one of them.
                        wake_word::mark(&word.released, sleeper_of(!hash));
                        self.notify_released(!hash, false);
                    }
                    return Ok(PutOutcome::Put);
                }
                Some(PutOutcome::SegmentFull(error)) if !self.may_fit_later(&error) => return Err(error),
                Some(full) => full,
            };
            let in_segment = matches!(full, PutOutcome::SegmentFull(_));
            if in_segment && os::monotonic_ms() >= item.next_collection.load(Ordering::Relaxed) {
                // Nothing is full before what has expired is collected. A writer that is stopped must not make that
                // last longer than the call may.
                let collected = until.outcome(self.collect_expired(&until))?;
                item.next_collection.store(os::monotonic_ms() + COLLECT_EVERY_MS, Ordering::Relaxed);
                match collected {
                    None => return Ok(full),
                    Some(true) => continue,
                    Some(false) => {}
                }
            }
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(full);
            }
            // The first look had no mark, so that a queue with room costs nothing. It is repeated with one.
            if std::mem::replace(&mut waits, true) {
                let slice = if in_segment { pause } else { SLICE };
                pause = (pause * 2).min(longest);
                policy.sleep(&Sleep::on_bits(&word.released.count, count, slice, sleeper_of(!hash)).at_most(left));
                if let Err(error) = policy.interrupted().and_then(|()| self.check_not_gone()) {
                    // The wake may have been this waiter's: the next one has it.
                    self.notify_released(!hash, false);
                    return Err(error);
                }
            }
            until.deadline = end.map(|end| end.max(Instant::now() + TRY_LIMIT));
            count = wake_word::mark(&word.released, sleeper_of(!hash));
        }
    }

    /// Returns whether what does not fit now may fit once others have removed something. A process's own limits stay.
    fn may_fit_later(&self, error: &Error) -> bool {
        let Error::Full { needed, size, .. } = error else { return false };
        let limit = self.state().limit.load(Ordering::Relaxed);
        needed <= size && (*size == limit || self.file_system().is_ok_and(|(total, _)| total == *size))
    }

    /// Puts an item into a queue if it has room. Where the segment has none, others are evicted if it evicts anything.
    fn try_put(&self, name: &Index<'_>, hash: u64, item: NewItem<'_>, policy: &dyn WaitPolicy) -> Result<PutOutcome> {
        // Those that wait for what was evicted are woken when this is dropped, after the writer lock.
        let mut evictions = None;
        loop {
            let full = match self.put_now(name, hash, item, &mut evictions, policy) {
                Err(full @ Error::Full { .. }) => full,
                other => return other,
            };
            let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
            match self.evict_for_memory(full, evictions, &|_| false, policy) {
                Err(full @ Error::Full { .. }) => return Ok(PutOutcome::SegmentFull(full)),
                other => other?,
            }
        }
    }

    /// Puts an item into a queue if it has room.
    ///
    /// # Errors
    /// [`Error::Full`] if the segment has none; and others.
    fn put_now<'a>(
        &'a self,
        name: &Index<'_>,
        hash: u64,
        item: NewItem<'_>,
        evictions: &mut Option<Evictions<'a>>,
        policy: &dyn WaitPolicy,
    ) -> Result<PutOutcome> {
        // Dropped in the reverse order, as in `Variables::put`: the call ends after the span.
        let (mut call_guard, mut filled) = (None::<CallGuard<'_>>, None::<FilledSpan<'_>>);
        let (mut around, mut backoff, mut scratch) = (WorkArounds::default(), Backoff::default(), Scratch::new());
        let now = os::boottime_ns().clamp(1, i64::MAX as u64);
        let stored = Stored { expiry: Some(now), ..item.stored };
        let mut held = None;
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = match held.take() {
                Some(writer) => writer,
                None => self.write(policy)?,
            };
            let mut found = writer.find_queue(name, Parts::Numbers, &mut scratch)?;
            let is_new = found.state.is_none();
            let number = self.state().version.load(Ordering::Relaxed).saturating_add(1);
            let mut state = found.state.take().unwrap_or_else(|| QueueState::new(number));
            if state.waiting() >= item.most {
                return Ok(PutOutcome::QueueFull);
            }
            if state.tail + 1 >= VERSION_MAX {
                return Err(Error::corrupt("the tickets of a queue"));
            }
            let (key, mut prefix) = (ItemKey::new(state.queue, state.tail), [0; PREFIX]);
            prefix[..8].copy_from_slice(&now.to_le_bytes());
            prefix[8..].copy_from_slice(key.bytes());
            let item_hash = key.name().hash(self.identity.hash_key);
            let plan = StorePlan::with_prefix(key.name(), item_hash, Cow::Borrowed(&prefix), stored);
            let mut edit = writer.queue_edit();
            let queue_charge = if is_new { SLOT + QUEUE_HEAD + name.record_key().len() as u64 } else { 0 };
            let charges = Charges { new: plan.charge() + queue_charge, old: 0 };
            if let Err(full) = writer.check_limit(None, charges.new, &edit.change) {
                if self.eviction.is_some() {
                    let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
                    let (writer, fits) = self.evict_for_limit(writer.0, charges, &|_| false, evictions, policy)?;
                    if fits {
                        held = Some(CoordinationWriter(writer));
                        continue;
                    }
                }
                return Err(full);
            }
            let content = match plan.placement {
                Placement::Block(class) => match writer.edit_record(&mut edit, &plan, class, WorkArounds::default())? {
                    Some(content) => content,
                    None => {
                        if !writer.slab_from_warm(class)? {
                            drop(writer);
                            let _call_guard = self.enter_call();
                            self.add_blocks(class, false, policy)?;
                        }
                        continue;
                    }
                },
                _ => {
                    let at_once = item.source == ValueSource::OwnMemory && plan.record_len <= LOCKED_COPY_MAX;
                    let warm = match at_once && filled.is_none() {
                        true => writer.put_in_warm_span(&plan, &mut edit.change)?,
                        false => None,
                    };
                    match (warm, &filled) {
                        (Some(content), _) => content,
                        // A span that is not this process's is the parent's: a signal handler forked during a wait.
                        (None, Some(filled)) if writer.owns(filled.span.granule)? => {
                            // The span was filled before the ticket was known: only now the key is.
                            // SYNC: as in `write_record`.
                            fence(Ordering::Release);
                            let at = self.identity.geometry.granule_at(filled.span.granule) + plan.lead();
                            self.mem.write_unpublished(at, &prefix)?;
                            writer.put_in_span(&plan, filled, &mut edit.change)?
                        }
                        _ => {
                            let len = granules_of(plan.lead() + plan.record_len);
                            let reserved = writer.reserve_present(len)?;
                            // The call stays counted in until the span is published: see `release_within_call`.
                            if call_guard.as_ref().is_none_or(|guard| guard.epoch != os::fork::epoch()) {
                                call_guard = Some(self.enter_call());
                            }
                            drop(writer);
                            let span = match reserved {
                                Some(span) => span,
                                None => self.reserve_span(len, policy)?,
                            };
                            filled = Some(self.fill_span(span, plan.lead(), &prefix, stored.parts, policy)?);
                            continue;
                        }
                    }
                }
            };
            state.tail += 1;
            state.bytes = state.bytes.saturating_add(content.charge());
            let item_place = writer.find_place_of_hash(&key.name(), item_hash, &mut scratch)?;
            if item_place.occupant().is_some() {
                return Err(Error::corrupt("an item that is there before it is put"));
            }
            let lacking = match writer.edit_store(&mut edit, &item_place, item_hash, content, around)? {
                None => writer.edit_queue(&mut edit, name, &found, &mut state, around)?,
                lacking => lacking,
            };
            if let Some(lacking) = lacking {
                drop(writer);
                self.obtain_for_queue(lacking, &mut around, policy)?;
                continue;
            }
            writer.commit_queue(&edit)?;
            if let Some(filled) = filled {
                filled.span.published();
            }
            // CRASH: the item is in the queue and nobody was woken: the sleepers look again after their slice.
            crash_point!("queue-put");
            drop(writer);
            debug_assert_eq!(hash, found.hash);
            self.limit_warm_memory(policy);
            return Ok(PutOutcome::Put);
        }
    }
}
