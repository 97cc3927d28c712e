//! Looking at queues without the writer lock: how many items wait, and which queues there are.
//!
//! The protocol is "Queues" in docs/protocol.md (**What a reader sees**).

use crate::coordination::Coordination;
#[cfg(feature = "python")]
use crate::coordination::queue_keys::ItemKey;
use crate::coordination::queue_keys::NOBODY;
use crate::coordination::queue_record::Parts;
use crate::coordination::queue_state::QueueState;
use crate::error::{Error, Result};
#[cfg(feature = "python")]
use crate::fallible;
use crate::key::{Index, IndexBuf, Name};
use crate::os::mem::Scratch;
use crate::process::access::{MappedAccess, PreadAccess, reading};
#[cfg(feature = "python")]
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::Kind;
use crate::variables::found::Found;
use crate::variables::leaf::TableOf;
#[cfg(feature = "python")]
use crate::variables::read::FoundValue;
use crate::variables::scan::ScanPass;
use std::sync::atomic::Ordering;

/// A queue in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueInfo {
    /// Its name.
    pub name: IndexBuf,
    /// Items that wait. Those that a dead process holds are among them.
    pub waiting: u64,
    /// Items that somebody holds.
    pub held: u64,
    /// Bytes that the queue and its items are charged.
    pub used: u64,
}

impl Coordination {
    /// Reads what the record of a queue says, without the writer lock. `None`: the queue has no slot, and so no items.
    pub fn read_queue(&self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<Option<QueueState>> {
        let mut scratch = Scratch::new();
        let Some(found) = self.find_entry(&Name::of_queue(name), &mut scratch, policy)? else { return Ok(None) };
        let bytes = match found.content.kind() {
            Kind::Record => scratch.bytes().get(found.content.prefix_len() as usize..),
            _ => None,
        };
        let size = self.identity.geometry.length;
        QueueState::parse(bytes.unwrap_or_default(), found.content.has_second_head(), Parts::All, size).map(Some)
    }

    /// Returns how many items wait in a queue. What a dead process holds waits: the next call that looks finds that.
    pub fn queue_len(&self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<u64> {
        name.check_length()?;
        Ok(self.read_queue(name, policy)?.map_or(0, |state| state.items() - self.held_by_living(&state)))
    }

    /// Returns the queues that have items.
    pub fn queues(&self, policy: &dyn WaitPolicy) -> Result<Vec<QueueInfo>> {
        if self.state().queued.load(Ordering::Relaxed) == 0 {
            return Ok(Vec::new());
        }
        self.scan(TableOf::Names, |pass, found| self.read_queue_info(pass, &found), policy)
    }

    /// Reads a queue that a pass found. `None`: it is none, or changed meanwhile.
    fn read_queue_info(&self, pass: &ScanPass<'_>, found: &Found) -> Result<Option<QueueInfo>> {
        Ok(self.read_queue_found(pass, found)?.map(|(name, found, state)| self.info_of(name, &found, &state)))
    }

    /// Reads what the record of a queue says that a pass found: its name, its slot as it was then, and its state.
    /// `None`: it is none, or changed meanwhile.
    pub(super) fn read_queue_found(
        &self,
        pass: &ScanPass<'_>,
        found: &Found,
    ) -> Result<Option<(IndexBuf, Found, QueueState)>> {
        let mut found = *found;
        // A queue changes with each item, so one look may be one too few.
        for _ in 0..crate::variables::scan::ATTEMPTS_PER_SLOT {
            if !found.content.is_entry() || !found.content.is_queue() {
                return Ok(None);
            }
            if let Some((name, state)) = self.queue_if_unchanged(&found)? {
                return Ok(Some((name, found, state)));
            }
            let Some(now) = pass.reload(&found)? else { return Ok(None) };
            found = now;
        }
        pass.give_up();
        Ok(None)
    }

    fn queue_if_unchanged(&self, found: &Found) -> Result<Option<(IndexBuf, QueueState)>> {
        let Some(name) = self.index_if_unchanged(found)? else { return Ok(None) };
        let (mut scratch, len) = (Scratch::new(), found.content.record_len());
        if found.content.kind() != Kind::Record {
            return if self.is_unchanged(found)? { Err(Error::corrupt("a queue")) } else { Ok(None) };
        }
        if !reading!(self, |access| self.read_record(found, len, &mut scratch, access))? || !self.is_unchanged(found)? {
            return Ok(None);
        }
        let bytes = scratch.bytes().get(found.content.prefix_len() as usize..);
        let size = self.identity.geometry.length;
        let state = QueueState::parse(bytes.unwrap_or_default(), found.content.has_second_head(), Parts::All, size)?;
        Ok(Some((name, state)))
    }

    /// Returns how many items living processes hold. (A handle that may not ask takes a holder for alive.)
    fn held_by_living(&self, state: &QueueState) -> u64 {
        let (mut held, mut asked) = (0, None);
        for entry in state.entries.iter().filter(|entry| entry.owner != NOBODY) {
            let lives = match asked {
                Some((owner, lives)) if owner == entry.owner => lives,
                _ => self.holder_lives(entry.owner).unwrap_or(true),
            };
            asked = Some((entry.owner, lives));
            held += u64::from(lives);
        }
        held
    }

    /// Returns a queue in numbers.
    fn info_of(&self, name: IndexBuf, found: &Found, state: &QueueState) -> QueueInfo {
        let held = self.held_by_living(state);
        let used = found.content.charge().saturating_add(state.bytes);
        QueueInfo { name, waiting: state.items() - held, held, used }
    }

    /// Reads the pickle of an item, which stays where it is. `None`: it is not there (any more). Dumps call this.
    #[cfg(feature = "python")]
    pub fn queue_item_pickle(&self, queue: u64, ticket: u64, policy: &dyn WaitPolicy) -> Result<Option<Vec<u8>>> {
        let (key, mut backoff) = (ItemKey::new(queue, ticket), Backoff::default());
        loop {
            let mut scratch = Scratch::new();
            let Some(found) = self.find_entry(&key.name(), &mut scratch, policy)? else { return Ok(None) };
            match self.value_of(found, policy)? {
                FoundValue::Record { prefix, .. } => {
                    return fallible::copied(&scratch.bytes()[prefix..], "an item").map(Some);
                }
                FoundValue::Large(large) => {
                    if let Some(pickle) = large.pickle(policy)? {
                        return Ok(Some(pickle));
                    }
                }
                FoundValue::Inline { .. } => return Err(Error::corrupt("an item in its slot")),
            }
            backoff.again(Obstacle::Replaced, self, policy)?;
        }
    }

    /// Marks the wake word of those who wait for an item of a queue, or for room in it, for a watcher; then looks
    /// whether a try may help (an item waits, or fewer items wait than `most`), and whether somebody holds items.
    #[cfg(feature = "python")]
    pub fn may_try_queue(&self, name: &Index<'_>, most: Option<u64>, policy: &dyn WaitPolicy) -> Result<(bool, bool)> {
        let hash = self.queue_hash(name);
        let hash = if most.is_some() { !hash } else { hash };
        let Some(word) = self.wake_word(hash) else { return Err(Error::corrupt("the wake words")) };
        if self.mem.writable() {
            crate::sync::wake_word::mark(&word.released, crate::format::WATCHER);
        }
        self.check_not_gone()?;
        let state = self.read_queue(name, policy)?;
        let waiting = state.as_ref().map_or(0, QueueState::waiting);
        let held = state.as_ref().is_some_and(|state| state.items() > waiting);
        Ok((most.map_or(waiting > 0, |most| waiting < most), held))
    }
}
