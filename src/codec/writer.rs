//! Writes pickles of containers, one value after the other, without the interpreter's pickler.
//!
//! The pickles are of protocol 4 and without a frame. A pickle that begins so was written here or is one scalar's
//! ([`scalar`]): CPython frames each pickle of protocol 4 that has four bytes or more. See [`may_be_containers`].
//!
//! A value is memoized only if the caller asks for it, because it may be met again. The numbers of the memo are those
//! of the opcode `MEMOIZE`: 0, 1, 2 and so on.

use crate::codec::code;
use crate::codec::scalar::{self, ShortPickle};

/// There is no memory for the pickle.
///
/// It says no more, because it is returned by the quickest functions there are: an error with a text would be copied
/// about.
#[derive(Debug)]
pub struct NoMemory;

type Result<T> = std::result::Result<T, NoMemory>;

/// Bytes of memory that a pickle gets first.
const FIRST: usize = 240;
/// Content of up to this many bytes is appended without a call.
const SHORT: usize = 16;
/// The first bytes of the pickles that are written here.
const PROTO: [u8; 2] = [code::PROTO, 4];

/// Returns `false` if a pickle of protocol 4 or 5 has, or seems to have, the opcode that names a class: bytes of a text
/// or number look the same. Then it is not worth while to read it as containers and scalars alone. Those that were
/// written here are, and those of older protocols are read as far as they can be.
pub fn may_be_containers(pickle: &[u8]) -> bool {
    match pickle {
        [code::PROTO, 4, code::FRAME, ..] | [code::PROTO, 5, ..] => !pickle.contains(&code::STACK_GLOBAL),
        _ => true,
    }
}

/// A pickle that is being written.
pub struct PickleWriter {
    bytes: Vec<u8>,
    memoized: u32,
}

impl PickleWriter {
    /// Begins a pickle, with memory for a short one.
    #[inline(always)]
    pub fn new() -> Result<Self> {
        let mut writer = PickleWriter { bytes: Vec::new(), memoized: 0 };
        writer.bytes.try_reserve_exact(FIRST).map_err(|_| NoMemory)?;
        writer.append(PROTO)?;
        Ok(writer)
    }

    /// Ends the pickle and returns it.
    #[inline(always)]
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.append([code::STOP])?;
        Ok(self.bytes)
    }

    /// Appends a number of bytes that is known when this is compiled.
    #[inline(always)]
    fn append<const N: usize>(&mut self, bytes: [u8; N]) -> Result<()> {
        if self.bytes.capacity() - self.bytes.len() < N {
            self.make_room(N)?;
        }
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, more: usize) -> Result<()> {
        self.bytes.try_reserve(more).map_err(|_| NoMemory)
    }

    /// Appends the pickle of a scalar without the two bytes `PROTO` at its start and without the `stop` bytes at its
    /// end.
    #[inline(always)]
    fn append_short(&mut self, short: &ShortPickle, stop: usize) -> Result<()> {
        // All bytes are appended and those too many are taken away again: that is quicker than a copy of a length that
        // is not known when this is compiled.
        let (bytes, len) = short.padded();
        let before = self.bytes.len();
        let body: [u8; 12] = bytes[PROTO.len()..].try_into().unwrap_or_default();
        self.append(body)?;
        self.bytes.truncate(before + len - PROTO.len() - stop);
        Ok(())
    }

    /// Appends content of any length after its head.
    #[inline(never)]
    fn append_content(&mut self, head: &ShortPickle, content: &[u8]) -> Result<()> {
        self.append_short(head, 0)?;
        self.make_room(content.len())?;
        self.bytes.extend_from_slice(content);
        Ok(())
    }

    /// Appends content of at most [`SHORT`] bytes after an opcode and a length of one byte. `head` has both.
    #[inline(always)]
    fn append_short_content(&mut self, head: [u8; 2], content: &[u8]) -> Result<()> {
        if self.bytes.capacity() - self.bytes.len() < 2 + 2 * SHORT {
            self.make_room(2 + 2 * SHORT)?;
        }
        self.bytes.extend_from_slice(&head);
        let end = self.bytes.len() + content.len();
        // Two pieces of a length that is known when this is compiled, which may overlap, are quicker than one of any
        // length.
        if let (Some(first), Some(last)) = (content.first_chunk::<8>(), content.last_chunk::<8>()) {
            self.append_ends(end, first, last);
        } else if let (Some(first), Some(last)) = (content.first_chunk::<4>(), content.last_chunk::<4>()) {
            self.append_ends(end, first, last);
        } else {
            content.iter().for_each(|byte| self.bytes.push(*byte));
        }
        Ok(())
    }

    /// Appends the first and the last bytes of content that will end at `end`.
    #[inline(always)]
    fn append_ends<const N: usize>(&mut self, end: usize, first: &[u8; N], last: &[u8; N]) {
        self.bytes.extend_from_slice(first);
        self.bytes.truncate(end - N);
        self.bytes.extend_from_slice(last);
    }

    /// Writes `None`, `True` or `False`.
    #[inline(always)]
    pub fn constant(&mut self, value: Option<bool>) -> Result<()> {
        self.append_short(&scalar::constant(value), 1)
    }

    /// Writes an int.
    #[inline(always)]
    pub fn int(&mut self, value: i64) -> Result<()> {
        let [a, b, c, d, ..] = value.to_le_bytes();
        match value {
            0..=0xff => self.append([code::BININT1, a]),
            0x100..=0xffff => self.append([code::BININT2, a, b]),
            _ if i64::from(value as i32) == value => self.append([code::BININT, a, b, c, d]),
            _ => self.append_short(&scalar::int(value), 1),
        }
    }

    /// Writes an int of 2^63 or more.
    pub fn unsigned(&mut self, value: u64) -> Result<()> {
        // Two's complement: a byte of zeros makes it positive.
        self.append([code::LONG1, 9])?;
        self.append(value.to_le_bytes())?;
        self.append([0])
    }

    /// Writes a float.
    #[inline(always)]
    pub fn float(&mut self, value: f64) -> Result<()> {
        let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
        self.append([code::BINFLOAT, a, b, c, d, e, f, g, h])
    }

    /// Writes a str, given as UTF-8 (with `surrogatepass`).
    #[inline(always)]
    pub fn str(&mut self, text: &[u8]) -> Result<()> {
        match text.len() {
            len @ 0..=SHORT => self.append_short_content([code::SHORT_BINUNICODE, len as u8], text),
            len => self.append_content(&scalar::str_frame(len).0, text),
        }
    }

    /// Writes a bytes object.
    #[inline(always)]
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match bytes.len() {
            len @ 0..=SHORT => self.append_short_content([code::SHORT_BINBYTES, len as u8], bytes),
            len => self.append_content(&scalar::bytes_frame(len).0, bytes),
        }
    }

    /// Sets a mark: the items of a container follow.
    #[inline(always)]
    pub fn mark(&mut self) -> Result<()> {
        self.append([code::MARK])
    }

    /// Writes an empty list.
    pub fn empty_list(&mut self) -> Result<()> {
        self.append([code::EMPTY_LIST])
    }

    /// Makes a list of the items above the mark.
    pub fn list(&mut self) -> Result<()> {
        self.append([code::LIST])
    }

    /// Makes a tuple of the last `len` items. If `len` is larger than 3, they stand above a mark.
    pub fn tuple(&mut self, len: usize) -> Result<()> {
        self.append(match len {
            0 => [code::EMPTY_TUPLE],
            1 => [code::TUPLE1],
            2 => [code::TUPLE2],
            3 => [code::TUPLE3],
            _ => [code::TUPLE],
        })
    }

    /// Writes an empty dict.
    pub fn empty_dict(&mut self) -> Result<()> {
        self.append([code::EMPTY_DICT])
    }

    /// Puts the keys and values above the mark into the dict under it.
    pub fn set_items(&mut self) -> Result<()> {
        self.append([code::SETITEMS])
    }

    /// Writes an empty set.
    pub fn empty_set(&mut self) -> Result<()> {
        self.append([code::EMPTY_SET])
    }

    /// Puts the items above the mark into the set under it.
    pub fn add_items(&mut self) -> Result<()> {
        self.append([code::ADDITEMS])
    }

    /// Makes a frozenset of the items above the mark.
    pub fn frozenset(&mut self) -> Result<()> {
        self.append([code::FROZENSET])
    }

    /// Stores the value written last in the memo. Returns its number there.
    #[inline(always)]
    pub fn memoize(&mut self) -> Result<u32> {
        let number = self.memoized;
        self.append([code::MEMOIZE])?;
        self.memoized += 1;
        Ok(number)
    }

    /// Writes a value of the memo again.
    #[inline(always)]
    pub fn get(&mut self, number: u32) -> Result<()> {
        match u8::try_from(number) {
            Ok(number) => self.append([code::BINGET, number]),
            Err(_) => {
                let [a, b, c, d] = number.to_le_bytes();
                self.append([code::LONG_BINGET, a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::opcode::{self, Op, OpReader};
    use proptest::prelude::*;

    fn ops(pickle: &[u8]) -> Vec<Op<'_>> {
        opcode::check_one_pickle(pickle).unwrap();
        let mut reader = OpReader::new(pickle);
        let mut ops = Vec::new();
        while ops.last() != Some(&Op::Stop) {
            ops.push(reader.next_op().unwrap());
        }
        ops
    }

    #[test]
    fn each_value_is_the_opcode_that_a_pickler_writes() {
        let mut writer = PickleWriter::new().unwrap();
        writer.empty_dict().unwrap();
        assert_eq!(writer.memoize().unwrap(), 0);
        writer.mark().unwrap();
        writer.str(b"key").unwrap();
        assert_eq!(writer.memoize().unwrap(), 1);
        writer.mark().unwrap();
        writer.constant(None).unwrap();
        writer.float(-0.0).unwrap();
        writer.bytes(b"\0").unwrap();
        writer.get(1).unwrap();
        writer.get(256).unwrap();
        writer.list().unwrap();
        writer.set_items().unwrap();
        let pickle = writer.finish().unwrap();
        let (list, key) = (Op::List, Op::Str(b"key"));
        let wanted = [Op::Proto(4), Op::EmptyDict, Op::Memoize, Op::Mark, key, Op::Memoize, Op::Mark, Op::None];
        let rest = [Op::Float(-0.0), Op::Bytes(b"\0"), Op::Get(1), Op::Get(256), list, Op::SetItems, Op::Stop];
        assert_eq!(ops(&pickle), [wanted.as_slice(), &rest].concat());
        assert!(may_be_containers(&pickle));
    }

    #[test]
    fn a_pickle_that_names_a_class_is_told_by_its_opcode() {
        assert!(may_be_containers(b"\x80\x05\x95\x02\0\0\0\0\0\0\0]."));
        assert!(!may_be_containers(b"\x80\x05\x95\x08\0\0\0\0\0\0\0\x8c\x01a\x8c\x01b\x93."));
        assert!(!may_be_containers(b"\x80\x04\x95\x08\0\0\0\0\0\0\0\x8c\x01a\x8c\x01b\x93."));
        assert!(may_be_containers(b"\x80\x04G\x93\x93\x93\x93\x93\x93\x93\x93."));
    }

    proptest! {
        #[test]
        fn numbers_and_texts_of_any_length_are_read_as_they_were_written(
            value: i64, bits: u64, large in 1_u64 << 63.., text in proptest::collection::vec(any::<u8>(), 0..600)
        ) {
            let mut writer = PickleWriter::new().unwrap();
            writer.mark().unwrap();
            writer.int(value).unwrap();
            writer.float(f64::from_bits(bits)).unwrap();
            writer.str(&text).unwrap();
            writer.bytes(&text).unwrap();
            writer.unsigned(large).unwrap();
            writer.tuple(5).unwrap();
            let pickle = writer.finish().unwrap();
            let ops = ops(&pickle);
            let mut alone = scalar::int(value).as_slice().to_vec();
            alone.truncate(alone.len() - 1);
            prop_assert_eq!(&ops[2..3], &[OpReader::starting_at(&alone, 2).next_op().unwrap()]);
            let long = [large.to_le_bytes().as_slice(), &[0]].concat();
            let Op::Float(back) = ops[3] else { panic!("no float") };
            prop_assert_eq!(back.to_bits(), bits);
            prop_assert_eq!(&ops[4..], &[Op::Str(&text), Op::Bytes(&text), Op::Long(&long), Op::Tuple, Op::Stop]);
        }
    }
}
