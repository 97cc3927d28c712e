//! Getting and taking the first item of a queue, and waiting for one.
//!
//! The protocol is "Queues" in docs/protocol.md (*get*, *take*, **Wait for an item**).

use crate::coordination::Coordination;
use crate::coordination::queue_edit::WorkArounds;
use crate::coordination::queue_holders::Holders;
use crate::coordination::queue_put::TRY_LIMIT;
use crate::coordination::queue_record::Parts;
use crate::error::{Error, Result};
use crate::format::sleeper_of;
use crate::key::Index;
use crate::os;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::deadline::WithDeadline;
use crate::process::queue_holds::QueueHold;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::Kind;
use crate::sync::wake_word;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a waiter looks again, and how often the holders of items are asked whether they live, in milliseconds.
const LOOK_MS: u64 = 100;

/// How long a call that finds no item looks again, before it marks the wake word and sleeps.
const BRIEFLY: Duration = Duration::from_micros(20);
/// After a brief look in vain so many waits of the same caller sleep at once.
const SLEEPS_AFTER: u32 = 32;

/// Private to the process: what a caller remembers of a queue from one call to the next.
#[derive(Debug, Default)]
pub struct Taker {
    /// When it is time to ask again whether the holders of items live, in milliseconds of the monotonic clock.
    next_look: AtomicU64,
    /// How many waits are still to sleep at once, because items do not come within microseconds.
    sleeps: AtomicU32,
}

/// What a call wants of the first item that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The value: the item is gone then.
    Value,
    /// To hold the item, through the handle of this number.
    Hold(u64),
}

/// Private to the process: an item as a call got it.
#[derive(Debug)]
pub enum Taken {
    /// A small item: its record was copied to the scratch buffer, and the pickle begins at this byte.
    Small(usize),
    /// An item in a span of its own: it is held, and still to be read.
    Large,
}

/// Private to the process: what a call got.
#[derive(Debug)]
pub struct TakenItem {
    /// The value.
    pub value: Taken,
    /// What this process holds. `None`: the item is gone from the queue.
    pub hold: Option<QueueHold>,
    /// How often the item was taken.
    pub attempts: u32,
}

/// How one try ended.
enum TakeAttempt {
    /// The item, and whether others wait in the queue.
    Taken(TakenItem, bool),
    /// No item waits, or none can be taken now.
    Empty,
    /// Others hold items, and it is time to ask whether they live.
    Ask,
}

impl Coordination {
    /// Gets or takes the first item that waits in a queue. Waits for one, `timeout` at most (`None`: without a bound).
    /// Returns `None` if the time is over. A small item is copied to `scratch`.
    pub fn queue_take(
        &self,
        name: &Index<'_>,
        wanted: Wanted,
        timeout: Option<Duration>,
        (scratch, taker): (&mut Scratch, &Taker),
        policy: &dyn WaitPolicy,
    ) -> Result<Option<TakenItem>> {
        name.check_length()?;
        let hash = self.queue_hash(name);
        let Some(word) = self.wake_word(hash) else { return Err(Error::corrupt("the wake words")) };
        let deadline = |timeout: Duration| Instant::now().checked_add(timeout);
        let mut until = WithDeadline::new(timeout.and_then(|timeout| deadline(timeout.max(TRY_LIMIT))), policy);
        let end = timeout.and_then(deadline);
        let (mut waits, mut count) = (false, 0);
        let (mut holders, mut brief_end) = (Holders::default(), None);
        loop {
            let version = self.state().version.load(Ordering::Relaxed);
            let tried = self.try_take(name, wanted, (&mut holders, &taker.next_look), scratch, &until);
            match until.outcome(tried)? {
                None => return Ok(None),
                Some(TakeAttempt::Ask) => {
                    self.ask_holders(&mut holders)?;
                    taker.next_look.store(os::monotonic_ms() + LOOK_MS, Ordering::Relaxed);
                    continue;
                }
                Some(TakeAttempt::Taken(item, more)) => {
                    self.notify_released(!hash, false);
                    if waits {
                        // Other waiters may sleep behind this one. With the mark the next put wakes one of them; and
                        // if items wait now, one is woken now: two puts may have found one mark.
                        wake_word::mark(&word.released, sleeper_of(hash));
                        if more {
                            self.notify_released(hash, false);
                        }
                    }
                    return Ok(Some(item));
                }
                Some(TakeAttempt::Empty) => {}
            }
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            // An item that comes within microseconds costs neither side a system call.
            if !waits && self.changes_soon(version, *brief_end.get_or_insert_with(|| Instant::now() + BRIEFLY), taker) {
                continue;
            }
            // The first look had no mark, so that a queue with items costs nothing. It is repeated with one.
            if std::mem::replace(&mut waits, true) {
                let slice = Duration::from_millis(LOOK_MS);
                let sleep = Sleep::on_bits(&word.released.count, count, slice, sleeper_of(hash));
                policy.sleep(&sleep.at_most(left));
                if let Err(error) = policy.interrupted().and_then(|()| self.check_not_gone()) {
                    // The wake may have been this waiter's: the next one has it.
                    self.notify_released(hash, false);
                    return Err(error);
                }
                holders.asked = false;
            }
            until.deadline = end.map(|end| end.max(Instant::now() + TRY_LIMIT));
            count = wake_word::mark(&word.released, sleeper_of(hash));
        }
    }

    /// Looks until the segment has another version than this, or until the time is over. Returns whether it has.
    ///
    /// The interpreter's lock is not let go: where the item is to come from another thread of this process, the look is
    /// in vain, which is why the next ones are left out.
    fn changes_soon(&self, version: u64, end: Instant, taker: &Taker) -> bool {
        let sleeps = taker.sleeps.load(Ordering::Relaxed);
        if sleeps > 0 {
            taker.sleeps.store(sleeps - 1, Ordering::Relaxed);
            return false;
        }
        while Instant::now() < end {
            for _ in 0..16 {
                if self.state().version.load(Ordering::Relaxed) != version {
                    return true;
                }
                std::hint::spin_loop();
            }
            // Whoever is about to put an item may need this processor.
            std::thread::yield_now();
        }
        taker.sleeps.store(SLEEPS_AFTER, Ordering::Relaxed);
        false
    }

    /// Gets or takes the first item, if one waits.
    fn try_take(
        &self,
        name: &Index<'_>,
        wanted: Wanted,
        (holders, next_look): (&mut Holders, &AtomicU64),
        scratch: &mut Scratch,
        policy: &dyn WaitPolicy,
    ) -> Result<TakeAttempt> {
        let (mut around, mut backoff) = (WorkArounds::default(), Backoff::default());
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            let mut writer = self.write(policy)?;
            let own = self.holder_of(writer.number);
            let mut found = writer.find_queue(name, Parts::All, scratch)?;
            let Some(mut state) = found.state.take() else { return Ok(TakeAttempt::Empty) };
            // Also a call that does not wait gets what a dead taker holds.
            let due = || os::monotonic_ms() >= next_look.load(Ordering::Relaxed);
            if holders.give_back(&mut state, own, |state| state.first().is_none() || due())? {
                return Ok(TakeAttempt::Ask);
            }
            let Some(first) = state.first() else { return Ok(TakeAttempt::Empty) };
            let (queue, ticket) = (state.queue, state.ticket_of(first));
            let (place, item_hash, content) = match writer.find_item(queue, ticket, scratch) {
                Err(error @ Error::Corrupt(_)) => {
                    // Whatever has become of the item, the others are not to wait for it. The caller is told, once.
                    state.remove_waiting(first);
                    let mut edit = writer.queue_edit();
                    if writer.edit_queue(&mut edit, name, &found, &mut state, around)?.is_none() {
                        writer.commit_queue(&edit)?;
                    }
                    return Err(error);
                }
                other => other?,
            };
            let small = content.kind() == Kind::Record;
            let mut edit = writer.queue_edit();
            // A large item is held until it is read, also by a caller that wants it gone.
            let handle = match wanted {
                Wanted::Hold(handle) => Some(handle),
                Wanted::Value if small => None,
                Wanted::Value => Some(0),
            };
            let (attempts, hold) = match handle {
                Some(handle) => {
                    // The room for what is remembered comes first, because it may lack.
                    let hold = self.queues.holds.lock().prepare(name, (queue, ticket), handle)?;
                    match state.hold(first, own)? {
                        Some(attempts) => (attempts, Some(hold)),
                        // As many items are held as may be: it is as if none waited.
                        None => return Ok(TakeAttempt::Empty),
                    }
                }
                None => {
                    state.remove_waiting(first);
                    state.bytes = state.bytes.saturating_sub(content.charge());
                    writer.edit_remove(&mut edit, &place)?;
                    (0, None)
                }
            };
            if let Some(lacking) = writer.edit_queue(&mut edit, name, &found, &mut state, around)? {
                drop(writer);
                match self.obtain_for_queue(lacking, &mut around, policy) {
                    // There is no room for one more entry: it is as if no item waited, until one that is held is done.
                    Err(Error::Full { .. }) => return Ok(TakeAttempt::Empty),
                    obtained => obtained?,
                }
                continue;
            }
            writer.commit_queue(&edit)?;
            // CRASH: what was got is gone; what was taken is held by a dead participant, and the next call that looks
            // finds that.
            crash_point!("queue-taken");
            if let Some(hold) = &hold {
                self.queues.holds.lock().add(hold.clone());
                self.queues.any.store(true, Ordering::Relaxed);
            }
            let sparse = hold.is_none() && self.is_sparse(&place.leaf)?;
            drop(writer);
            if hold.is_none() {
                self.after_removal(sparse.then_some((place.leaf, item_hash)), edit.freed, policy);
            }
            let value = if small { Taken::Small(content.prefix_len() as usize) } else { Taken::Large };
            return Ok(TakeAttempt::Taken(TakenItem { value, hold, attempts }, state.first().is_some()));
        }
    }
}
