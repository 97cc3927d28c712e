//! Reading a value that lies in a span, whole or in parts.
//!
//! The protocol is "Large records: spans and pins" in docs/protocol.md. The pins themselves are `process/pins.rs`.

use crate::codec::buffers;
use crate::codec::buffers::{BufferTable, OneBuffer};
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{GRANULE, SpanEntry, SpanState, granules_of};
use crate::os::mem::CopyTarget;
use crate::os::object;
use crate::process::attachment::CHECK_RESIDENT_FROM;
use crate::process::call_guard::CallGuard;
use crate::process::pins::{OwnedPin, Pin};
use crate::process::wait_policy::{ALLOW_THREADS_FROM, WaitPolicy};
use crate::variables::Variables;
use crate::variables::evict::Evictions;
use crate::variables::found::{ContentSource, Found};
use crate::variables::stored::Layout;

/// The name of a value's bytes in the error for a lack of memory.
const VALUE: &str = "a value";

/// The number of bytes that [`LargeValue::one_buffer`] copies: a head with one buffer and the pickle of an array, or of
/// `bytes`, fit.
pub const SHORT_HEAD: usize = 256;

/// A part of this many bytes or more is copied through the mapping only if the bitmap says that all its pages are
/// present: to touch an absent page would make one. Where a shorter part is absent, the segment is damaged, and one
/// page or a few are made.
const CHECK_PRESENT_FROM: u64 = 64 << 10;

/// Private to the process: a large value that a reader found. It is pinned where this handle may pin; else each copy is
/// followed by a look whether the value is still there.
pub struct LargeValue<'a> {
    att: &'a Variables,
    found: Found,
    pin: Option<Pin<'a>>,
    /// Whether the value is copied through the mapping: only where it is pinned, and no other user could have stored
    /// what the segment says of present pages.
    direct: bool,
    /// Keeps the call counted in while the value is pinned, so that the process keeps its participant number.
    _call_guard: Option<CallGuard<'a>>,
}

impl<'a> LargeValue<'a> {
    /// Returns the number of bytes of the value: its pickle, and where it has buffers, those and their table.
    pub fn len(&self) -> u64 {
        self.found.content.record_len() - self.found.content.prefix_len()
    }

    /// Returns what the bytes of the value are.
    pub fn layout(&self) -> Layout {
        match (self.found.content.has_buffers(), self.found.content.is_in_place()) {
            (false, _) => Layout::Pickle,
            (true, false) => Layout::Buffers,
            (true, true) => Layout::InPlace,
        }
    }

    /// Returns the version of the variable.
    pub fn version(&self) -> u64 {
        self.found.content.version()
    }

    /// Marks a value that only this user and root could have written, so that it is copied through the mapping.
    pub fn trusting(self) -> Self {
        LargeValue { direct: self.pinned(), ..self }
    }

    /// Looks whether the object takes `len` bytes of memory at all, before so many are allocated for a copy of the part
    /// at `at`. A process that may write can store any length, but memory that is not there holds no value. Returns
    /// `false` if the variable changed meanwhile.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the slot is unchanged and its length cannot be right.
    pub fn check_resident(&self, at: u64, len: u64) -> Result<bool> {
        if len < CHECK_RESIDENT_FROM || self.is_mapped(at, len) {
            return Ok(true);
        }
        let resident = self.att.resident()?;
        if resident >= len {
            return Ok(true);
        }
        if self.pinned() || self.att.value_stays(&self.found)? {
            return Err(Error::corrupt(format_args!(
                "a value of {len} bytes in an object of which {resident} are present"
            )));
        }
        Ok(false)
    }

    /// Returns whether a part of the value is copied through the mapping.
    fn is_mapped(&self, at: u64, len: u64) -> bool {
        let content = &self.found.content;
        let start = content.lead() + content.prefix_len() + at;
        let (first, end) = (start / GRANULE, (start + len).div_ceil(GRANULE));
        let present = || self.att.arena().is_present(content.granule() + first, end - first);
        self.direct && (len < CHECK_PRESENT_FROM || present().unwrap_or(false))
    }

    /// Returns whether processes change the value where it lies.
    pub fn is_in_place(&self) -> bool {
        self.found.content.is_in_place()
    }

    /// Verifies, before objects are made over the memory of a value in place, that this memory is the value's and that
    /// all of it is present. `obtain`: others could have stored what the segment says of present pages, so the pages
    /// are obtained. Returns `false` if the value is not pinned because it has changed; the caller starts again.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the segment is damaged, [`Error::Full`] if there is no memory for a pin or for the pages.
    pub fn check_memory(&self, obtain: bool, policy: &dyn WaitPolicy) -> Result<bool> {
        let content = &self.found.content;
        if !self.pinned() {
            let no_memory = self.pin.is_none() && matches!(self.found.source, ContentSource::Slot);
            if no_memory && self.att.value_stays(&self.found)? {
                let (full, own) =
                    (self.att.file_system_full(self.att.identity.geometry.pin_unit()), &self.found.content);
                let own = self.att.hash_of(own);
                self.att.evict_for_memory(full, &mut Evictions::new(self.att), &|hash| hash == own, policy)?;
                // The bitmap of pins is no part of the arena, whose memory this is.
                self.att.reclaim_memory(policy)?;
            }
            return Ok(false);
        }
        let (granule, len) = (content.granule(), granules_of(content.lead().saturating_add(content.record_len())));
        let arena = self.att.arena();
        let entry = match arena.fits(granule, len, arena.zones()) {
            true => arena.entry(granule)?,
            false => SpanEntry(0),
        };
        // It is retired where it was removed or replaced since it was pinned.
        let is_a_value = matches!(entry.state(), SpanState::Live | SpanState::Retired) && entry.len() >= len;
        if !is_a_value || !content.has_buffers() || !arena.is_present(granule, len)? {
            return Err(Error::corrupt(format_args!("{len} granules in place in {entry:?}, or not all present")));
        }
        // Whoever could punch pages could also make this process pay for them again.
        if obtain && self.check_resident(0, self.len())? {
            let at = self.att.identity.geometry.granule_at(granule);
            let mut obtained = Ok(());
            policy.allow_threads(&mut || obtained = self.att.obtain_pages(at, len * GRANULE));
            obtained?;
        }
        Ok(true)
    }

    /// Returns whether a pin keeps the value as it is until this is dropped.
    pub fn pinned(&self) -> bool {
        self.pin.as_ref().is_some_and(Pin::is_own)
    }

    /// Returns whether the value is still the variable's, or a pin keeps it.
    pub fn stays(&self) -> Result<bool> {
        Ok(self.pinned() || self.att.value_stays(&self.found)?)
    }

    /// Returns the attachment in whose segment the value is.
    #[cfg(feature = "python")]
    pub fn attachment(&self) -> &'a Variables {
        self.att
    }

    /// Returns the file offset of the value.
    pub fn offset(&self) -> u64 {
        let content = &self.found.content;
        self.att.identity.geometry.granule_at(content.granule()) + content.lead() + content.prefix_len()
    }

    /// Returns the pin alone, for objects over the span's memory. `None`: the value is not pinned.
    pub fn into_owned_pin(self) -> Option<OwnedPin> {
        self.pin?.into_owned()
    }

    /// Returns whether the value has out-of-band buffers.
    pub fn has_buffers(&self) -> bool {
        self.found.content.has_buffers()
    }

    /// Reads where the pickle and the buffers of a value with buffers lie. `None`: the variable changed during the
    /// copy; the caller starts again.
    pub fn parse(&self, policy: &dyn WaitPolicy) -> Result<Option<BufferTable>> {
        let damaged = || Error::corrupt("the table of a value's buffers");
        let mut start = [0; 16];
        if self.len() < 16 {
            return Err(damaged());
        }
        let mut whole = self.read(0, &mut start, policy)?;
        let len = buffers::head_len(start).filter(|len| *len <= self.len()).unwrap_or(0);
        if !self.check_resident(0, len)? {
            return Ok(None);
        }
        let mut head = fallible::zeros(len as usize, "a value's table of buffers")?;
        whole = whole && self.read(0, &mut head, policy)?;
        if !whole {
            return Ok(None);
        }
        buffers::parse(&head, self.len())?.ok_or_else(damaged).map(Some)
    }

    /// Copies a part of the value. `None`: the variable changed during the copy; the caller starts again.
    pub fn read_part(&self, (at, len): (u64, u64), policy: &dyn WaitPolicy) -> Result<Option<Vec<u8>>> {
        if !self.check_resident(at, len)? {
            return Ok(None);
        }
        let mut bytes = fallible::zeros(len as usize, VALUE)?;
        let whole = self.read(at, &mut bytes, policy)?;
        Ok(whole.then_some(bytes))
    }

    /// Copies the whole value as one pickle stream, with its buffers in band. `None`: the variable changed during the
    /// copy; the caller starts again.
    pub fn pickle(&self, policy: &dyn WaitPolicy) -> Result<Option<Vec<u8>>> {
        if !self.has_buffers() {
            return self.read_part((0, self.len()), policy);
        }
        let Some(parsed) = self.parse(policy)? else { return Ok(None) };
        let Some(pickle) = self.read_part(parsed.pickle, policy)? else { return Ok(None) };
        let mut copies = fallible::with_room(parsed.buffers.len(), "a list of buffers")?;
        for place in parsed.buffers {
            let Some(copy) = self.read_part(place, policy)? else { return Ok(None) };
            copies.push(copy);
        }
        let slices = fallible::collect(copies.iter().map(|copy| Ok(copy.as_slice())), "a list of buffers")?;
        let stream = buffers::in_band(&pickle, &slices)?;
        stream.ok_or_else(|| Error::corrupt("the pickle of a value with buffers")).map(Some)
    }

    /// Copies the pickle without its buffers, and returns how many of those there are. `None`: the variable changed
    /// during the copy; the caller starts again.
    pub fn stream(&self, policy: &dyn WaitPolicy) -> Result<Option<(Vec<u8>, usize)>> {
        if !self.has_buffers() {
            return Ok(self.pickle(policy)?.map(|pickle| (pickle, 0)));
        }
        let Some(parsed) = self.parse(policy)? else { return Ok(None) };
        Ok(self.read_part(parsed.pickle, policy)?.map(|pickle| (pickle, parsed.buffers.len())))
    }

    /// Copies `to.len()` bytes of the value, from `at` on. Returns `false` if the variable changed during the copy; the
    /// caller starts again.
    pub fn read(&self, at: u64, to: &mut [u8], policy: &dyn WaitPolicy) -> Result<bool> {
        self.fill(at, &mut to.into(), policy)
    }

    /// Fills memory with bytes of the value, from `at` on. Returns `false` if the variable changed during the copy; the
    /// caller starts again.
    pub fn fill(&self, at: u64, to: &mut CopyTarget<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        let len = to.len();
        let mut outcome = Ok(());
        let mapped = self.is_mapped(at, len as u64);
        let mut copy = || {
            outcome = match mapped {
                true => self.att.mem.fill(self.offset() + at, to),
                false => self.fill_by_call(at, to),
            }
        };
        if len < ALLOW_THREADS_FROM {
            copy()
        } else {
            policy.allow_threads(&mut copy)
        }
        if self.pinned() {
            // A pinned span is not freed, so what was copied is the value.
            return outcome.map(|()| true);
        }
        let still = self.att.value_stays(&self.found)?;
        if still { outcome.map(|()| true) } else { Ok(false) }
    }

    /// Fills memory with bytes of the value through the kernel. Whatever happens to the span meanwhile, the copy raises
    /// no signal.
    fn fill_by_call(&self, at: u64, to: &mut CopyTarget<'_>) -> Result<()> {
        let len = to.len();
        let filled = self.att.with_file(|fd| object::fill_from(fd, to, self.offset() + at))?;
        match filled.map_err(|error| Error::system("reading the segment", error))? {
            done if done < len => Err(Error::corrupt("the object was truncated")),
            _ => Ok(()),
        }
    }

    /// Copies the start of a value with one buffer and a short pickle into `head`, where the value is copied through
    /// the mapping. The pickle lies in `head`, the buffer in the value. `None`: it is not such a value, or another way
    /// of reading it says what is wrong with it.
    pub fn one_buffer(&self, head: &mut [u8; SHORT_HEAD]) -> Result<Option<OneBuffer>> {
        if !self.direct || !self.has_buffers() {
            return Ok(None);
        }
        let copied = self.len().min(SHORT_HEAD as u64) as usize;
        self.att.mem.copy_to(self.offset(), &mut head[..copied])?;
        Ok(buffers::parse_one(&head[..copied], self.len()))
    }
}

impl Variables {
    /// Pins a large value, if this handle may write and the variable has not changed since it was found. Else the value
    /// comes without a pin.
    pub(super) fn pin_large(&self, found: Found, policy: &dyn WaitPolicy) -> Result<LargeValue<'_>> {
        if !self.mem.writable() || matches!(found.source, ContentSource::Intent(_)) {
            return Ok(LargeValue { att: self, found, pin: None, direct: false, _call_guard: None });
        }
        let call_guard = self.enter_call();
        let number = self.register(policy)?;
        let pin = self.pin(number, found.content.granule(), || self.value_stays(&found))?;
        Ok(LargeValue { att: self, found, pin, direct: false, _call_guard: Some(call_guard) })
    }
}
