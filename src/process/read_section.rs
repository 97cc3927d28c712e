//! Sections: the parts of a read in which memory is looked at that others may give back. A word in the segment says that
//! a thread is inside of one; whoever wants memory back waits until every word that was odd has moved on.
//!
//! The protocol is "Giving back" in `docs/protocol.md`; it is the one of user-space RCU (Desnoyers and others, IEEE TPDS
//! 2012), with the kernel's `membarrier` in place of a fence for each reader.

use crate::atomic::calls_are_serialized;
use crate::error::{Error, Result};
use crate::format::{PARTICIPANTS, READERS, Readers};
use crate::os::{self, fork};
use crate::process::attachment::{Attachment, CallGuard};
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::time::{Duration, Instant};

/// Words that threads use: two halves, each `epoch << 32 |` a bit for each word. The first word is the interpreter's.
static WORDS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// A process that has no number waits so long for one before it looks.
const BRIEFLY: Duration = Duration::from_millis(20);
/// And so long before it asks again.
const ASK_AGAIN_MS: u64 = 3_000;
/// Readers are waited for at most so long.
const GRACE: Duration = Duration::from_millis(100);

thread_local! {
    /// `epoch << 32 |` the word of this thread; 0 until it has one.
    static WORD: Cell<u64> = const { Cell::new(0) };
    /// Gives it back when the thread ends.
    static KEEPER: Keeper = const { Keeper };
}

/// What a thread that ends has for a word.
const ENDED: u64 = u64::MAX;

struct Keeper;

impl Drop for Keeper {
    fn drop(&mut self) {
        let held = WORD.replace(ENDED);
        let (epoch, word) = (held >> 32, held & u64::from(u32::MAX));
        if held == 0 || held == ENDED {
            return;
        }
        let half = &WORDS[(word / 32) as usize];
        // SYNC: release, with the acquire of who takes it next: he finds the word as this thread left it.
        let _ = half.fetch_update(Ordering::Release, Ordering::Relaxed, |taken| {
            (taken >> 32 == epoch).then_some(taken & !(1 << (word % 32)))
        });
    }
}

/// This thread's word. `None`: all are taken, or the thread ends.
fn word_of_thread() -> Option<usize> {
    let (held, epoch) = (WORD.get(), u64::from(fork::epoch()));
    // A child has none of its parent's threads, and its own one takes a word anew.
    if held >> 32 == epoch {
        return Some((held & u64::from(u32::MAX)) as usize);
    }
    if held == ENDED {
        return None;
    }
    KEEPER.try_with(|_| ()).ok()?;
    for (number, half) in WORDS.iter().enumerate() {
        let mut free = None;
        let taken = half.fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
            let first = u64::from(number == 0);
            let bits = if taken >> 32 == epoch { taken & u64::from(u32::MAX) } else { first };
            free = (bits != u64::from(u32::MAX)).then_some(bits.trailing_ones());
            free.map(|bit| epoch << 32 | bits | 1 << bit)
        });
        if let (Ok(_), Some(bit)) = (taken, free) {
            let word = number as u64 * 32 + u64::from(bit);
            WORD.set(epoch << 32 | word);
            return Some(word as usize);
        }
    }
    None
}

/// Waits as the caller does, and not for long.
struct Brief<'a> {
    policy: &'a dyn WaitPolicy,
    until: Instant,
}

impl WaitPolicy for Brief<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.policy.allow_threads(slow);
    }
    fn sleep(&self, sleep: &Sleep<'_>) {
        self.policy.sleep(sleep);
    }
    fn interrupted(&self) -> Result<()> {
        self.policy.interrupted()?;
        if Instant::now() < self.until { Ok(()) } else { Err(Error::Interrupted) }
    }
}

/// Inside of a section until dropped. No lock is waited for meanwhile, no user code runs, the interpreter's lock stays.
pub struct ReadSection<'a> {
    /// `None`: this thread was inside already.
    word: Option<&'a AtomicU64>,
    odd: u64,
    epoch: u32,
    /// Where other threads may detach meanwhile: the number stays ours.
    _inside: Option<CallGuard<'a>>,
}

impl Drop for ReadSection<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(word) = self.word {
            if self.epoch == fork::epoch() {
                // SYNC: release, with the acquire of whoever waits: every load of this section is made.
                word.store(self.odd.wrapping_add(1), Ordering::Release);
            }
        }
    }
}

impl Attachment {
    /// Begins a section. `None`: this process has no number, or this thread no word: then it looks by calls of the system.
    #[inline(always)]
    pub fn read_section(&self) -> Option<ReadSection<'_>> {
        if calls_are_serialized() {
            // One word serves all threads.
            let member = self.registration.member.load(Ordering::Relaxed);
            let epoch = fork::epoch();
            if member as u32 == 0 || (member >> 32) as u32 != epoch {
                return None;
            }
            return self.enter_section(member as u32 - 1, 0, epoch, None);
        }
        self.section_of_thread()
    }

    /// The same; a process that has no number takes one first, if it can.
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
            let registered = self.member(&Brief { policy, until: Instant::now() + BRIEFLY });
            if registered.is_err() {
                policy.interrupted()?;
                // Refused once is refused often: it looks by calls, and asks again later, or before its first change.
                self.registration.not_before.store(now + ASK_AGAIN_MS, Ordering::Relaxed);
            }
        }
        Ok(self.read_section())
    }

    fn section_of_thread(&self) -> Option<ReadSection<'_>> {
        if !self.mem.writable() {
            return None;
        }
        let word = word_of_thread()?;
        let inside = self.enter_call();
        let (number, epoch) = (self.number_now()?, inside.epoch);
        self.enter_section(number, word, epoch, Some(inside))
    }

    #[inline(always)]
    fn enter_section<'a>(
        &'a self,
        number: u32,
        word: usize,
        epoch: u32,
        inside: Option<CallGuard<'a>>,
    ) -> Option<ReadSection<'a>> {
        let word = &self.readers(number)?.words[word];
        let before = word.load(Ordering::Relaxed);
        if before & 1 == 1 {
            return Some(ReadSection { word: None, odd: before, epoch, _inside: inside });
        }
        let odd = before.wrapping_add(1);
        // SYNC: release: whoever waits for this thread's last section may see this store instead of the one that ended it.
        word.store(odd, Ordering::Release);
        // SYNC: the kernel's barrier, in `readers_have_left`, comes before this store or after it as a whole: then it is seen
        // there, or nothing that was unlinked before the barrier is found below. The compiler must not move either.
        compiler_fence(Ordering::SeqCst);
        Some(ReadSection { word: Some(word), odd, epoch, _inside: inside })
    }

    /// A participant's words. Present where it is in use.
    #[inline(always)]
    fn readers(&self, number: u32) -> Option<&Readers> {
        self.mem.at(self.identity.geometry.readers_at(number)).ok()
    }

    /// Makes the words of a number that is being claimed say that nobody is inside: whoever had it may have died there.
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

    /// Waits until every section that began before this call has ended. False: one has not, within 100 ms, or the system
    /// has no barrier for all processes (a filter, or a kernel with `nohz_full`).
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
                    if began.elapsed() > GRACE {
                        // The dead look at nothing.
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
