//! Getting and taking the first item of a queue, and reading its value.

use super::handle::PyQueue;
use crate::coordination::AsCoordination;
use crate::coordination::queue_keys::ItemKey;
use crate::coordination::queue_take::{Taken, Wanted};
use crate::error::Error;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::queue_holds::{HoldEnd, QueueHold};
use crate::py::calls;
use crate::py::create;
use crate::py::decode::{self, LargeRead, ValueOf};
use crate::py::errors;
use crate::py::read_mode::ReadMode;
use crate::py::wait::{PyWait, StopWhenDetached, UninterruptibleWait};
use crate::variables::AsVariables;
use crate::variables::read::FoundValue;
use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// So many times the bytes of a value in the segment: the objects of plain data need less. An empty dict, which is a byte
/// or two of a pickle, takes 72.
const PLENTY: u64 = 100;

/// What a call got: the value, and what this process holds then.
pub type GotItem = (Py<PyAny>, Option<QueueHold>);

impl PyQueue {
    /// Gets or takes the first item. `None`: none came in time.
    #[inline]
    pub(super) fn take_within(
        &self,
        py: Python<'_>,
        attempts: Option<&AtomicU32>,
        timeout: Option<Duration>,
    ) -> PyResult<Option<GotItem>> {
        let hold = attempts.is_some();
        let (policy, segment) = (PyWait::new(py, self.inner().key()), self.inner());
        let att = segment.for_change().map_err(|error| policy.error(error))?;
        let (name, waits, mut scratch) = (self.name.as_index(), StopWhenDetached(&policy, segment), Scratch::new());
        let wanted = if hold { Wanted::Hold(segment.thread().handle) } else { Wanted::Value };
        let taken = att.coordination().queue_take(&name, wanted, timeout, (&mut scratch, &self.taker), &waits);
        let Some(taken) = taken.map_err(|error| self.error(py, &policy, error))? else { return Ok(None) };
        if let Some(attempts) = attempts {
            // Also where the value cannot be rebuilt: the caller then learns how often that has happened.
            attempts.store(taken.attempts, Ordering::Relaxed);
        }
        let mut len = 0;
        let mut value = match taken.value {
            Taken::Small(start) => {
                decode::decode(py, ValueOf::Item(&name), &scratch.bytes()[start..], segment.trusted(), ReadMode::Own)
            }
            Taken::Large => self.read_large(py, &policy, taken.hold.as_ref(), &mut len),
        };
        let Some(held) = taken.hold else { return value.map(|value| Some((value, None))) };
        if value.is_ok() && hold && !segment.detached() {
            return Ok(Some((value?, Some(held))));
        }
        // Either the caller wanted the value alone, or it cannot be had. An item that cannot be decoded is gone, as it
        // would be if it were a small one: else it would be in the way of all others.
        // What says nothing of the value does not come again: what a signal handler raised, a lack of memory.
        let gone = match &value {
            Ok(_) => !hold,
            Err(error) if hold || !error.is_instance_of::<PyException>(py) || segment.detached() => false,
            Err(error) => {
                let again = self.read_large(py, &policy, Some(&held), &mut len);
                match errors::comes_again(py, error, &again) {
                    Ok(comes_again) => comes_again && !segment.detached() && !lacks_memory(py, error, len),
                    Err(interrupt) => {
                        value = Err(interrupt);
                        false
                    }
                }
            }
        };
        let waits = UninterruptibleWait::new(py);
        if gone {
            let done = att.coordination().end_hold(&held, HoldEnd::Done, &waits);
            if done.is_err() && !att.coordination().give_back_or_put_off(&held, &waits) {
                self.end_later(py);
            }
            waits.end(done.map(drop).map_err(|error| errors::of_queue(py, segment.key(), &name, error)))?;
        } else {
            if !att.coordination().give_back_or_put_off(&held, &waits) {
                self.end_later(py);
            }
            waits.end(Ok(()))?;
        }
        let value = value?;
        if hold {
            // Another thread detached the handle meanwhile.
            return Err(errors::of_segment(py, segment.key(), Error::Detached));
        }
        Ok(Some((value, None)))
    }

    /// Reads the value of a large item that this process holds, so that it stays. `len` becomes its length in bytes.
    fn read_large(
        &self,
        py: Python<'_>,
        policy: &PyWait<'_>,
        hold: Option<&QueueHold>,
        len: &mut u64,
    ) -> PyResult<Py<PyAny>> {
        let (segment, name) = (self.inner(), self.name.as_index());
        let key = hold.map_or(ItemKey::new(0, 0), |hold| ItemKey::new(hold.queue, hold.ticket));
        let mut backoff = Backoff::default();
        loop {
            let att = segment.attachment().map_err(|error| policy.error(error))?;
            let mut scratch = Scratch::new();
            let found = att.variables().find_entry(&key.name(), &mut scratch, policy);
            let found = found.and_then(|found| found.ok_or_else(|| Error::corrupt("an item that is held")));
            let value = found.and_then(|found| att.variables().value_of(found, policy));
            if let FoundValue::Large(large) = value.map_err(|error| self.error(py, policy, error))? {
                *len = large.len();
                let read =
                    LargeRead { py, policy, segment, of: ValueOf::Item(&name), mode: ReadMode::Own }.read(large)?;
                if let Some(value) = read {
                    return Ok(value);
                }
            }
            // The value was moved while it was copied.
            backoff.again(Obstacle::Replaced, &att, policy).map_err(|error| policy.error(error))?;
        }
    }

    /// Leaves to a thread the holds that could not be ended now. Where no thread can be started, this process's next
    /// acquisition of the writer lock does it.
    #[cold]
    pub(super) fn end_later(&self, py: Python<'_>) {
        let (segment, id) = (self.segment.clone_ref(py), self.inner().id());
        let started = create::bytes(py, &id)
            .and_then(|id| calls::attribute(py, c"shmvar._queue", c"end_later")?.call1((segment, id)));
        drop(started);
    }
}

/// Whether an error says that this process lacks the memory for a value of `len` bytes. Where there is plenty of memory
/// all the same, the value asks for more than there can be, and would do so for ever.
#[cold]
fn lacks_memory(py: Python<'_>, error: &PyErr, len: u64) -> bool {
    let plenty = usize::try_from(len.saturating_mul(PLENTY)).unwrap_or(usize::MAX).min(isize::MAX as usize / 2);
    error.is_instance_of::<PyMemoryError>(py) && create::bytearray_with(py, plenty, |_| Ok(())).is_err()
}
