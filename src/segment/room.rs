//! Making room: pages, zones, spans.
//!
//! Everything here that can wait or fail happens with the lock let go; afterwards the caller looks again.

use crate::error::{Error, Result};
use crate::layout::{Entry, GRANULE, PAGE, SpanState, at};
use crate::os::{fork, object};
use crate::segment::attachment::{Attachment, Chore, Patience};
use rustix::io::Errno;

/// What is said where the memory file system has no page left.
pub fn file_system_full(needed: u64) -> Error {
    let (size, free) = object::file_system().unwrap_or((0, 0));
    Error::Full {
        needed,
        free,
        size,
        remedy: format!(
            "the memory file system {} is full: remove variables and trim(), destroy segments, or enlarge it (mount -o \
             remount,size=…; docker --shm-size; Kubernetes: a memory emptyDir)",
            object::DIR
        ),
    }
}

/// Turns of a call that makes room and finds it taken by others. So many are lost only to somebody who keeps to no protocol.
#[derive(Default)]
pub struct Turns(u32);

impl Turns {
    /// One more.
    #[inline]
    pub fn next(&mut self, att: &Attachment) -> Result<()> {
        self.0 += 1;
        if self.0 <= 10_000 {
            return Ok(());
        }
        Err(Error::Busy(format!("{}: the room that was made was gone each of {} times", att.name, self.0)))
    }
}

/// A span that this process took for itself: given back unless it was published.
pub struct Taken<'a> {
    att: &'a Attachment,
    /// Its first granule.
    pub granule: u64,
    /// Of its pages, those known to be present.
    pub present: u64,
    /// Of the process that took it: a child that was forked meanwhile has no part in it.
    epoch: u32,
}

impl<'a> Taken<'a> {
    pub fn new(att: &'a Attachment, granule: u64, present: u64) -> Self {
        Taken { att, granule, present, epoch: fork::epoch() }
    }

    /// It was published.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.att.leave_chore(Chore::Unpublished(self.granule));
            // Without the lock now, the next acquisition does it.
            drop(self.att.try_write());
        }
    }
}

impl Attachment {
    /// Makes pages present, or says what to do.
    pub fn obtain_pages(&self, offset: u64, len: u64) -> Result<()> {
        match self.obtain(offset, len)? {
            Ok(()) => {
                crash_point!("pages-obtained");
                // CRASH: present, and not yet in use: whoever needs them next finds them there.
                Ok(())
            }
            Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => Err(file_system_full(len)),
            Err(error) => Err(Error::system("obtaining pages", error)),
        }
    }

    /// The same; what is free but still present is given back before it is called full.
    pub fn obtain_or_trim(&self, offset: u64, len: u64, patience: &dyn Patience) -> Result<()> {
        match self.obtain_pages(offset, len) {
            Err(Error::Full { .. }) => {
                self.make_room(patience)?;
                self.obtain_pages(offset, len)
            }
            other => other,
        }
    }

    /// Gives back what is free but present. That it could not is no reason: the caller's own error tells more.
    pub fn make_room(&self, patience: &dyn Patience) -> Result<()> {
        let collected = self.collect_expired(patience);
        match collected.and_then(|_| self.trim(patience)) {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    /// Takes a span for this process to fill. The caller is inside (`enter`) until it is published or given back.
    pub fn take_span(&self, order: u32, patience: &dyn Patience) -> Result<Taken<'_>> {
        let (mut ready, mut swept, mut turns) = (0, false, Turns::default());
        loop {
            turns.next(self)?;
            let mut writer = self.write(patience)?;
            let arena = writer.arena();
            let mut change = writer.change();
            let filling = Entry::new(SpanState::Filling, order).with_owner(writer.me);
            if let Some((granule, entry)) = arena.plan_take(order, filling, &mut change)? {
                writer.mark_spans();
                writer.commit(&change)?;
                return Ok(Taken::new(self, granule, entry.present()));
            }
            let Some(end) = arena.zones_for(order) else {
                if !swept {
                    swept = true;
                    writer.sweep()?;
                    continue;
                }
                return Err(self.no_addresses(order));
            };
            if end <= ready {
                while arena.zones() < end {
                    turns.next(self)?;
                    let mut change = writer.change();
                    arena.plan_zones(end, &mut change)?;
                    writer.commit(&change)?;
                }
                continue;
            }
            let zones = arena.zones();
            drop(writer);
            let geometry = &self.identity.geometry;
            self.obtain_or_trim(geometry.zone_at(zones), (end - zones) * GRANULE, patience)?;
            let (first, last) = (zones / 64 * 512, (end - 1) / 64 * 512);
            let page = |offset: u64| (at::SUMMARY + offset) / PAGE * PAGE;
            self.obtain_or_trim(page(first), page(last) + PAGE - page(first), patience)?;
            ready = end;
        }
    }

    fn no_addresses(&self, order: u32) -> Error {
        let geometry = &self.identity.geometry;
        Error::Full {
            needed: GRANULE << order,
            free: 0,
            size: geometry.granules * GRANULE,
            remedy: "the segment's reserve of addresses, fixed when it was created, is used up or in pieces: create it anew \
                     with a larger size"
                .into(),
        }
    }
}
