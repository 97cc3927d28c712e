//! A reader of pickle opcodes, one at a time, from bytes that may be hostile.
//!
//! It knows protocols 2 to 5 as CPython writes them. It allocates nothing: each argument borrows from the input, and
//! each length is compared with the number of bytes that are left before it is used. The text opcodes of protocols 0
//! and 1 are refused by name, because nothing that writes to a segment uses them. What an opcode does is not known
//! here.

use crate::codec::code;
use std::fmt;

/// The newest pickle protocol this reader knows.
pub const HIGHEST_PROTOCOL: u8 = 5;

/// One opcode with its argument. The names are those of `pickletools`; opcodes that differ only in the width of a
/// length or number are one variant.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Op<'a> {
    /// The protocol number. It is not checked here, so that the caller can tell a newer protocol from a damaged pickle.
    Proto(u8),
    /// A frame of this many bytes follows. The input has that many bytes left.
    Frame(usize),
    Stop,
    Mark,
    Pop,
    PopMark,
    Dup,
    None,
    Bool(bool),
    Int(i32),
    /// Two's complement of any length, little-endian. No bytes mean 0.
    Long(&'a [u8]),
    Float(f64),
    /// UTF-8 that was not checked. Lone surrogates may occur in it (`surrogatepass`).
    Str(&'a [u8]),
    Bytes(&'a [u8]),
    ByteArray(&'a [u8]),
    EmptyList,
    EmptyTuple,
    EmptyDict,
    EmptySet,
    /// Makes a list of the items down to the mark.
    List,
    Tuple,
    Dict,
    FrozenSet,
    /// Makes a tuple of the top 1, 2 or 3 items.
    TupleOf(usize),
    Append,
    Appends,
    SetItem,
    SetItems,
    AddItems,
    Put(u32),
    Get(u32),
    Memoize,
    Global {
        module: &'a [u8],
        name: &'a [u8],
    },
    StackGlobal,
    Inst {
        module: &'a [u8],
        name: &'a [u8],
    },
    Obj,
    NewObj,
    NewObjEx,
    Reduce,
    Build,
    Ext(u32),
    PersId,
    BinPersId,
    NextBuffer,
    ReadonlyBuffer,
}

/// The reason why bytes are not a pickle, and the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpError {
    /// Offset of the opcode that could not be read.
    pub at: usize,
    /// The reason, in words.
    pub why: &'static str,
}

impl OpError {
    /// Returns whether the bytes end within the opcode: with more of them it may be one.
    pub fn is_end(&self) -> bool {
        self.why == ENDS_EARLY
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.why, self.at)
    }
}

impl std::error::Error for OpError {}

const ENDS_EARLY: &str = "the pickle ends too early";

/// Reads the opcodes of a pickle, one after the other. It does not stop at `STOP` by itself: the caller stops.
#[derive(Clone, Debug)]
pub struct OpReader<'a> {
    data: &'a [u8],
    /// Offset of the byte that is read next.
    at: usize,
    /// Offset of the opcode that was read last.
    op_at: usize,
}

impl<'a> OpReader<'a> {
    /// Makes a reader that begins at the first byte.
    pub fn new(data: &'a [u8]) -> Self {
        Self::starting_at(data, 0)
    }

    /// Makes a reader that begins at an offset, to read again an opcode that was met before.
    pub fn starting_at(data: &'a [u8], at: usize) -> Self {
        OpReader { data, at, op_at: at }
    }

    /// Returns the offset of the opcode that was returned last.
    pub fn op_at(&self) -> usize {
        self.op_at
    }

    /// Returns the offset of the byte behind the opcode that was returned last.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Reads the next opcode. After an error the reader must not be used any more.
    ///
    /// The function is inlined into its callers, because each of them looks at few kinds of opcodes: if an `Op` had to
    /// be made for each opcode, the scan of [`super::arrays`] would take twice as long.
    #[inline(always)]
    pub fn next_op(&mut self) -> Result<Op<'a>, OpError> {
        self.op_at = self.at;
        self.read().map_err(|why| OpError { at: self.op_at, why })
    }

    #[inline(always)]
    fn read(&mut self) -> Result<Op<'a>, &'static str> {
        Ok(match self.byte()? {
            code::PROTO => Op::Proto(self.byte()?),
            code::FRAME => Op::Frame(self.frame()?),
            code::STOP => Op::Stop,
            code::MARK => Op::Mark,
            b'0' => Op::Pop,
            b'1' => Op::PopMark,
            b'2' => Op::Dup,
            code::NONE => Op::None,
            code::NEWTRUE => Op::Bool(true),
            code::NEWFALSE => Op::Bool(false),
            code::BININT => Op::Int(i32::from_le_bytes(self.array()?)),
            code::BININT1 => Op::Int(self.byte()?.into()),
            code::BININT2 => Op::Int(u16::from_le_bytes(self.array()?).into()),
            code::LONG1 => Op::Long(self.counted8()?),
            code::LONG4 => Op::Long(self.long4()?),
            code::BINFLOAT => Op::Float(f64::from_be_bytes(self.array()?)),
            code::SHORT_BINUNICODE => Op::Str(self.counted8()?),
            code::BINUNICODE => Op::Str(self.counted32()?),
            code::BINUNICODE8 => Op::Str(self.counted64()?),
            code::SHORT_BINBYTES => Op::Bytes(self.counted8()?),
            code::BINBYTES => Op::Bytes(self.counted32()?),
            code::BINBYTES8 => Op::Bytes(self.counted64()?),
            code::BYTEARRAY8 => Op::ByteArray(self.counted64()?),
            code::EMPTY_LIST => Op::EmptyList,
            code::EMPTY_TUPLE => Op::EmptyTuple,
            code::EMPTY_DICT => Op::EmptyDict,
            code::EMPTY_SET => Op::EmptySet,
            code::LIST => Op::List,
            code::TUPLE => Op::Tuple,
            b'd' => Op::Dict,
            code::FROZENSET => Op::FrozenSet,
            code::TUPLE1 => Op::TupleOf(1),
            code::TUPLE2 => Op::TupleOf(2),
            code::TUPLE3 => Op::TupleOf(3),
            code::APPEND => Op::Append,
            code::APPENDS => Op::Appends,
            code::SETITEM => Op::SetItem,
            code::SETITEMS => Op::SetItems,
            code::ADDITEMS => Op::AddItems,
            code::BINPUT => Op::Put(self.byte()?.into()),
            code::LONG_BINPUT => Op::Put(u32::from_le_bytes(self.array()?)),
            code::BINGET => Op::Get(self.byte()?.into()),
            code::LONG_BINGET => Op::Get(u32::from_le_bytes(self.array()?)),
            code::MEMOIZE => Op::Memoize,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Op::Global { module, name }
            }
            code::STACK_GLOBAL => Op::StackGlobal,
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                Op::Inst { module, name }
            }
            b'o' => Op::Obj,
            0x81 => Op::NewObj,
            0x92 => Op::NewObjEx,
            b'R' => Op::Reduce,
            b'b' => Op::Build,
            0x82 => Op::Ext(self.byte()?.into()),
            0x83 => Op::Ext(u16::from_le_bytes(self.array()?).into()),
            0x84 => Op::Ext(u32::from_le_bytes(self.array()?)),
            b'P' => {
                self.line()?;
                Op::PersId
            }
            b'Q' => Op::BinPersId,
            0x97 => Op::NextBuffer,
            0x98 => Op::ReadonlyBuffer,
            old => return Err(refusal(old)),
        })
    }

    /// Returns the number of bytes that are left.
    fn left(&self) -> usize {
        self.data.len() - self.at.min(self.data.len())
    }

    /// Reads `count` bytes.
    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        if count > self.left() {
            return Err(ENDS_EARLY);
        }
        let taken = &self.data[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.take(N)?.try_into().map_err(|_| ENDS_EARLY)
    }

    /// Reads a length of one byte, and that many bytes.
    fn counted8(&mut self) -> Result<&'a [u8], &'static str> {
        let count = self.byte()?;
        self.take(count.into())
    }

    /// Reads a length of four bytes, and that many bytes.
    fn counted32(&mut self) -> Result<&'a [u8], &'static str> {
        let count = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(count).map_err(|_| ENDS_EARLY)?)
    }

    /// Reads a length of eight bytes, and that many bytes.
    fn counted64(&mut self) -> Result<&'a [u8], &'static str> {
        let count = u64::from_le_bytes(self.array()?);
        self.take(usize::try_from(count).map_err(|_| ENDS_EARLY)?)
    }

    /// Reads a signed length of four bytes, and that many bytes.
    fn long4(&mut self) -> Result<&'a [u8], &'static str> {
        let count = i32::from_le_bytes(self.array()?);
        self.take(usize::try_from(count).map_err(|_| "a LONG4 of negative length")?)
    }

    /// Reads the length of a frame. As in CPython's C unpickler, the frame must fit into the bytes that are left, and
    /// is not looked at any further.
    fn frame(&mut self) -> Result<usize, &'static str> {
        let length = u64::from_le_bytes(self.array()?);
        match usize::try_from(length) {
            Ok(length) if length <= self.left() => Ok(length),
            _ => Err("a FRAME runs beyond the end of the pickle"),
        }
    }

    /// Reads up to the end of a line. The newline is not part of the result.
    fn line(&mut self) -> Result<&'a [u8], &'static str> {
        let rest = &self.data[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or(ENDS_EARLY)?;
        self.at += end + 1;
        Ok(&rest[..end])
    }
}

/// Checks that the bytes are one pickle of a known protocol: it begins at the first byte, its `STOP` is the last byte,
/// and it needs no buffers and no persistent ids. What the pickle would do is not checked.
pub fn check_one_pickle(data: &[u8]) -> Result<(), OpError> {
    let mut reader = OpReader::new(data);
    let mut values = false;
    loop {
        let op = reader.next_op()?;
        let fault = |why| Err(OpError { at: reader.op_at(), why });
        match op {
            Op::Stop if reader.left() > 0 => return fault("bytes follow the pickle's end"),
            Op::Stop if !values => return fault("the pickle has no value"),
            Op::Stop => return Ok(()),
            Op::Proto(protocol) if protocol > HIGHEST_PROTOCOL => return fault("a newer protocol"),
            Op::NextBuffer | Op::ReadonlyBuffer => return fault("a buffer that is not within the pickle"),
            Op::PersId | Op::BinPersId => return fault("a persistent id"),
            Op::Proto(_) | Op::Frame(_) | Op::Mark => {}
            _ => values = true,
        }
    }
}

/// Returns the reason why an opcode is not read.
fn refusal(opcode: u8) -> &'static str {
    match opcode {
        b'I' => "the text opcode INT is not read",
        b'L' => "the text opcode LONG is not read",
        b'F' => "the text opcode FLOAT is not read",
        b'S' => "the text opcode STRING is not read",
        b'V' => "the text opcode UNICODE is not read",
        b'p' => "the text opcode PUT is not read",
        b'g' => "the text opcode GET is not read",
        b'T' => "the Python 2 opcode BINSTRING is not read",
        b'U' => "the Python 2 opcode SHORT_BINSTRING is not read",
        _ => "no such opcode",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(data: &[u8]) -> Result<Vec<Op<'_>>, OpError> {
        let mut reader = OpReader::new(data);
        let mut ops = Vec::new();
        loop {
            ops.push(reader.next_op()?);
            if ops.last() == Some(&Op::Stop) {
                return Ok(ops);
            }
        }
    }

    #[test]
    fn a_protocol_4_list_reads_as_written() {
        // pickle.dumps([1, 'a', -1], 4)
        let data = b"\x80\x04\x95\x10\0\0\0\0\0\0\0]\x94(K\x01\x8c\x01a\x94J\xff\xff\xff\xffe.";
        let want = [
            Op::Proto(4),
            Op::Frame(16),
            Op::EmptyList,
            Op::Memoize,
            Op::Mark,
            Op::Int(1),
            Op::Str(b"a"),
            Op::Memoize,
            Op::Int(-1),
            Op::Appends,
            Op::Stop,
        ];
        assert_eq!(all(data).unwrap(), want);
    }

    #[test]
    fn a_global_is_two_lines() {
        let got = all(b"cos\nsystem\n.").unwrap();
        let (module, name) = (&b"os"[..], &b"system"[..]);
        assert_eq!(got[0], Op::Global { module, name });
        assert!(all(b"cos\nsystem").is_err());
    }

    #[test]
    fn lengths_that_lie_are_errors_at_the_opcode() {
        let lies: [&[u8]; 9] = [
            b"N\x8e\0\0\0\0\0\0\0\x10.",
            b"N\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
            b"N\x96\0\0\0\0\0\x01\0\0.",
            b"N\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
            b"N\x8b\xff\xff\xff\x7f.",
            b"N\x8b\xff\xff\xff\xff.",
            b"NX\xff\xff\xff\xff.",
            b"N\x8c\x02.",
            b"N\x95\x02\0\0\0\0\0\0\0.",
        ];
        for data in lies {
            assert_eq!(all(data).unwrap_err().at, 1, "{data:?}");
        }
    }

    #[test]
    fn one_pickle_is_whole_and_stands_for_itself() {
        assert!(check_one_pickle(b"N.").is_ok() && check_one_pickle(b"\x80\x05K\x07.").is_ok());
        let faults: [(&[u8], &str); 8] = [
            (b"", "too early"),
            (b"N", "too early"),
            (b"N.N.", "follow"),
            (b"\x80\x05.", "no value"),
            (b"\x80\x09N.", "newer"),
            (b"\x80\x05\x97.", "buffer"),
            (b"Pid\n.", "persistent"),
            (b"\xffN.", "no such"),
        ];
        for (data, why) in faults {
            let error = check_one_pickle(data).unwrap_err().to_string();
            assert!(error.contains(why), "{data:?}: {error}");
        }
    }

    #[test]
    fn a_text_opcode_is_refused_by_name() {
        let error = all(b"I01\n.").unwrap_err();
        assert_eq!(error.to_string(), "the text opcode INT is not read at byte 0");
    }

    proptest! {
        #[test]
        fn any_bytes_read_without_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&data);
        }

        #[test]
        fn every_cut_of_a_pickle_is_an_error(cut in 0usize..26) {
            let data = b"\x80\x04\x95\x0f\0\0\0\0\0\0\0]\x94(K\x01\x8c\x01a\x94J\xff\xff\xff\xffe.";
            prop_assert!(all(&data[..cut.min(data.len() - 1)]).is_err());
        }
    }
}
