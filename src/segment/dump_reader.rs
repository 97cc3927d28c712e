//! Reading a dump: its lines and its values, piece by piece. Nothing in it is believed before it was looked at.
//!
//! A dump is read twice. The first time says which of its values count, and whether it is whole ([`DumpPlan`]); the
//! second time gives the values. The format is "Dumps" in docs/guide.md.

use crate::codec::dump_line::{self, DumpLine, HEADERS, LINE_MAX, ValueLine};
use crate::codec::value_check::{ValueCheck, ValueKind};
use crate::error::Error;
use crate::fallible;
use crate::format::{INLINE_MAX, ITEM_KEY, QUEUE_HEAD, SLOT};
use crate::key::IndexBuf;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// The name of what is read in the error for a lack of memory.
const DUMP: &str = "what a dump says";
/// What can be done about a damaged dump.
const REMEDY: &str = "dump again, or copy the file again";
/// Of so many values that are none it is known why.
const FAULTS_KEPT: usize = 1_000;
/// Values are handed on in pieces of this many bytes.
const PIECE: usize = 256 << 10;
/// Of a value line: it does not count. It is an item's. Its value is no value.
const GONE: u64 = 1 << 63;
const ITEM: u64 = 1 << 62;
const FAULTY: u64 = 1 << 61;
const CHARGE: u64 = FAULTY - 1;

/// Why a dump cannot be read.
#[derive(Debug)]
pub enum DumpError {
    /// It is no dump, or a damaged one: what, and where.
    Damaged(String),
    /// Another error.
    Other(Error),
}

impl From<Error> for DumpError {
    fn from(error: Error) -> Self {
        DumpError::Other(error)
    }
}

/// Where the bytes of a dump come from: fills a buffer, and returns how many bytes there were; 0 at the end.
pub type DumpSource<'r> = &'r mut dyn FnMut(&mut [u8]) -> Result<usize, Error>;

/// What a whole dump says, but for its values.
#[derive(Debug, Default)]
pub struct DumpPlan {
    /// For each value line, what its variable or item would be charged, and the three bits above.
    lines: Vec<u64>,
    /// The seconds that variables have left to live, by their lines.
    expires_in: HashMap<u64, f64>,
    /// The queues that have items, and what they themselves would be charged.
    queues: HashSet<IndexBuf>,
    queue_charge: u64,
    /// How many variables count.
    pub variables: u64,
    /// How many items count.
    pub items: u64,
    /// The checksum, as the last line states it.
    pub sha256: String,
}

/// A value of a dump that counts.
#[derive(Debug)]
pub struct DumpValue {
    /// The index of the variable, or the name of the item's queue.
    pub index: IndexBuf,
    /// It is an item.
    pub is_item: bool,
    /// What the value is.
    pub value: ValueLine,
    /// The seconds that are left of the variable's time to live.
    pub expires_in: Option<f64>,
}

/// Reads a dump.
pub struct DumpReader<'r> {
    source: DumpSource<'r>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read already, and where the others end.
    at: usize,
    end: usize,
    /// How many bytes of the dump were read.
    offset: u64,
    /// How long the dump is.
    len: u64,
    version: u32,
    /// Value lines that were read.
    lines: u64,
    /// Bytes of a value that were not read yet.
    value_left: u64,
}

impl DumpPlan {
    /// Reads a dump of `len` bytes to its end.
    ///
    /// # Errors
    /// It is not a whole dump. Whether the checksum is right is left to the caller.
    pub fn read(source: DumpSource<'_>, len: u64) -> Result<Self, DumpError> {
        let (mut reader, mut plan) = (DumpReader::new(source, len)?, DumpPlan::default());
        // The first value of each that is none: which line it is does not matter if it does not count.
        let mut faults = HashMap::new();
        // For each value line a hash of its index: no two that count are of one variable.
        let (keys, mut hashes) = (RandomState::new(), Vec::new());
        loop {
            let line_at = reader.offset;
            let line = reader.next_line()?;
            let number = plan.lines.len();
            let (index, value, charge) = match line {
                DumpLine::Variable { index, value, expires_in } => {
                    if let Some(seconds) = expires_in {
                        fallible::insert(&mut plan.expires_in, number as u64, seconds, DUMP)?;
                    }
                    let charge = charge_of(&index, value, expires_in.is_some());
                    (index, value, charge.min(CHARGE))
                }
                DumpLine::Item { queue, value } => {
                    if value.kind == ValueKind::InPlace {
                        return Err(reader.damaged_at(line_at, "an item that is in place"));
                    }
                    let charge = SLOT + 8 + ITEM_KEY as u64 + value.len;
                    if !plan.queues.contains(&queue) {
                        plan.queue_charge += SLOT + QUEUE_HEAD + queue.as_index().record_key().len() as u64;
                        fallible::replace(&mut plan.queues, queue.clone(), DUMP)?;
                    }
                    (queue, value, charge.min(CHARGE) | ITEM)
                }
                DumpLine::Gone(line) => {
                    match plan.lines.get_mut(line as usize).filter(|own| **own & GONE == 0) {
                        Some(own) => *own |= GONE,
                        None => return Err(reader.damaged_at(line_at, "a line about a value that is not there")),
                    }
                    plan.expires_in.remove(&line);
                    continue;
                }
                DumpLine::Expires(line, seconds) => {
                    if plan.lines.get(line as usize).is_none_or(|own| own & (GONE | ITEM) != 0) {
                        return Err(reader.damaged_at(line_at, "a line about a variable that is not there"));
                    }
                    fallible::insert(&mut plan.expires_in, line, seconds, DUMP)?;
                    continue;
                }
                DumpLine::End(variables, items, sha256) => {
                    plan.sha256 = sha256;
                    return plan.ended(&mut reader, line_at, (variables, items), &faults, hashes);
                }
            };
            let what = || match charge & ITEM {
                0 => format!("variable {}", index.as_index()),
                _ => format!("an item of queue {}", index.as_index()),
            };
            fallible::push(&mut plan.lines, charge, DUMP)?;
            fallible::push(&mut hashes, keys.hash_one(&index), DUMP)?;
            if value.len > reader.left() {
                let (what, left, len) = (what(), reader.left(), value.len);
                return Err(DumpError::Damaged(format!(
                    "the dump is cut short: {what} has {len} bytes, {left} follow; {REMEDY}"
                )));
            }
            let (mut check, mut fault) = (ValueCheck::new(value.kind, value.len), None);
            reader.each_piece(&mut |piece| {
                if fault.is_none() {
                    fault = check.feed(piece).err();
                }
                Ok(())
            })?;
            if !reader.ends_value()? {
                return Err(reader.damaged_at(line_at, &format!("{} does not end where it should", what())));
            }
            if let Some(why) = fault.or(check.end().err()) {
                plan.lines[number] |= FAULTY;
                // Only few are kept: a dump that has more of them is damaged all the same.
                if faults.len() < FAULTS_KEPT {
                    fallible::insert(&mut faults, number, (line_at, format!("{}: {why}", what())), DUMP)?;
                }
            }
        }
    }

    fn ended(
        mut self,
        reader: &mut DumpReader<'_>,
        line_at: u64,
        (variables, items): (u64, u64),
        faults: &HashMap<usize, (u64, String)>,
        mut hashes: Vec<u64>,
    ) -> Result<Self, DumpError> {
        if reader.left() > 0 || reader.fill()? {
            return Err(reader.damaged_at(reader.offset, "something follows its end"));
        }
        for (number, line) in self.lines.iter().enumerate().filter(|(_, line)| *line & GONE == 0) {
            match line & ITEM {
                0 => self.variables += 1,
                _ => self.items += 1,
            }
            if line & FAULTY != 0 {
                let fault = faults.get(&number);
                let (at, why) = fault.map_or((line_at, "a value that is none"), |(at, why)| (*at, why.as_str()));
                return Err(reader.damaged_at(at, why));
            }
        }
        if (self.variables, self.items) != (variables, items) {
            let (own, own_items) = (self.variables, self.items);
            return Err(reader.damaged_at(
                line_at,
                &format!("it has {own} variables and {own_items} items, and says {variables} and {items}"),
            ));
        }
        // Dumps of version 1 were of no instant, so a variable may be there twice; the last one counts.
        if reader.version > 1 {
            let mut lines = self.lines.iter();
            hashes.retain(|_| lines.next().is_some_and(|line| line & (GONE | ITEM) == 0));
            hashes.sort_unstable();
            if hashes.windows(2).any(|two| two[0] == two[1]) {
                return Err(reader.damaged_at(line_at, "it has two values of one variable"));
            }
        }
        Ok(self)
    }

    /// Returns what all variables would be charged, if no two are of one index, and all items with their queues.
    pub fn charges(&self) -> (u64, u64) {
        let mut sums = [0_u64; 2];
        for line in self.lines.iter().filter(|line| *line & GONE == 0) {
            let sum = &mut sums[usize::from(line & ITEM != 0)];
            *sum = sum.saturating_add(line & CHARGE);
        }
        let queues = if self.items > 0 { self.queue_charge } else { 0 };
        (sums[0].saturating_add(8 * self.expires_in.len() as u64), sums[1].saturating_add(queues))
    }

    /// Returns whether the value of a line counts.
    fn counts(&self, line: u64) -> bool {
        self.lines.get(line as usize).is_some_and(|own| own & GONE == 0)
    }
}

/// What a variable would be charged.
fn charge_of(index: &IndexBuf, value: ValueLine, expires: bool) -> u64 {
    let key = match index {
        IndexBuf::Int(_) if value.len <= INLINE_MAX as u64 && value.kind == ValueKind::Pickle && !expires => {
            return SLOT;
        }
        IndexBuf::Int(_) => 0,
        IndexBuf::Text(text) => text.len() as u64,
    };
    SLOT + key + value.len
}

impl<'r> DumpReader<'r> {
    /// Begins to read a dump of `len` bytes.
    ///
    /// # Errors
    /// It is no dump of a known version.
    pub fn new(source: DumpSource<'r>, len: u64) -> Result<Self, DumpError> {
        let buffer = fallible::zeros(PIECE + LINE_MAX, DUMP)?;
        let mut reader =
            DumpReader { source, buffer, at: 0, end: 0, offset: 0, len, version: 0, lines: 0, value_left: 0 };
        let header = reader.line()?;
        let version = HEADERS.iter().position(|own| **own == *header);
        reader.version = version.ok_or_else(|| {
            DumpError::Damaged(
                "not a dump of shmvar, or of a later version: it begins neither with 'shmvar dump 1' nor with 'shmvar \
                 dump 2'; load what `shmvar dump` wrote, with a version that is no older"
                    .into(),
            )
        })? as u32
            + 1;
        Ok(reader)
    }

    fn damaged_at(&self, at: u64, why: &str) -> DumpError {
        DumpError::Damaged(format!("the dump is damaged at byte {at}: {why}; {REMEDY}"))
    }

    fn left(&self) -> u64 {
        self.len.saturating_sub(self.offset)
    }

    /// Reads more. Returns `false` at the end.
    fn fill(&mut self) -> Result<bool, DumpError> {
        if self.at == self.end {
            (self.at, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, self.end - self.at);
        }
        let read = (self.source)(&mut self.buffer[self.end..])?;
        self.end += read.min(self.buffer.len() - self.end);
        Ok(read > 0)
    }

    /// Reads a line, with its end.
    fn line(&mut self) -> Result<Vec<u8>, DumpError> {
        let mut seen = 0;
        loop {
            let there = &self.buffer[self.at..self.end];
            if let Some(end) = there[seen..].iter().position(|byte| *byte == b'\n') {
                let line = fallible::copied(&there[..seen + end + 1], DUMP)?;
                self.at += line.len();
                self.offset += line.len() as u64;
                return Ok(line);
            }
            seen = there.len();
            if seen >= LINE_MAX {
                return Err(self.damaged_at(self.offset, "a line that does not end"));
            }
            if !self.fill()? {
                return Err(DumpError::Damaged(format!("the dump is cut short at byte {}; {REMEDY}", self.offset)));
            }
        }
    }

    fn next_line(&mut self) -> Result<DumpLine, DumpError> {
        let at = self.offset;
        let line = self.line()?;
        let parsed = dump_line::parse(&line, self.version);
        let parsed = parsed.ok_or_else(|| self.damaged_at(at, "a line that no dump has"))?;
        if let DumpLine::Variable { value, .. } | DumpLine::Item { value, .. } = &parsed {
            self.value_left = value.len;
            self.lines += 1;
        }
        Ok(parsed)
    }

    /// Reads on to the next value that counts. `None`: there are no more.
    ///
    /// # Errors
    /// The dump is not the one of the plan.
    pub fn next(&mut self, plan: &DumpPlan) -> Result<Option<DumpValue>, DumpError> {
        loop {
            let (index, value, expires_in, is_item) = match self.next_line()? {
                DumpLine::Variable { index, value, expires_in } => (index, value, expires_in, false),
                DumpLine::Item { queue, value } => (queue, value, None, true),
                DumpLine::Gone(_) | DumpLine::Expires(..) => continue,
                DumpLine::End(..) => return Ok(None),
            };
            if plan.counts(self.lines - 1) {
                let expires_in = plan.expires_in.get(&(self.lines - 1)).copied().or(expires_in);
                return Ok(Some(DumpValue { index, is_item, value, expires_in }));
            }
            self.pass_value()?;
        }
    }

    /// Passes over the value of the last line.
    pub fn pass_value(&mut self) -> Result<(), DumpError> {
        self.each_piece(&mut |_| Ok(()))?;
        self.end_value()
    }

    /// Gives the rest of the value, piece by piece.
    pub fn each_piece(&mut self, see: &mut dyn FnMut(&[u8]) -> Result<(), DumpError>) -> Result<(), DumpError> {
        while self.value_left > 0 {
            if self.at == self.end && !self.fill()? {
                return Err(DumpError::Damaged(format!("the dump is cut short at byte {}; {REMEDY}", self.offset)));
            }
            let here = self.value_left.min((self.end - self.at) as u64) as usize;
            see(&self.buffer[self.at..self.at + here])?;
            self.at += here;
            self.offset += here as u64;
            self.value_left -= here as u64;
        }
        Ok(())
    }

    /// Reads the line end behind a value. Returns `false` if there is none.
    fn ends_value(&mut self) -> Result<bool, DumpError> {
        if self.at == self.end && !self.fill()? {
            return Ok(false);
        }
        let ends = self.buffer[self.at] == b'\n';
        self.at += 1;
        self.offset += 1;
        Ok(ends)
    }

    /// Reads the line end behind a value.
    ///
    /// # Errors
    /// There is none.
    pub fn end_value(&mut self) -> Result<(), DumpError> {
        match self.ends_value()? {
            true => Ok(()),
            false => Err(self.damaged_at(self.offset, "a value that does not end where it should")),
        }
    }

    /// Appends the rest of the value to `to`, with the line end behind it left out.
    pub fn take_value(&mut self, to: &mut Vec<u8>) -> Result<(), DumpError> {
        // The plan has seen that so many bytes are there.
        fallible::reserve(to, self.value_left as usize, "a value of a dump")?;
        self.each_piece(&mut |piece| {
            to.extend_from_slice(piece);
            Ok(())
        })?;
        self.end_value()
    }
}
