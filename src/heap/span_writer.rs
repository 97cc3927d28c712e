//! Large values on their way into a span, with no lock held.

use crate::error::{Error, Result};
use crate::format::{GRANULE, granules_of};
use crate::heap::Heap;
use crate::heap::reserve::ReservedSpan;
use crate::os::object;
use crate::process::pages::{beyond_file_limit, file_system_full};
use crate::process::wait_policy::{ALLOW_THREADS_FROM, WaitPolicy};
use rustix::io::Errno;

/// A large value is stored in pieces of this many bytes.
const PIECE: usize = 64 << 20;

/// A span that was filled and waits to be published.
pub struct FilledSpan<'a> {
    /// It.
    pub span: ReservedSpan<'a>,
}

impl Heap {
    /// Copies a large record into a span of this process's own. No lock is held, no user code runs.
    pub fn fill(
        &self,
        lead: u64,
        prefix: &[u8],
        value: &[&[u8]],
        len: u64,
        policy: &dyn WaitPolicy,
    ) -> Result<FilledSpan<'_>> {
        let len = lead + len;
        let filled = FilledSpan { span: self.reserve_span(granules_of(len), policy)? };
        crash_point!("span-taken");
        let mut trimmed = false;
        loop {
            match self.write_span(&filled.span, lead, prefix, value, policy)? {
                Ok(()) => break,
                Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) if !trimmed => {
                    trimmed = true;
                    self.make_room(policy)?;
                }
                Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => {
                    self.punch_unpublished(&filled, policy)?;
                    return Err(file_system_full(len));
                }
                Err(Errno::FBIG) => {
                    self.punch_unpublished(&filled, policy)?;
                    return Err(beyond_file_limit(len, self.identity.geometry.length));
                }
                Err(error) => return Err(Error::system("storing a value", error)),
            }
        }
        crash_point!("span-filled");
        Ok(filled)
    }

    fn write_span(
        &self,
        span: &ReservedSpan<'_>,
        lead: u64,
        prefix: &[u8],
        value: &[&[u8]],
        policy: &dyn WaitPolicy,
    ) -> Result<rustix::io::Result<()>> {
        let start = self.identity.geometry.granule_at(span.granule) + lead;
        // What this process has mapped it copies to: the quickest way. What is present and was never mapped here costs a
        // fault a page, once, if it is met a second time. Anything else the kernel writes: no faults, and an error in time.
        if self.met_before(span.granule, span.len) && self.arena().is_present(span.granule, span.len)? {
            let mut at = start;
            let mut copied = Ok(());
            policy.allow_threads(&mut || {
                copied = std::iter::once(&prefix).chain(value).try_for_each(|part| {
                    self.mem.write_unpublished(at, part)?;
                    at += part.len() as u64;
                    Ok(())
                });
            });
            return copied.map(Ok);
        }
        let mut at = start;
        for part in std::iter::once(&prefix).chain(value) {
            // The descriptor is looked at before each piece: its number may become another file's at any time.
            for piece in part.chunks(PIECE) {
                let mut wrote = Ok(Ok(()));
                let mut write = || wrote = self.with_file(|fd| object::write_at(fd, piece, at));
                if piece.len() < ALLOW_THREADS_FROM {
                    write()
                } else {
                    policy.allow_threads(&mut write)
                }
                if let Err(errno) = wrote? {
                    return Ok(Err(errno));
                }
                at += piece.len() as u64;
            }
        }
        Ok(Ok(()))
    }

    /// Has this process filled a span that begins here, no shorter, before? (A guess at which pages it has mapped: a wrong one
    /// costs time.)
    fn met_before(&self, granule: u64, len: u64) -> bool {
        let mut met = self.heap_hints.filled.lock();
        if met.get(&granule).is_some_and(|known| *known >= len) {
            return true;
        }
        if met.len() > 4096 {
            met.clear();
        }
        met.insert(granule, len);
        false
    }

    /// A value that the memory file system had no room for leaves it as full as it was.
    fn punch_unpublished(&self, filled: &FilledSpan<'_>, policy: &dyn WaitPolicy) -> Result<()> {
        let (granule, len) = (filled.span.granule, filled.span.len);
        let writer = self.write(policy)?;
        if !writer.owns(granule)? {
            return Ok(());
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for at in granule..granule + len {
            match runs.last_mut() {
                _ if writer.arena().is_sticky(at)? => {}
                Some((start, len)) if *start + *len == at => *len += 1,
                _ => runs.push((at, 1)),
            }
        }
        for (granule, granules) in &runs {
            writer.arena().set_present(*granule, *granules, false)?;
        }
        drop(writer);
        for (granule, granules) in runs {
            let offset = self.identity.geometry.granule_at(granule);
            let _ = self.with_file(|fd| object::punch(fd, offset, granules * GRANULE))?;
            crash_point!("unpublished-punched");
        }
        Ok(())
    }
}
