//! What a dump writes: a log of values, and of those that do not count after all. Its lines are `codec/dump_line.rs`.
//!
//! The protocol is "Dumps" in docs/protocol.md.

use crate::codec::dump_line::{self, ValueLine, ValueOf};
use crate::codec::value_check::{ValueCheck, ValueKind};
use crate::error::{Error, Result};
use crate::fallible;
use crate::key::{Index, Key};
use crate::os::fork;
use crate::process::wait_policy::WaitPolicy;
use crate::variables::large::LargeValue;
use crate::variables::stored::Layout;
use std::collections::HashMap;

/// Of a value line that is not there: of a slot whose variable was not written.
pub const NO_LINE: u32 = u32::MAX;
/// What is written is handed over in pieces of about this many bytes.
const PIECE: usize = 256 << 10;
/// While a dump catches up with writers, so much is kept in memory before it is handed over.
const DEFERRED: usize = 64 << 20;
/// Variables that are longer are not written then: they are pinned when writers are kept out, which copies nothing.
const LARGE_THEN: u64 = 1 << 20;
/// The name of the log in the error for a lack of memory.
const LOG: &str = "a dump";

/// Where the bytes of a dump go. It may run code of the user's, so it is called where nothing is held but pins.
pub type DumpWrite<'w> = &'w mut dyn FnMut(&[u8]) -> Result<()>;

/// Private to the process: what a dump has written so far.
pub struct DumpLog<'w> {
    write: DumpWrite<'w>,
    /// The segment's key, for errors.
    key: Key,
    /// The epoch of the process that began the dump. In a forked child the file is the parent's.
    epoch: u32,
    /// What was not handed over yet.
    buffer: Vec<u8>,
    /// How much was handed over.
    handed: u64,
    /// More of it is kept in the buffer: handing it over may be slow, as the disk is.
    deferred: bool,
    /// Value lines.
    lines: u32,
    /// Variables that count, and items.
    pub variables: u64,
    pub items: u64,
    /// When the variables of value lines expire, of those that count.
    expiries: HashMap<u32, u64>,
    /// Room for a piece of a large value.
    piece: Vec<u8>,
}

/// What the bytes of a value in this layout are.
pub fn kind_of(layout: Layout) -> ValueKind {
    match layout {
        Layout::Pickle => ValueKind::Pickle,
        Layout::Buffers => ValueKind::Buffers,
        Layout::InPlace => ValueKind::InPlace,
    }
}

/// The layout of a value of a dump.
pub fn layout_of(kind: ValueKind) -> Layout {
    match kind {
        ValueKind::Pickle => Layout::Pickle,
        ValueKind::Buffers => Layout::Buffers,
        ValueKind::InPlace => Layout::InPlace,
    }
}

/// The error for a value that is damaged.
fn damaged(of: ValueOf<'_>, why: impl std::fmt::Display) -> Error {
    Error::Corrupt(match of {
        ValueOf::Variable(index) => format!("variable {index} is damaged: {why}; remove it to dump the others"),
        ValueOf::Item(queue) => format!("an item of queue {queue} is damaged: {why}; get it to dump the others"),
    })
}

/// Hands over bytes, if this is the process that began the dump, and is so afterwards: the function may fork.
fn write_here(write: &mut dyn FnMut(&[u8]) -> Result<()>, bytes: &[u8], (epoch, key): (u32, &Key)) -> Result<()> {
    if epoch == fork::epoch() {
        write(bytes)?;
    }
    if epoch == fork::epoch() { Ok(()) } else { Err(forked(key)) }
}

/// The error of a dump in a child that was forked in the middle of it.
#[cold]
pub fn forked(key: &Key) -> Error {
    Error::Busy(format!("key {key}: this process was forked in the middle of the call: call again in the child"))
}

impl<'w> DumpLog<'w> {
    /// Begins a dump.
    pub fn new(write: DumpWrite<'w>, key: &Key) -> Result<Self> {
        let mut log = DumpLog {
            write,
            key: key.clone(),
            epoch: fork::epoch(),
            buffer: fallible::with_room(PIECE * 2, LOG)?,
            handed: 0,
            deferred: false,
            lines: 0,
            variables: 0,
            items: 0,
            expiries: HashMap::new(),
            piece: Vec::new(),
        };
        log.buffer.extend_from_slice(dump_line::HEADERS[1]);
        Ok(log)
    }

    /// Hands over what is there, if that is much. The caller holds nothing but pins.
    pub fn hand_over_much(&mut self) -> Result<()> {
        let much = if self.deferred { DEFERRED } else { PIECE };
        if self.buffer.len() >= much { self.hand_over() } else { Ok(()) }
    }

    /// From now on much is kept in memory, or no more than a piece. The caller holds nothing but pins.
    pub fn defer(&mut self, deferred: bool) -> Result<()> {
        self.deferred = deferred;
        if self.buffer.len() >= DEFERRED / 2 { self.hand_over() } else { self.hand_over_much() }
    }

    /// Returns how many bytes were written so far, handed over or not.
    pub fn written(&self) -> u64 {
        self.handed + self.buffer.len() as u64
    }

    /// Hands over what is there.
    pub fn hand_over(&mut self) -> Result<()> {
        for piece in self.buffer.chunks(PIECE * 4) {
            write_here(self.write, piece, (self.epoch, &self.key))?;
        }
        self.handed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn begin_value(&mut self, of: ValueOf<'_>, value: ValueLine) -> Result<u32> {
        let line = self.lines;
        self.lines = line.checked_add(1).filter(|lines| *lines < NO_LINE).ok_or_else(|| {
            Error::Invalid("the dump has more than 4 thousand million values: dump while less is changed".into())
        })?;
        fallible::reserve(&mut self.buffer, dump_line::LINE_MAX, LOG)?;
        dump_line::write_value_line(of, value, &mut self.buffer);
        match of {
            ValueOf::Variable(_) => self.variables += 1,
            ValueOf::Item(_) => self.items += 1,
        }
        Ok(line)
    }

    /// Writes a value that is in memory. Returns the number of its line.
    pub fn write_value(&mut self, of: ValueOf<'_>, bytes: &[u8]) -> Result<u32> {
        crate::codec::value_check::check_value(ValueKind::Pickle, bytes).map_err(|why| damaged(of, why))?;
        let line = self.begin_value(of, ValueLine { len: bytes.len() as u64, kind: ValueKind::Pickle })?;
        fallible::reserve(&mut self.buffer, bytes.len() + 1, LOG)?;
        self.buffer.extend_from_slice(bytes);
        self.buffer.push(b'\n');
        Ok(line)
    }

    /// Writes a large value, piece by piece. The caller holds nothing but pins. Returns the number of its line; `None`:
    /// the variable changed meanwhile, and what was written of it does not count; or it is long and this is deferred.
    pub fn write_large(
        &mut self,
        of: ValueOf<'_>,
        large: &LargeValue<'_>,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<u32>> {
        let naming = |error: Error| match error {
            Error::Corrupt(why) => damaged(of, why),
            other => other,
        };
        let len = large.len();
        if self.deferred && len > LARGE_THEN && matches!(of, ValueOf::Variable(_)) {
            return Ok(None);
        }
        if !large.check_resident(0, len).map_err(naming)? {
            return Ok(None);
        }
        // Without a pin it may have been replaced by now. Then not one byte of it is written.
        if !large.stays()? {
            return Ok(None);
        }
        let kind = kind_of(large.layout());
        let line = self.begin_value(of, ValueLine { len, kind })?;
        let (mut at, mut whole, mut check) = (0, true, ValueCheck::new(kind, len));
        if self.piece.is_empty() {
            self.piece = fallible::zeros(PIECE, LOG)?;
        }
        while at < len {
            self.hand_over_much()?;
            policy.interrupted()?;
            let piece = &mut self.piece[..(len - at).min(PIECE as u64) as usize];
            // What cannot be pinned may be replaced at any time: the rest of its bytes is written as zeros.
            whole = whole && large.read(at, piece, policy).map_err(naming)?;
            match whole {
                true => check.feed(piece).map_err(|why| damaged(of, why))?,
                false => piece.fill(0),
            }
            at += piece.len() as u64;
            match piece.len() < PIECE || self.deferred {
                true => {
                    fallible::reserve(&mut self.buffer, piece.len() + 1, LOG)?;
                    self.buffer.extend_from_slice(piece);
                }
                false => {
                    write_here(self.write, &self.buffer, (self.epoch, &self.key))?;
                    write_here(self.write, piece, (self.epoch, &self.key))?;
                    self.handed += (self.buffer.len() + piece.len()) as u64;
                    self.buffer.clear();
                }
            }
        }
        self.buffer.push(b'\n');
        if !whole {
            self.gone(line, of);
            return Ok(None);
        }
        check.end().map_err(|why| damaged(of, why))?;
        Ok(Some(line))
    }

    fn gone(&mut self, line: u32, of: ValueOf<'_>) {
        match of {
            ValueOf::Variable(_) => self.variable_gone(line),
            ValueOf::Item(_) => self.item_gone(line),
        }
    }

    /// Writes that the variable of a value line does not count.
    pub fn variable_gone(&mut self, line: u32) {
        self.variables = self.variables.saturating_sub(1);
        self.expiries.remove(&line);
        dump_line::write_gone(line, &mut self.buffer);
    }

    /// Writes that the item of a value line does not count.
    pub fn item_gone(&mut self, line: u32) {
        self.items = self.items.saturating_sub(1);
        dump_line::write_gone(line, &mut self.buffer);
    }

    /// Notes when the variable of a value line expires.
    pub fn note_expiry(&mut self, line: u32, expiry: Option<u64>) -> Result<()> {
        match expiry {
            None => drop(self.expiries.remove(&line)),
            Some(expiry) => drop(fallible::insert(&mut self.expiries, line, expiry, LOG)?),
        }
        Ok(())
    }

    /// Returns the expiry that was noted of a value line.
    pub fn expiry_of(&self, line: u32) -> Option<u64> {
        self.expiries.get(&line).copied()
    }

    /// Writes what is left to live to each variable that expires, as of an instant; or, of those that have expired
    /// then, that they do not count. Hands everything over.
    pub fn end(&mut self, now: u64) -> Result<()> {
        let mut expiries = fallible::collect(self.expiries.drain().map(Ok), LOG)?;
        expiries.sort_unstable();
        for (line, expiry) in expiries {
            match expiry.checked_sub(now).filter(|left| *left > 0) {
                Some(left) => dump_line::write_expires(line, left, &mut self.buffer),
                None => self.variable_gone(line),
            }
            self.hand_over_much()?;
        }
        self.hand_over()
    }
}

/// Returns the index in the prefix of a record, whose last `key_len` bytes are the key.
pub fn index_in(prefix: &[u8], index_word: u64, key_len: Option<usize>) -> Result<Index<'_>> {
    let Some(key_len) = key_len else { return Ok(Index::Int(index_word as i64)) };
    let key = prefix.len().checked_sub(key_len).and_then(|start| prefix.get(start..));
    let text = key.and_then(|key| std::str::from_utf8(key).ok()).filter(|text| text.len() <= crate::key::INDEX_MAX);
    text.map(Index::Text).ok_or_else(|| Error::corrupt("a text index"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_policy::Blocking;
    use crate::variables::AsVariables;

    #[test]
    fn of_a_value_that_has_changed_before_it_is_pinned_nothing_is_written() {
        let key = Key::text(&format!("dump-log-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key.clone(), &crate::Options::default()).unwrap();
        let put = |byte: u8| segment.put("large", &vec![byte; 500_000]).unwrap();
        put(1);
        let attachment = segment.attachment().unwrap();
        let (all, mut scratch) = (attachment.variables(), crate::os::mem::Scratch::new());
        let mut write = |_: &[u8]| -> Result<()> { Ok(()) };
        let mut log = DumpLog::new(&mut write, &key).unwrap();
        let (index, start) = (Index::Text("large"), log.written());
        for (is_replaced, written) in [(true, false), (false, true)] {
            let found = all.find(&index, &mut scratch, &Blocking).unwrap().unwrap();
            if is_replaced {
                put(2);
            }
            let large = all.pin_large(found, &Blocking).unwrap();
            assert_eq!(large.pinned(), !is_replaced);
            let line = log.write_large(ValueOf::Variable(index), &large, &Blocking).unwrap();
            assert_eq!((line.is_some(), log.written() > start), (written, written));
        }
        segment.destroy().unwrap();
    }
}
