//! Read sections: the parts of a read in which a thread looks at memory that other processes may give back to the
//! system. While a thread is inside a read section, its reader word in the segment is odd. A process that gives memory
//! back waits until each reader word that was odd has changed.
//!
//! This file begins and ends read sections, and waits for those of other threads. Which reader word a thread has stands
//! in `reader_word.rs`. The protocol is "Giving back" in `docs/protocol.md`. It is that of user-space RCU (Desnoyers
//! and others, IEEE TPDS 2012), with the kernel's `membarrier` in place of a fence for each reader.

use crate::atomic::calls_are_serialized;
use crate::error::Result;
use crate::format::{PARTICIPANTS, READERS, Readers};
use crate::os::{self, fork};
use crate::process::attachment::Attachment;
use crate::process::call_guard::CallGuard;
use crate::process::deadline::WithDeadline;
use crate::process::reader_word::reader_word_of_thread;
use crate::process::wait_policy::WaitPolicy;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::time::{Duration, Instant};

/// How long a process without a participant number tries to get one before it reads without.
const REGISTER_LIMIT: Duration = Duration::from_millis(20);
/// After how many milliseconds such a process tries again.
const REGISTER_AGAIN_MS: u64 = 3_000;
/// How long a process that gives memory back waits for readers, in all.
const READERS_LIMIT: Duration = Duration::from_millis(100);

/// Private to the process: a read section, which ends when this is dropped. Inside it no lock is waited for, no user
/// code runs, and the interpreter's lock is not released.
pub struct ReadSection<'a> {
    /// The reader word that is even again after the section. `None`: this thread was inside a read section already,
    /// which goes on.
    word: Option<&'a AtomicU64>,
    /// The value of the reader word during the section.
    odd: u64,
    /// The epoch of the process that began the section.
    epoch: u32,
    /// Keeps the participant number, if other threads may detach meanwhile.
    _call: Option<CallGuard<'a>>,
}

impl Drop for ReadSection<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(word) = self.word {
            if self.epoch == fork::epoch() {
                // SYNC: release, with the acquire of the process that waits: it goes on after every load of this
                // section.
                word.store(self.odd.wrapping_add(1), Ordering::Release);
            }
        }
    }
}

impl Attachment {
    /// Begins a read section. `None`: this process has no participant number, or there is no reader word for this
    /// thread. The thread then reads by system calls.
    #[inline(always)]
    pub fn read_section(&self) -> Option<ReadSection<'_>> {
        if calls_are_serialized() {
            // The threads run one at a time, under the interpreter's lock: one word serves all of them.
            let registered = self.registration.registered.load(Ordering::Relaxed);
            let epoch = fork::epoch();
            if registered as u32 == 0 || (registered >> 32) as u32 != epoch {
                return None;
            }
            return self.enter_section(registered as u32 - 1, 0, epoch, None);
        }
        self.section_of_thread()
    }

    /// Begins a read section. A process that has no participant number tries to register first, waiting for 20 ms at
    /// most. `None`: it could not, or there is no reader word for this thread.
    #[inline(always)]
    pub fn begin_read_section(&self, policy: &dyn WaitPolicy) -> Result<Option<ReadSection<'_>>> {
        match self.read_section() {
            None => self.begin_slowly(policy),
            read_section => Ok(read_section),
        }
    }

    #[cold]
    fn begin_slowly(&self, policy: &dyn WaitPolicy) -> Result<Option<ReadSection<'_>>> {
        let now = os::monotonic_ms();
        if self.mem.writable()
            && self.number_now().is_none()
            && now >= self.registration.not_before.load(Ordering::Relaxed)
        {
            let registered = self.register(&WithDeadline::new(Instant::now().checked_add(REGISTER_LIMIT), policy));
            if registered.is_err() {
                policy.interrupted()?;
                // What was refused once is likely to be refused again. This process reads by system calls and tries
                // again later, or before its first change.
                self.registration.not_before.store(now + REGISTER_AGAIN_MS, Ordering::Relaxed);
            }
        }
        Ok(self.read_section())
    }

    fn section_of_thread(&self) -> Option<ReadSection<'_>> {
        if !self.mem.writable() {
            return None;
        }
        let word = reader_word_of_thread()?;
        let call = self.enter_call();
        let (number, epoch) = (self.number_now()?, call.epoch);
        self.enter_section(number, word, epoch, Some(call))
    }

    #[inline(always)]
    fn enter_section<'a>(
        &'a self,
        number: u32,
        word: usize,
        epoch: u32,
        call: Option<CallGuard<'a>>,
    ) -> Option<ReadSection<'a>> {
        let word = &self.readers(number)?.words[word];
        let before = word.load(Ordering::Relaxed);
        if before & 1 == 1 {
            return Some(ReadSection { word: None, odd: before, epoch, _call: call });
        }
        let odd = before.wrapping_add(1);
        // SYNC: release. A process that waits for the end of this thread's last section may see this store instead of
        // the one that ended the section.
        word.store(odd, Ordering::Release);
        // SYNC: with the kernel's barrier in `readers_have_left`. If this store is before the barrier, it is seen
        // there. If it is after the barrier, the loads that follow do not find anything that was unlinked before the
        // barrier. The fence keeps the compiler from moving the loads before the store.
        compiler_fence(Ordering::SeqCst);
        Some(ReadSection { word: Some(word), odd, epoch, _call: call })
    }

    /// Returns a participant's reader words. Their page is present if the participant is in use.
    #[inline(always)]
    fn readers(&self, number: u32) -> Option<&Readers> {
        self.mem.at(self.identity.geometry.readers_at(number)).ok()
    }

    /// Makes each reader word of a number that is being claimed even: the last process of the number may have died
    /// inside a read section.
    pub fn reset_readers(&self, number: u32) -> Result<()> {
        self.obtain_pages(self.identity.geometry.readers_at(number), 8 * READERS as u64)?;
        for word in self.readers(number).map_or(&[][..], |readers| &readers.words) {
            let now = word.load(Ordering::Relaxed);
            if now & 1 == 1 {
                word.store(now.wrapping_add(1), Ordering::Release);
            }
        }
        Ok(())
    }

    /// Waits until every read section that began before this call has ended. Returns `false` if one has not ended
    /// within 100 ms, or if the system has no barrier for all processes (a filter, or a kernel with `nohz_full`).
    pub fn readers_have_left(&self, policy: &dyn WaitPolicy) -> bool {
        let mut barrier = false;
        policy.allow_threads(&mut || barrier = os::barrier_everywhere());
        if !barrier {
            return false;
        }
        let began = Instant::now();
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        for number in 0..top {
            let in_use = || self.participant(number).is_some_and(|p| p.state.load(Ordering::Acquire) == 1);
            let Some(readers) = self.readers(number).filter(|_| in_use()) else { continue };
            for word in &readers.words {
                let then = word.load(Ordering::Acquire);
                if then & 1 == 0 {
                    continue;
                }
                while word.load(Ordering::Acquire) == then && in_use() {
                    if began.elapsed() > READERS_LIMIT {
                        // A dead process reads nothing any more.
                        if self.alive(number).unwrap_or(true) {
                            return false;
                        }
                        break;
                    }
                    policy.allow_threads(&mut || std::thread::sleep(Duration::from_micros(100)));
                }
            }
        }
        true
    }
}
