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
        if self.buffer.len() >= PIECE { self.hand_over() } else { Ok(()) }
    }

    /// Hands over what is there.
    pub fn hand_over(&mut self) -> Result<()> {
        write_here(self.write, &self.buffer, (self.epoch, &self.key))?;
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
    /// the variable changed meanwhile, and what was written of it does not count.
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
            match piece.len() < PIECE {
                true => self.buffer.extend_from_slice(piece),
                false => {
                    write_here(self.write, &self.buffer, (self.epoch, &self.key))?;
                    self.buffer.clear();
                    write_here(self.write, piece, (self.epoch, &self.key))?;
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
