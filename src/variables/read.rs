//! Reading variables, without a lock.

use crate::codec::buffers::{self, BufferTable};
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::slab_has_all_pages;
use crate::format::slot_flags::{LOCK, TEXT};
use crate::key::{INDEX_MAX, Index, IndexBuf, Name};
use crate::os::mem::Scratch;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::attachment::CHECK_RESIDENT_FROM;
use crate::process::call_guard::CallGuard;
use crate::process::pins::{OwnedPin, Pin};
use crate::process::wait_policy::{ALLOW_THREADS_FROM, WaitPolicy};
use crate::sync::slot::Kind;
use crate::sync::slot::Seqlock;
use crate::sync::slot::{BUSY, Content};
use crate::variables::Variables;
use crate::variables::leaf::TableOf;
use crate::variables::scan::{LOOKS, ScanPass};
use crate::variables::table::{Found, Token, place_of_record};
use std::sync::atomic::{Ordering, fence};

/// A variable's value as a reader gets it.
pub enum Got<'a> {
    /// From its slot: the pickle is `bytes[2..2 + len]`.
    Inline {
        /// The slot's last two words.
        bytes: [u8; 16],
        /// Of the pickle.
        len: usize,
        /// Of the variable.
        version: u64,
    },
    /// A record, copied to the scratch buffer: the pickle begins at `prefix`.
    Record {
        /// Bytes before it.
        prefix: usize,
        /// Of the variable.
        version: u64,
        /// The record begins with an expiry.
        expires: bool,
    },
    /// In a span, still to be copied.
    Large(Large<'a>),
}

/// A large value, held still for reading as far as this handle can.
pub struct Large<'a> {
    att: &'a Variables,
    found: Found,
    pin: Option<Pin<'a>>,
    /// Short parts are read through the mapping: where nobody but ourselves could have lied about what is present.
    direct: bool,
    _inside: Option<CallGuard<'a>>,
}

impl<'a> Large<'a> {
    /// Bytes of its pickle.
    pub fn len(&self) -> u64 {
        self.found.content.record_len() - self.found.content.prefix_len()
    }

    /// Of the variable.
    pub fn version(&self) -> u64 {
        self.found.content.version()
    }

    /// For values that nobody but we ourselves and root could have written.
    pub fn trusting(self) -> Self {
        Large { direct: self.pin.is_some(), ..self }
    }

    /// Before so many bytes are allocated for a part of it: whoever may write may claim any length, but memory that is not
    /// there holds no value.
    /// False: it changed meanwhile.
    pub fn is_there(&self, len: u64) -> Result<bool> {
        if len < CHECK_RESIDENT_FROM {
            return Ok(true);
        }
        let resident = self.att.resident()?;
        if resident >= len {
            return Ok(true);
        }
        if self.pin.is_some() || self.att.still(&self.found)? {
            return Err(Error::corrupt(format_args!("a value of {len} bytes in an object that takes {resident}")));
        }
        Ok(false)
    }

    /// Is it held still until this is dropped?
    pub fn pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// The process's half of its segment.
    #[cfg(feature = "python")]
    pub fn attachment(&self) -> &'a Variables {
        self.att
    }

    /// File offset of the value.
    pub fn offset(&self) -> u64 {
        let content = &self.found.content;
        self.att.identity.geometry.granule_at(content.granule()) + content.lead() + content.prefix_len()
    }

    /// The pin alone, for objects over the span's memory. `None`: it is not pinned.
    pub fn into_owned_pin(self) -> Option<OwnedPin> {
        self.pin?.into_owned()
    }

    /// Does it have out-of-band buffers?
    pub fn has_buffers(&self) -> bool {
        self.found.content.has_buffers()
    }

    /// Of a value with buffers, where they and the pickle are. `None`: it changed meanwhile.
    pub fn parse(&self, policy: &dyn WaitPolicy) -> Result<Option<BufferTable>> {
        let damaged = || Error::corrupt("the table of a value's buffers");
        let mut start = [0; 16];
        if self.len() < 16 {
            return Err(damaged());
        }
        let mut whole = self.read(0, &mut start, policy)?;
        let len = buffers::head_len(start).filter(|len| *len <= self.len()).unwrap_or(0);
        if !self.is_there(len)? {
            return Ok(None);
        }
        let mut head = fallible::zeros(len as usize, "a value's table of buffers")?;
        whole = whole && self.read(0, &mut head, policy)?;
        if !whole {
            return Ok(None);
        }
        buffers::parse(&head, self.len())?.ok_or_else(damaged).map(Some)
    }

    /// Copies a part of the value. `None`: the variable changed meanwhile.
    pub fn read_part(&self, (at, len): (u64, u64), policy: &dyn WaitPolicy) -> Result<Option<Vec<u8>>> {
        if !self.is_there(len)? {
            return Ok(None);
        }
        let mut bytes = fallible::zeros(len as usize, VALUE)?;
        let whole = self.read(at, &mut bytes, policy)?;
        Ok(whole.then_some(bytes))
    }

    /// All of it as one pickle stream, buffers within. `None`: it changed meanwhile.
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

    /// The pickle alone, and how many buffers are beside it. `None`: it changed meanwhile.
    pub fn stream(&self, policy: &dyn WaitPolicy) -> Result<Option<(Vec<u8>, usize)>> {
        if !self.has_buffers() {
            return Ok(self.pickle(policy)?.map(|pickle| (pickle, 0)));
        }
        let Some(parsed) = self.parse(policy)? else { return Ok(None) };
        Ok(self.read_part(parsed.pickle, policy)?.map(|pickle| (pickle, parsed.buffers.len())))
    }

    /// Copies from the pickle. False: the variable changed meanwhile, begin anew.
    pub fn read(&self, at: u64, to: &mut [u8], policy: &dyn WaitPolicy) -> Result<bool> {
        let at = self.found.content.prefix_len() + at;
        let mut outcome = Ok(());
        if self.direct && to.len() < ALLOW_THREADS_FROM {
            let content = &self.found.content;
            let offset = self.att.identity.geometry.granule_at(content.granule()) + content.lead() + at;
            self.att.mem.copy_to(offset, to)?;
        } else if to.len() < ALLOW_THREADS_FROM {
            self.att.read_span(&self.found.content, at, to)?;
        } else {
            policy.allow_threads(&mut || outcome = self.att.read_span(&self.found.content, at, to));
        }
        if self.pin.is_some() {
            // Nobody frees it while we hold the pin.
            return outcome.map(|()| true);
        }
        let still = self.att.still(&self.found)?;
        if still { outcome.map(|()| true) } else { Ok(false) }
    }
}

/// What a value's bytes are called where there is no memory for them.
const VALUE: &str = "a value";

/// What a text index is called where there is no memory for it.
const INDEX: &str = "a text index";

impl Variables {
    /// A variable's value.
    #[inline]
    pub fn get<'a>(
        &'a self,
        index: &Index<'_>,
        scratch: &mut Scratch,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<Got<'a>>> {
        if let Some(got) = self.get_at_once(index, scratch) {
            return Ok(Some(got));
        }
        let Some(found) = self.find(index, scratch, policy)? else { return Ok(None) };
        self.got(found, policy).map(Some)
    }

    /// The usual case in one go: a variable without an expiry, in its slot or in a block of a slab that is wholly present, that
    /// nobody changes meanwhile. The steps are those of `find`; whatever is not usual is left to that.
    #[inline(always)]
    fn get_at_once<'a>(&'a self, index: &Index<'_>, scratch: &mut Scratch) -> Option<Got<'a>> {
        let name = Name::from(index);
        let hash = name.hash(self.identity.hash_key);
        let (first, flags) = (name.index_word(hash), name.flags());
        let _section = self.read_section()?;
        let leaf = self.leaf_at_once(hash)?;
        let slots = self.mem.slots(leaf.base, leaf.slots + 1).ok()?;
        let (mut number, mut left) = (leaf.home(hash), leaf.slots);
        let (slot, word, tag) = loop {
            left = left.checked_sub(1)?;
            let slot = slots.get(number as usize)?;
            let word = slot.begin();
            let tag = slot.rest[1].load(Ordering::Relaxed);
            if word == 0 || word & BUSY == 1 {
                return None;
            }
            if slot.rest[0].load(Ordering::Relaxed) == first && tag & (TEXT | LOCK) == flags {
                break (slot, word, tag);
            }
            number = leaf.after(number);
        };
        let content = Content { word, rest: [first, tag, slot.rest[2].load(Ordering::Relaxed)] };
        let got = match content.kind() {
            Kind::Inline => {
                let (bytes, len) = content.inline_bytes();
                Got::Inline { bytes, len, version: content.version() }
            }
            Kind::Record if !content.expires() => {
                let (at, class) = place_of_record(self, &content, MappedAccess).ok()??;
                if !slab_has_all_pages(class) {
                    return None;
                }
                self.mem.read_scratch(at, content.record_len() as usize, scratch).ok()?;
                Got::Record { prefix: content.prefix_len() as usize, version: content.version(), expires: false }
            }
            _ => return None,
        };
        // SYNC: as in `still_by`, whose looks these are, in its order.
        fence(Ordering::Acquire);
        let named = self.names_still(leaf.root, leaf.at, leaf.word, TableOf::Variables, MappedAccess).ok()?;
        if !named || !slot.unchanged(word) {
            return None;
        }
        if name.is_text() {
            let prefix = content.prefix_len() as usize;
            let key = scratch.bytes().get(prefix - (content.key_len() as usize).min(prefix)..prefix)?;
            return (key == name.index.record_key()).then_some(got);
        }
        Some(got)
    }

    /// The value of a variable that was just found.
    #[inline(always)]
    pub fn got(&self, found: Found, policy: &dyn WaitPolicy) -> Result<Got<'_>> {
        let (content, version) = (&found.content, found.content.version());
        Ok(match content.kind() {
            Kind::Inline => {
                let (bytes, len) = content.inline_bytes();
                Got::Inline { bytes, len, version }
            }
            Kind::Record => Got::Record { prefix: content.prefix_len() as usize, version, expires: content.expires() },
            _ => Got::Large(self.hold(found, policy)?),
        })
    }

    /// Is there such a variable?
    #[inline]
    pub fn has(&self, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        Ok(self.find(index, &mut Scratch::new(), policy)?.is_some())
    }

    /// Pins a large value, if this handle may and the variable did not change meanwhile.
    fn hold(&self, found: Found, policy: &dyn WaitPolicy) -> Result<Large<'_>> {
        if !self.mem.writable() || matches!(found.token, Token::Pending(_)) {
            return Ok(Large { att: self, found, pin: None, direct: false, _inside: None });
        }
        let inside = self.enter_call();
        let me = self.register(policy)?;
        let pin = self.pin(me, found.content.granule(), || self.still(&found))?;
        Ok(Large { att: self, found, pin, direct: false, _inside: Some(inside) })
    }

    /// All indexes, as of one moment or nearly: what was there throughout is in it.
    pub fn indexes(&self, policy: &dyn WaitPolicy) -> Result<Vec<IndexBuf>> {
        let index = |pass: &ScanPass<'_>, found| match self.live(pass, &found)? {
            Some(found) => self.index_of(pass, &found),
            None => Ok(None),
        };
        self.scan(TableOf::Variables, index, policy)
    }

    /// The index of a slot that was found. `None`: it was removed meanwhile, so it was not there throughout.
    pub fn index_of(&self, pass: &ScanPass<'_>, found: &Found) -> Result<Option<IndexBuf>> {
        let mut found = *found;
        for _ in 0..LOOKS {
            if let Some(index) = self.index_at_once(&found)? {
                return Ok(Some(index));
            }
            // Overwritten perhaps, not removed.
            let Some(now) = pass.seen_again(&found)? else { return Ok(None) };
            if !now.content.is_entry() || now.content.is_lock() != found.content.is_lock() {
                return Ok(None);
            }
            found = now;
        }
        // Not for ever within one section: whoever looks at the leaf anew waits as long as he may.
        pass.undone();
        Ok(None)
    }

    /// The same. `None`: it changed meanwhile.
    pub fn index_at_once(&self, found: &Found) -> Result<Option<IndexBuf>> {
        reading!(self, |look| self.index_by(found, look))
    }

    /// The same within a section, or with the writer lock held.
    pub fn index_by(&self, found: &Found, look: impl Access) -> Result<Option<IndexBuf>> {
        if !found.content.is_text() {
            return Ok(Some(IndexBuf::Int(found.content.rest[0] as i64)));
        }
        Ok(self.text_of(found, look)?.map(IndexBuf::Text))
    }

    /// A text index. `None`: it changed meanwhile.
    fn text_of(&self, found: &Found, look: impl Access) -> Result<Option<String>> {
        let content = &found.content;
        if content.key_len() > INDEX_MAX as u64 && self.still_by(found, look)? {
            return Err(Error::corrupt(format_args!("a text index of {} bytes", content.key_len())));
        }
        let prefix = content.prefix_len() as usize;
        let mut bytes = fallible::zeros(prefix, INDEX)?;
        match content.kind() {
            Kind::Record => {
                let mut scratch = Scratch::new();
                if !self.read_record(found, prefix as u64, &mut scratch, look)? {
                    return Ok(None);
                }
                let whole = scratch.bytes().get(..prefix).ok_or_else(|| Error::corrupt("a record's key"))?;
                bytes.copy_from_slice(whole);
            }
            _ => self.read_span(content, 0, &mut bytes)?,
        }
        if !self.still_by(found, look)? {
            return Ok(None);
        }
        // In the same memory, without an expiry that stands before it.
        bytes.drain(..prefix - content.key_len() as usize);
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::corrupt(format_args!("the text index of the slot at {}", found.offset))),
        }
    }
}
