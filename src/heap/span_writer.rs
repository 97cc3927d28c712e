//! Copying a large record into a reserved span. No lock is held meanwhile. The protocol is "Large records: spans and
//! pins" in `docs/protocol.md`, **fill**.

use crate::error::{Error, Result};
use crate::format::{GRANULE, granules_of};
use crate::heap::Heap;
use crate::heap::reserve::ReservedSpan;
use crate::os::object;
use crate::process::pages::beyond_file_limit;
use crate::process::wait_policy::{ALLOW_THREADS_FROM, WaitPolicy};
use rustix::io::Errno;

/// A large value is written in pieces of this many bytes.
const PIECE: usize = 64 << 20;

/// Private to the process: a reserved span that has its record and waits to be published.
pub struct FilledSpan<'a> {
    /// The span. It is freed if it is dropped without having been published.
    pub span: ReservedSpan<'a>,
}

impl Heap {
    /// Reserves a span and copies a large record into it, as [`Heap::fill_span`] does.
    pub fn store_in_span(
        &self,
        lead: u64,
        prefix: &[u8],
        value: &[&[u8]],
        len: u64,
        policy: &dyn WaitPolicy,
    ) -> Result<FilledSpan<'_>> {
        let span = self.reserve_span(granules_of(lead + len), policy)?;
        self.fill_span(span, lead, prefix, value, policy)
    }

    /// Copies a large record into a span that was reserved for it: `lead` bytes that are left out, then `prefix`
    /// (expiry and key), then the parts of the value. No lock is held meanwhile, and no user code runs.
    pub fn fill_span<'a>(
        &'a self,
        span: ReservedSpan<'a>,
        lead: u64,
        prefix: &[u8],
        value: &[&[u8]],
        policy: &dyn WaitPolicy,
    ) -> Result<FilledSpan<'a>> {
        let len = lead + prefix.len() as u64 + value.iter().map(|part| part.len() as u64).sum::<u64>();
        let filled = FilledSpan { span };
        crash_point!("span-taken");
        self.until_written(&filled, len, policy, &mut || self.write_span(&filled.span, lead, prefix, value, policy))?;
        crash_point!("span-filled");
        Ok(filled)
    }

    /// Reserves a span for a large record of `len` bytes that comes piece by piece: see [`Heap::fill_piece`]. The
    /// caller is inside `enter_call` until the span is published or freed.
    pub fn begin_span(&self, lead: u64, len: u64, policy: &dyn WaitPolicy) -> Result<FilledSpan<'_>> {
        let filled = FilledSpan { span: self.reserve_span(granules_of(lead + len), policy)? };
        crash_point!("span-taken");
        Ok(filled)
    }

    /// Copies bytes of a large record into its span, from `at` bytes behind the start of the span. The caller copies
    /// all of them, in order, before the span is published.
    pub fn fill_piece(&self, filled: &FilledSpan<'_>, at: u64, piece: &[u8], policy: &dyn WaitPolicy) -> Result<()> {
        let offset = self.identity.geometry.granule_at(filled.span.granule) + at;
        if at.saturating_add(piece.len() as u64) > filled.span.len * GRANULE {
            return Err(Error::Invalid("more bytes than the span has".into()));
        }
        self.until_written(filled, at + piece.len() as u64, policy, &mut || {
            let mut wrote = Ok(Ok(()));
            let mut write = || wrote = self.with_file(|fd| object::write_at(fd, piece, offset));
            match piece.len() < ALLOW_THREADS_FROM {
                true => write(),
                false => policy.allow_threads(&mut write),
            }
            wrote
        })
    }

    /// Writes into a span. If the memory file system is full, memory is reclaimed once. If it is still full, the pages
    /// of the span are given back before the call fails. `len`: the bytes that are needed, for the error.
    fn until_written(
        &self,
        filled: &FilledSpan<'_>,
        len: u64,
        policy: &dyn WaitPolicy,
        write: &mut dyn FnMut() -> Result<rustix::io::Result<()>>,
    ) -> Result<()> {
        let mut reclaimed = false;
        loop {
            match write()? {
                Ok(()) => return Ok(()),
                Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) if !reclaimed => {
                    reclaimed = true;
                    self.reclaim_memory(policy)?;
                }
                Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => {
                    self.punch_unpublished(filled, policy)?;
                    return Err(self.file_system_full(len));
                }
                Err(Errno::FBIG) => {
                    self.punch_unpublished(filled, policy)?;
                    return Err(beyond_file_limit(len, self.identity.geometry.length));
                }
                Err(error) => return Err(Error::system("storing a value", error)),
            }
        }
    }

    /// Copies the record into the span. The inner result is that of the system call, for a caller that may try again.
    fn write_span(
        &self,
        span: &ReservedSpan<'_>,
        lead: u64,
        prefix: &[u8],
        value: &[&[u8]],
        policy: &dyn WaitPolicy,
    ) -> Result<rustix::io::Result<()>> {
        let start = self.identity.geometry.granule_at(span.granule) + lead;
        // There are two ways. A copy through the map is quickest where the pages are present and this process has
        // mapped them. Pages that are present but not mapped here cost a page fault each, once, so the map is used only
        // for a span that this process has filled before. For any other span the kernel writes: there are no page
        // faults, and a full file system is an error and not a signal.
        if self.filled_before(span.granule, span.len) && self.arena().is_present(span.granule, span.len)? {
            let mut offset = start;
            let mut copied = Ok(());
            let mut copy = || {
                copied = std::iter::once(&prefix).chain(value).try_for_each(|part| {
                    self.mem.write_unpublished(offset, part)?;
                    offset += part.len() as u64;
                    Ok(())
                });
            };
            if value.iter().map(|part| part.len()).sum::<usize>() < ALLOW_THREADS_FROM {
                copy();
            } else {
                policy.allow_threads(&mut copy);
            }
            return copied.map(Ok);
        }
        let mut offset = start;
        for part in std::iter::once(&prefix).chain(value) {
            // The descriptor is compared with its object before each piece: its number may become that of another file
            // at any time.
            for piece in part.chunks(PIECE) {
                let mut wrote = Ok(Ok(()));
                let mut write = || wrote = self.with_file(|fd| object::write_at(fd, piece, offset));
                if piece.len() < ALLOW_THREADS_FROM {
                    write()
                } else {
                    policy.allow_threads(&mut write)
                }
                if let Err(errno) = wrote? {
                    return Ok(Err(errno));
                }
                offset += piece.len() as u64;
            }
        }
        Ok(Ok(()))
    }

    /// Tells whether this process has filled a span before that begins at this granule and is no shorter. (It is a
    /// guess at which pages are mapped. A wrong guess costs time.)
    pub fn has_filled(&self, granule: u64, len: u64) -> bool {
        self.heap_hints.filled.lock().has(granule, len)
    }

    /// Tells the same, and remembers this span.
    fn filled_before(&self, granule: u64, len: u64) -> bool {
        if self.has_filled(granule, len) {
            return true;
        }
        self.heap_hints.filled.lock().insert(granule, len);
        false
    }

    /// Gives back the pages of a span whose value could not be stored, so that the memory file system is no fuller than
    /// before. Sticky granules are left out, because a reader may still look into them.
    pub fn punch_unpublished(&self, filled: &FilledSpan<'_>, policy: &dyn WaitPolicy) -> Result<()> {
        let (granule, len) = (filled.span.granule, filled.span.len);
        let writer = self.write(policy)?;
        if !writer.owns(granule)? {
            return Ok(());
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for next in granule..granule + len {
            match runs.last_mut() {
                _ if writer.arena().is_sticky(next)? => {}
                Some((start, len)) if *start + *len == next => *len += 1,
                _ => runs.push((next, 1)),
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
