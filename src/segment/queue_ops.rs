//! Queues through a handle, for Rust programs: values are bytes, as those of `put_bytes`. Protocol: docs/protocol.md,
//! "Queues".

use crate::codec::scalar::{self, Scalar};
use crate::coordination::AsCoordination;
use crate::coordination::queue_keys::ItemKey;
use crate::coordination::queue_look::QueueInfo;
use crate::coordination::queue_put::{NewItem, PutOutcome};
use crate::coordination::queue_take::{Taken, TakenItem, Taker, Wanted};
use crate::error::{Error, Result};
use crate::fallible;
use crate::key::Index;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::queue_holds::{HoldEnd, QueueHold};
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::segment::handle::Segment;
use crate::variables::AsVariables;
use crate::variables::read::FoundValue;
use crate::variables::stored::{Layout, Stored, ValueSource};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// An item of a queue that this process has taken. When it is dropped, the item is given back.
pub struct TakenBytes<'a> {
    segment: &'a Segment,
    hold: Option<QueueHold>,
    /// The value.
    pub bytes: Vec<u8>,
    /// How often the item was taken, this time included.
    pub attempts: u32,
}

impl Segment {
    /// Puts bytes at the end of a queue. Waits for room, `timeout` at most (`None`: without a bound). Returns `false`
    /// if there was none in time.
    ///
    /// # Errors
    /// [`Error::Full`] if the item can never fit; and as [`Segment::put`].
    pub fn queue_put<'a>(&self, queue: impl Into<Index<'a>>, bytes: &[u8], timeout: Option<Duration>) -> Result<bool> {
        let (head, tail) = scalar::bytes_frame(bytes.len());
        let stored = Stored { parts: &[head.as_slice(), bytes, &tail], layout: Layout::Pickle, expiry: None };
        let item =
            NewItem { stored, source: ValueSource::Anywhere, most: u64::MAX, next_collection: &AtomicU64::new(0) };
        let outcome = self.for_change()?.coordination().queue_put(&queue.into(), item, timeout, &Blocking)?;
        Ok(matches!(outcome, PutOutcome::Put))
    }

    /// Removes the first item of a queue and returns it. Waits for one, `timeout` at most. `None`: none came.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn queue_get<'a>(&self, queue: impl Into<Index<'a>>, timeout: Option<Duration>) -> Result<Option<Vec<u8>>> {
        let Some(mut taken) = self.queue_got(&queue.into(), Wanted::Value, timeout)? else { return Ok(None) };
        let bytes = std::mem::take(&mut taken.bytes);
        // A large item is held until it is read.
        if taken.hold.is_some() {
            taken.done()?;
        }
        Ok(Some(bytes))
    }

    /// Takes the first item of a queue. Waits for one, `timeout` at most. `None`: none came.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn queue_take<'a>(
        &self,
        queue: impl Into<Index<'a>>,
        timeout: Option<Duration>,
    ) -> Result<Option<TakenBytes<'_>>> {
        self.queue_got(&queue.into(), Wanted::Hold(self.thread().handle), timeout)
    }

    /// Removes the items of a queue that wait. Returns how many there were.
    ///
    /// # Errors
    /// As [`Segment::remove`].
    pub fn queue_clear<'a>(&self, queue: impl Into<Index<'a>>) -> Result<u64> {
        self.for_change()?.coordination().clear_queue(&queue.into(), &Blocking)
    }

    /// The queues that have items.
    ///
    /// # Errors
    /// As [`Segment::get_pickle`].
    pub fn queues(&self) -> Result<Vec<QueueInfo>> {
        self.attachment()?.coordination().queues(&Blocking)
    }

    fn queue_got(
        &self,
        queue: &Index<'_>,
        wanted: Wanted,
        timeout: Option<Duration>,
    ) -> Result<Option<TakenBytes<'_>>> {
        let (mut scratch, taker) = (Scratch::new(), Taker::default());
        let att = self.for_change()?;
        let taken = att.coordination().queue_take(queue, wanted, timeout, (&mut scratch, &taker), &Blocking)?;
        let Some(TakenItem { value, hold, attempts }) = taken else { return Ok(None) };
        // From here on the item is given back if anything fails.
        let mut taken = TakenBytes { segment: self, hold, bytes: Vec::new(), attempts };
        let pickle = match value {
            Taken::Small(start) => fallible::copied(&scratch.bytes()[start..], "an item")?,
            Taken::Large => self.read_held(taken.hold.as_ref())?,
        };
        match scalar::decode(&pickle) {
            Some(Scalar::Bytes(bytes)) => taken.bytes = fallible::copied(bytes, "an item")?,
            _ => return Err(Error::Invalid("the item is not bytes".into())),
        }
        Ok(Some(taken))
    }

    /// Reads the pickle of a large item that this process holds, so that it stays.
    fn read_held(&self, hold: Option<&QueueHold>) -> Result<Vec<u8>> {
        let key = hold.map_or(ItemKey::new(0, 0), |hold| ItemKey::new(hold.queue, hold.ticket));
        let (att, mut backoff) = (self.attachment()?, Backoff::default());
        loop {
            let found = att.variables().find_entry(&key.name(), &mut Scratch::new(), &Blocking)?;
            let found = found.ok_or_else(|| Error::corrupt("an item that is held"))?;
            if let FoundValue::Large(large) = att.variables().value_of(found, &Blocking)? {
                if let Some(pickle) = large.pickle(&Blocking)? {
                    return Ok(pickle);
                }
            }
            // The value was moved while it was copied.
            backoff.again(Obstacle::Replaced, &att, &Blocking)?;
        }
    }
}

impl TakenBytes<'_> {
    /// Finishes the item: it is gone. Returns `false` if this process does not hold it any more.
    ///
    /// # Errors
    /// As [`Segment::remove`].
    pub fn done(mut self) -> Result<bool> {
        self.end(HoldEnd::Done, &Blocking)
    }

    /// Gives the item back: it is the first again.
    ///
    /// # Errors
    /// As [`Segment::put`].
    pub fn give_back(mut self) -> Result<bool> {
        self.end(HoldEnd::GivenBack, &Blocking)
    }

    fn end(&mut self, end: HoldEnd, policy: &dyn WaitPolicy) -> Result<bool> {
        let Some(hold) = &self.hold else { return Ok(false) };
        let ended = self.segment.attachment()?.coordination().end_hold(hold, end, policy)?;
        self.hold = None;
        Ok(ended)
    }
}

impl Drop for TakenBytes<'_> {
    fn drop(&mut self) {
        if let (Some(hold), Ok(att)) = (&self.hold, self.segment.attachment()) {
            att.coordination().give_back_or_put_off(hold, &Blocking);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::segment::options::Options;

    fn segment(name: &str, size: u64) -> Segment {
        let key = Key::text(&format!("queue-rs-{}-{name}", crate::os::pid())).unwrap();
        Segment::attach(key, &Options { size: Some(size), ..Options::default() }).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn items_come_out_in_order_and_what_is_given_back_comes_first() {
        let segment = segment("order", 64 << 20);
        for (number, len) in [3, 400, 100_000, 5_000, 40_000].into_iter().enumerate() {
            assert!(segment.queue_put("jobs", &vec![number as u8; len], None).unwrap());
            segment.check().unwrap();
        }
        let first = segment.queue_take("jobs", None).unwrap().unwrap();
        let second = segment.queue_take("jobs", None).unwrap().unwrap();
        assert_eq!((first.bytes.len(), second.bytes.len(), first.attempts), (3, 400, 1));
        segment.check().unwrap();
        drop(first);
        assert!(second.done().unwrap());
        segment.check().unwrap();
        for (number, len) in [(0, 3), (2, 100_000), (3, 5_000), (4, 40_000)] {
            assert_eq!(segment.queue_get("jobs", None).unwrap().unwrap(), vec![number; len]);
            segment.check().unwrap();
        }
        assert!(segment.queue_get("jobs", Some(Duration::ZERO)).unwrap().is_none());
        let report = segment.check().unwrap();
        assert_eq!((report.used, report.blocks, report.live), (0, 0, 0));
        segment.destroy().unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn as_many_items_as_may_be_are_held_and_the_record_and_an_item_share_a_class() {
        let segment = segment("many", 64 << 20);
        // With 32 entries the record of the queue has the length class of these items.
        for number in 0..700_u64 {
            let value = [&number.to_le_bytes()[..], &[0; 1_060]].concat();
            assert!(segment.queue_put(1, &value, None).unwrap());
        }
        let mut held = Vec::new();
        while let Some(taken) = segment.queue_take(1, Some(Duration::ZERO)).unwrap() {
            assert_eq!(taken.bytes[..8], (held.len() as u64).to_le_bytes());
            held.push(taken);
        }
        assert_eq!(held.len(), crate::format::QUEUE_ENTRIES as usize);
        let present = segment.info().unwrap().resident;
        for _ in 0..100 {
            assert!(segment.queue_put(1, &[0; 1_068], Some(Duration::ZERO)).unwrap());
        }
        assert!(segment.info().unwrap().resident < present + (1 << 20));
        segment.check().unwrap();
        assert!(held.pop().unwrap().done().unwrap());
        held.push(segment.queue_take(1, Some(Duration::ZERO)).unwrap().unwrap());
        drop(held);
        segment.check().unwrap();
        assert_eq!(segment.queues().unwrap()[0].waiting, 799);
        assert_eq!(segment.queue_clear(1).unwrap(), 799);
        assert_eq!(segment.check().unwrap().used, 0);
        segment.destroy().unwrap();
    }

    /// Does something once, after what is slow: a value that was copied without a lock.
    struct Meanwhile<F: Fn()>(F);

    impl<F: Fn()> WaitPolicy for Meanwhile<F> {
        fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
            slow();
            (self.0)();
        }
        fn interrupted(&self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn f13_a_large_item_that_finds_no_room_after_the_last_handle_was_detached_leaves_no_span() {
        let mine = segment("detached", 64 << 20);
        let policy = Meanwhile(|| {
            if !mine.detached() {
                assert!(mine.queue_put("jobs", b"the one that fits", None).unwrap());
                mine.detach();
            }
        });
        let parts: &[&[u8]] = &[&[b'.'; 1 << 20]];
        let item = NewItem {
            stored: Stored { parts, layout: Layout::Pickle, expiry: None },
            source: ValueSource::Anywhere,
            most: 1,
            next_collection: &AtomicU64::new(0),
        };
        let put = {
            let handle = mine.for_change().unwrap();
            handle.coordination().queue_put(&"jobs".into(), item, Some(Duration::ZERO), &policy).unwrap()
        };
        assert!(matches!(put, PutOutcome::QueueFull) && mine.detached());
        let again = segment("detached", 64 << 20);
        let report = again.check().unwrap();
        assert_eq!((report.busy, again.info().unwrap().attached), (0, 1), "{report:?}");
        again.destroy().unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn locks_beside_a_long_queue_are_counted_without_its_items() {
        let segment = segment("locks", 64 << 20);
        for _ in 0..70_000 {
            segment.queue_put(1, &[0; 9], None).unwrap();
        }
        let guards: Vec<_> = (0..500).map(|name| segment.lock(name, Some(Duration::ZERO)).unwrap()).collect();
        assert!(guards.iter().all(Option::is_some));
        segment.check().unwrap();
        segment.clear().unwrap();
        assert_eq!(segment.queues().unwrap()[0].waiting, 70_000);
        segment.trim(&Blocking).unwrap();
        segment.check().unwrap();
        assert_eq!(segment.queue_clear(1).unwrap(), 70_000);
        drop(guards);
        segment.trim(&Blocking).unwrap();
        let report = segment.check().unwrap();
        assert_eq!((report.used, report.locks), (0, 0));
        assert!(report.slots < 4_096, "the table of the names is as small as it was: {report:?}");
        segment.destroy().unwrap();
    }
}
