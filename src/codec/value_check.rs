//! Whether bytes that come piece by piece are a whole value: a pickle, or a pickle with its table and its buffers. It
//! takes next to no memory, however long the value is and whatever it claims.
//!
//! The layout is "Record" in docs/format.md. Dumps look at each value so, when they are written and when they are read.

use crate::codec::buffers::ALIGN;
use crate::codec::code;
use crate::codec::opcode::{HIGHEST_PROTOCOL, Op, OpReader};

/// The longest opcode that is looked at as a whole: one with two lines, which name a class.
const OPCODE_MAX: usize = 64 << 10;

/// Private to the process: looks at a pickle that comes piece by piece.
pub struct PickleCheck {
    /// Bytes of the pickle that did not come yet.
    left: u64,
    /// Bytes that came and are not looked at yet: the start of an opcode.
    carry: Vec<u8>,
    /// Bytes of a long text or of bytes that are still to be passed over.
    skip: u64,
    /// How many buffers beside it the pickle may still name.
    buffers: u64,
    /// It has a buffer that may not be changed.
    is_readonly: bool,
    values: bool,
    ended: bool,
}

/// The length of an opcode that counts what it has, where that can be long: of its head, and of what follows.
fn counted(bytes: &[u8]) -> Option<(usize, u64)> {
    let number = |len: usize| -> Option<u64> {
        let mut word = [0; 8];
        word[..len].copy_from_slice(bytes.get(1..1 + len)?);
        Some(u64::from_le_bytes(word))
    };
    match *bytes.first()? {
        code::BINUNICODE | code::BINBYTES => Some((5, number(4)?)),
        code::BINUNICODE8 | code::BINBYTES8 | code::BYTEARRAY8 => Some((9, number(8)?)),
        code::LONG4 => Some((5, number(4).filter(|len| *len <= i32::MAX as u64)?)),
        _ => None,
    }
}

impl PickleCheck {
    /// Begins to look at a pickle of `len` bytes, which may name so many buffers beside it.
    pub fn new(len: u64, buffers: u64) -> Self {
        PickleCheck { left: len, carry: Vec::new(), skip: 0, buffers, is_readonly: false, values: false, ended: false }
    }

    /// Looks at the next bytes, which are no more than are left.
    ///
    /// # Errors
    /// Why this is no pickle.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        loop {
            let skipped = self.skip.min(bytes.len() as u64) as usize;
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            if self.skip > 0 || (bytes.is_empty() && self.carry.is_empty()) {
                return Ok(());
            }
            // An opcode that began in the piece before: with some more bytes, until it is whole.
            if !self.carry.is_empty() {
                let (before, more) = (self.carry.len(), bytes.len().min(self.carry.len().max(64)));
                self.carry.extend_from_slice(&bytes[..more]);
                let carry = std::mem::take(&mut self.carry);
                let used = self.look(&carry, self.left + (bytes.len() - more) as u64)?;
                if used >= before {
                    bytes = &bytes[used - before..];
                    continue;
                }
                self.carry = carry;
                self.carry.drain(..used);
                bytes = &bytes[more..];
                if bytes.is_empty() || self.carry.len() > OPCODE_MAX {
                    return self.keep(&[]);
                }
                continue;
            }
            let used = self.look(bytes, self.left)?;
            bytes = &bytes[used.min(bytes.len())..];
            if self.skip == 0 {
                return self.keep(bytes);
            }
        }
    }

    /// Keeps the start of an opcode for the next piece.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.carry.extend_from_slice(bytes);
        if self.carry.len() > OPCODE_MAX { Err("an opcode that does not end") } else { Ok(()) }
    }

    /// Looks at the whole opcodes that these bytes begin with, and returns how many bytes they take. `behind`: bytes of
    /// the pickle behind these.
    fn look(&mut self, bytes: &[u8], behind: u64) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < bytes.len() {
            if self.ended {
                return Err("bytes follow the pickle's end");
            }
            let rest = &bytes[at..];
            let left = rest.len() as u64 + behind;
            if let Some((head, len)) = counted(rest) {
                if len > left - head as u64 {
                    return Err("the pickle ends too early");
                }
                self.values = true;
                let here = len.min((rest.len() - head) as u64);
                (at, self.skip) = (at + head + here as usize, len - here);
                if self.skip > 0 {
                    return Ok(at);
                }
                continue;
            }
            if rest[0] == code::FRAME {
                let Some(length) = rest.get(1..9) else { return self.unless_last(at, behind) };
                let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
                if length > left - 9 {
                    return Err("a FRAME runs beyond the end of the pickle");
                }
                at += 9;
                continue;
            }
            let mut reader = OpReader::new(rest);
            match reader.next_op() {
                Ok(op) => self.count(&op)?,
                Err(error) if error.is_end() => return self.unless_last(at, behind),
                Err(error) => return Err(error.why),
            }
            at += reader.at();
        }
        Ok(at)
    }

    /// An opcode begins at `at` and does not end here.
    fn unless_last(&self, at: usize, behind: u64) -> Result<usize, &'static str> {
        if behind == 0 { Err("the pickle ends too early") } else { Ok(at) }
    }

    fn count(&mut self, op: &Op<'_>) -> Result<(), &'static str> {
        match op {
            Op::Stop if !self.values => return Err("the pickle has no value"),
            Op::Stop => self.ended = true,
            Op::Proto(protocol) if *protocol > HIGHEST_PROTOCOL => return Err("a newer protocol"),
            Op::NextBuffer if self.buffers == 0 => return Err("a buffer that is not within the value"),
            Op::NextBuffer => (self.buffers, self.values) = (self.buffers - 1, true),
            Op::PersId | Op::BinPersId => return Err("a persistent id"),
            Op::ReadonlyBuffer => self.is_readonly = true,
            Op::Proto(_) | Op::Frame(_) | Op::Mark => {}
            _ => self.values = true,
        }
        Ok(())
    }

    /// Ends the look.
    ///
    /// # Errors
    /// Why this is no pickle.
    pub fn end(&self) -> Result<(), &'static str> {
        if self.ended && self.left == 0 { Ok(()) } else { Err("the pickle ends too early") }
    }
}

/// What the bytes of a value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A pickle.
    Pickle,
    /// A table, a pickle and its out-of-band buffers.
    Buffers,
    /// The same with exactly one buffer, which processes change where it lies.
    InPlace,
}

/// What of a value comes next.
enum Next {
    /// The two counts.
    Counts,
    /// An entry of the table.
    Table { left: u64, end: u64 },
    /// The pickle.
    Pickle(u64),
    /// The buffers, or the gaps before them.
    Buffers,
}

/// Private to the process: looks at a value that comes piece by piece.
pub struct ValueCheck {
    kind: ValueKind,
    total: u64,
    next: Next,
    /// The start of a count or of an entry of the table.
    carry: Vec<u8>,
    pickle: PickleCheck,
    /// Where the pickle is, and where it ends.
    pickle_len: u64,
}

impl ValueCheck {
    /// Begins to look at a value of `total` bytes.
    pub fn new(kind: ValueKind, total: u64) -> Self {
        let next = if kind == ValueKind::Pickle { Next::Pickle(total) } else { Next::Counts };
        ValueCheck { kind, total, next, carry: Vec::new(), pickle: PickleCheck::new(total, 0), pickle_len: total }
    }

    /// Looks at the next bytes. The caller gives `total` bytes in all.
    ///
    /// # Errors
    /// Why this is no such value.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        const TABLE: &str = "the table of its buffers";
        while !bytes.is_empty() {
            match self.next {
                Next::Buffers => return Ok(()),
                Next::Pickle(left) => {
                    let here = left.min(bytes.len() as u64);
                    self.pickle.feed(&bytes[..here as usize])?;
                    bytes = &bytes[here as usize..];
                    self.next = Next::Pickle(left - here);
                    if left == here {
                        self.pickle.end()?;
                        self.next = Next::Buffers;
                    }
                }
                Next::Counts | Next::Table { .. } => {
                    let more = (16 - self.carry.len()).min(bytes.len());
                    self.carry.extend_from_slice(&bytes[..more]);
                    bytes = &bytes[more..];
                    if self.carry.len() < 16 {
                        return Ok(());
                    }
                    let word = |at: usize| u64::from_le_bytes(self.carry[at..at + 8].try_into().expect("eight bytes"));
                    let (one, two) = (word(0), word(8));
                    self.carry.clear();
                    let (left, end) = match self.next {
                        Next::Table { left, end } => {
                            let ends = one.checked_add(two).filter(|ends| *ends <= self.total);
                            let ends = ends.filter(|_| one >= end && one.is_multiple_of(ALIGN)).ok_or(TABLE)?;
                            (left - 1, ends)
                        }
                        _ => {
                            let head = one.checked_mul(16).and_then(|len| len.checked_add(16)).ok_or(TABLE)?;
                            let end = head.checked_add(two).filter(|end| *end <= self.total).ok_or(TABLE)?;
                            if self.kind == ValueKind::InPlace && one != 1 {
                                return Err(TABLE);
                            }
                            self.pickle = PickleCheck::new(two, one);
                            self.pickle_len = two;
                            (one, end)
                        }
                    };
                    self.next = if left > 0 { Next::Table { left, end } } else { Next::Pickle(self.pickle_len) };
                }
            }
        }
        Ok(())
    }

    /// Ends the look.
    ///
    /// # Errors
    /// Why this is no such value.
    pub fn end(&self) -> Result<(), &'static str> {
        if self.kind == ValueKind::InPlace && (self.pickle.buffers > 0 || self.pickle.is_readonly) {
            return Err("it is in place, and its pickle has no buffer that can be changed");
        }
        match self.next {
            Next::Buffers => self.pickle.end(),
            Next::Pickle(0) => self.pickle.end(),
            Next::Pickle(_) => Err("the pickle ends too early"),
            _ => Err("the table of its buffers"),
        }
    }
}

/// Looks at a value that is in memory as a whole.
///
/// # Errors
/// Why this is no such value.
pub fn check_value(kind: ValueKind, value: &[u8]) -> Result<(), &'static str> {
    let mut check = ValueCheck::new(kind, value.len() as u64);
    check.feed(value)?;
    check.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{buffers, opcode};
    use proptest::prelude::*;

    /// Gives the value in pieces of these lengths, again and again.
    fn in_pieces(kind: ValueKind, value: &[u8], lens: &[usize]) -> Result<(), &'static str> {
        let (mut check, mut rest) = (ValueCheck::new(kind, value.len() as u64), value);
        for len in lens.iter().cycle() {
            let (piece, behind) = rest.split_at((*len).min(rest.len()));
            check.feed(piece)?;
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        check.end()
    }

    fn pickle() -> impl Strategy<Value = Vec<u8>> {
        let op = prop_oneof![
            Just(b"N".to_vec()),
            Just(b"(".to_vec()),
            Just(b"K\x01".to_vec()),
            Just(b"\x95\x02\0\0\0\0\0\0\0".to_vec()),
            Just(b"cos\nsystem\n".to_vec()),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|text| [
                b"X",
                &(text.len() as u32).to_le_bytes()[..],
                &text
            ]
            .concat()),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| [
                b"\x96",
                &(bytes.len() as u64).to_le_bytes()[..],
                &bytes
            ]
            .concat()),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(op, 0..12).prop_map(|ops| [b"\x80\x05", &ops.concat()[..], b"."].concat())
    }

    proptest! {
        #[test]
        fn pieces_are_judged_as_the_whole_is(
            pickle in pickle(), lens in prop::collection::vec(1_usize..40, 1..6), cut in 0_usize..20,
        ) {
            let value = &pickle[..pickle.len() - cut.min(pickle.len())];
            let whole = opcode::check_one_pickle(value).is_ok();
            prop_assert_eq!(in_pieces(ValueKind::Pickle, value, &lens).is_ok(), whole, "{:?}", value);
            prop_assert_eq!(check_value(ValueKind::Pickle, value).is_ok(), whole);
        }

        #[test]
        fn values_with_buffers_are_judged_as_the_whole_is(
            lens in prop::collection::vec(0_usize..200, 0..4), pieces in prop::collection::vec(1_usize..40, 1..6),
            names in 0_usize..5, readonly in 0_usize..6, change in any::<Option<(u16, u8)>>(),
        ) {
            let name = |at: usize| if at == readonly { &b"\x97\x98"[..] } else { &b"\x97"[..] };
            let pickle = [b"\x80\x05(", &(0..names).flat_map(name).copied().collect::<Vec<u8>>()[..], b"l."].concat();
            let plan = buffers::plan(pickle.len(), &lens).unwrap();
            let mut value = [&plan.head[..], &pickle].concat();
            for (gap, len) in plan.gaps.iter().zip(&lens) {
                value.extend(vec![0; gap + len]);
            }
            if let Some((at, byte)) = change {
                let at = usize::from(at) % value.len();
                value[at] ^= byte;
            }
            let start = value.first_chunk::<16>().copied();
            let head = start.and_then(buffers::head_len).filter(|len| *len <= value.len() as u64);
            let parsed = head.and_then(|len| buffers::parse(&value[..len as usize], value.len() as u64).unwrap());
            let looked = parsed.and_then(|table| {
                let pickle = &value[table.pickle.0 as usize..(table.pickle.0 + table.pickle.1) as usize];
                let mut check = PickleCheck::new(pickle.len() as u64, table.buffers.len() as u64);
                check.feed(pickle).and_then(|()| check.end()).ok().map(|()| check)
            });
            let sound = looked.is_some();
            prop_assert_eq!(in_pieces(ValueKind::Buffers, &value, &pieces).is_ok(), sound);
            // In place there is one buffer; the pickle names it, and it may be changed.
            let one = looked.is_some_and(|check| value[0] == 1 && check.buffers == 0 && !check.is_readonly);
            prop_assert_eq!(in_pieces(ValueKind::InPlace, &value, &pieces).is_ok(), one);
        }

        #[test]
        fn any_bytes_end_the_look(bytes: Vec<u8>, pieces in prop::collection::vec(1_usize..9, 1..4)) {
            for kind in [ValueKind::Pickle, ValueKind::Buffers, ValueKind::InPlace] {
                let _ = in_pieces(kind, &bytes, &pieces);
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_before_it_takes_memory() {
        let mut check = PickleCheck::new(1 << 30, 0);
        check.feed(b"\x80\x05c").unwrap();
        assert!((0..100).any(|_| check.feed(&[b'x'; 4096]).is_err()));
    }
}
