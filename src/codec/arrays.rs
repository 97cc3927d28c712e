//! numpy's arrays in a pickle: which of them a reader may write.
//!
//! numpy writes an array as a call of `_frombuffer` on its memory, and the kind of memory says whether the array may be
//! written: `bytes`, or a buffer with READONLY_BUFFER, stands for one that may not. Here one kind is put in the place of the
//! other. What has no such memory (subclasses, objects, dates, strides) is made by `_reconstruct` and gets a state later;
//! it can only be counted.

use super::opcode::{Op, OpReader};
use crate::error::Result;
use crate::fallible;
use std::ops::Range;

/// In every stream with an array of numpy: a quick search for it spares others the walk.
pub const NUMPY: &[u8] = b"numpy";

/// What a stream begins with that is one array over its memory, behind the protocol and, maybe, a frame.
const ALONE: [&[u8]; 2] = [
    b"\x8c\x13numpy._core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94(",
    b"\x8c\x12numpy.core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94(",
];

const BYTES: u8 = 0x8e;
const BYTEARRAY: u8 = 0x96;

/// What makes arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    FromBuffer,
    Reconstruct,
    Masked,
}

/// What an opcode pushed, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Other,
    /// The name of one of numpy's modules.
    Module,
    Name(Maker),
    Maker(Maker),
    /// The mark under the arguments of `_frombuffer`.
    Arguments,
}

impl Word {
    fn of(text: &[u8]) -> Self {
        match text {
            b"_frombuffer" => Word::Name(Maker::FromBuffer),
            b"_reconstruct" => Word::Name(Maker::Reconstruct),
            b"_mareconstruct" => Word::Name(Maker::Masked),
            // Numpy 2's names and numpy 1's.
            b"numpy._core.numeric" | b"numpy._core.multiarray" | b"numpy.ma.core" => Word::Module,
            b"numpy.core.numeric" | b"numpy.core.multiarray" => Word::Module,
            _ => Word::Other,
        }
    }

    fn global(module: Word, name: Word) -> Self {
        match (module, name) {
            (Word::Module, Word::Name(maker)) => Word::Maker(maker),
            _ => Word::Other,
        }
    }
}

/// Walks over a pickle as picklers write them; of any other it may miss arrays.
struct Walk<'a> {
    reader: OpReader<'a>,
    /// By number: picklers count upwards.
    memo: Vec<(u32, Word)>,
    memos: u32,
    below: Word,
    top: Word,
}

impl<'a> Walk<'a> {
    fn new(stream: &'a [u8]) -> Self {
        Walk { reader: OpReader::new(stream), memo: Vec::new(), memos: 0, below: Word::Other, top: Word::Other }
    }

    /// The next opcode, its place, and whether it is the memory that `_frombuffer` is called on.
    fn next(&mut self) -> Option<(Op<'a>, usize, bool)> {
        let op = self.reader.next_op().ok()?;
        let at = self.reader.op_at();
        let word = match op {
            Op::Frame(_) => return Some((op, at, false)),
            Op::Memoize | Op::Put(_) => {
                let number = if let Op::Put(number) = op { number } else { self.memos };
                if self.top != Word::Other {
                    let place = self.memo.partition_point(|(other, _)| *other < number);
                    self.memo.insert(place, (number, self.top));
                }
                self.memos = self.memos.max(number).saturating_add(1);
                return Some((op, at, false));
            }
            Op::Get(number) => match self.memo.binary_search_by_key(&number, |(other, _)| *other) {
                Ok(place) => self.memo[place].1,
                Err(_) => Word::Other,
            },
            Op::Str(text) => Word::of(text),
            Op::StackGlobal => Word::global(self.below, self.top),
            Op::Global { module, name } => Word::global(Word::of(module), Word::of(name)),
            Op::Mark if self.top == Word::Maker(Maker::FromBuffer) => Word::Arguments,
            _ => Word::Other,
        };
        let memory = self.top == Word::Arguments && matches!(op, Op::Bytes(_) | Op::ByteArray(_) | Op::NextBuffer);
        (self.below, self.top) = (self.top, word);
        Some((op, at, memory))
    }
}

/// What a value is, as far as arrays go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// One array over its memory.
    Array,
    /// One array that is rebuilt, and no other such in it.
    Rebuilt,
    /// Anything.
    Other {
        /// Arrays that are rebuilt are in it.
        rebuilt: bool,
    },
}

/// What is to be done so that every array of a value is read-only.
#[derive(Debug, PartialEq, Eq)]
pub struct Sealing {
    /// The opcodes that [`seal`] changes.
    pub writable: Vec<usize>,
    /// What is rebuilt is to be sealed once it is made.
    pub whole: Whole,
}

/// What is found of them is called so where there is no memory for it.
const ARRAYS: &str = "the arrays of a value";

/// Looks for the arrays of a pickle. `None`: damaged.
///
/// # Errors
/// No memory for what was found.
pub fn sealing(stream: &[u8]) -> Result<Option<Sealing>> {
    if let Some(writable) = alone(stream) {
        return Ok(Some(Sealing { writable, whole: Whole::Array }));
    }
    let mut walk = Walk::new(stream);
    let (mut writable, mut whole) = (Vec::new(), Whole::Other { rebuilt: false });
    // So far only the name of what makes the value itself, or the first item of a short tuple: those have no mark before.
    let (mut first, mut called) = (true, false);
    // `ndarray.__new__` is called on memory, and bytes that may be changed are in the stream: where it was put into one.
    let (mut new, mut loose) = (false, false);
    loop {
        let Some((op, at, memory)) = walk.next() else { return Ok(None) };
        match op {
            Op::Stop => {
                let elsewhere = (!called && whole == Whole::Rebuilt) || (new && loose);
                let whole = if elsewhere { Whole::Other { rebuilt: true } } else { whole };
                return Ok(Some(Sealing { writable, whole }));
            }
            Op::ByteArray(_) if memory => fallible::push(&mut writable, at, ARRAYS)?,
            Op::ByteArray(_) => loose = true,
            Op::Str(b"__new__") => new = true,
            Op::Proto(_) | Op::Frame(_) | Op::Str(_) | Op::Memoize => continue,
            Op::StackGlobal | Op::Get(_) | Op::Global { .. } => match walk.top {
                Word::Maker(Maker::Reconstruct) if first => whole = Whole::Rebuilt,
                Word::Maker(Maker::Reconstruct | Maker::Masked) => whole = Whole::Other { rebuilt: true },
                _ => {}
            },
            _ => {}
        }
        // An array ends with the call or its state; a tuple with its length or, if it is in itself, its number in the memo.
        (first, called) = (false, matches!(op, Op::Reduce | Op::Build));
    }
}

/// The same for a value that is one array over its memory, which does not wait for the walk.
fn alone(stream: &[u8]) -> Option<Vec<usize>> {
    // Called last: not the first item of a short tuple.
    if ![&b"R."[..], b"R\x94."].iter().any(|end| stream.ends_with(end)) {
        return None;
    }
    let framed = if stream.get(2) == Some(&0x95) { 11 } else { 2 };
    let head = ALONE.into_iter().find(|head| stream.get(framed..).is_some_and(|rest| rest.starts_with(head)))?;
    let at = framed + head.len();
    Some(if stream.get(at) == Some(&BYTEARRAY) { vec![at] } else { Vec::new() })
}

/// Makes read-only, in a copy of the stream that they were found in, what [`sealing`] found writable.
pub fn seal(stream: &mut [u8], writable: &[usize]) {
    for at in writable {
        // The length that follows is 8 bytes in both.
        stream[*at] = BYTES;
    }
}

/// The same value with every array writable that was not. `None`: there is none, or it is damaged.
///
/// # Errors
/// No memory for it.
pub fn writable(stream: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut walk = Walk::new(stream);
    // Frames count bytes that change: they are left out, which every reader bears.
    let mut changes: Vec<(Range<usize>, Option<usize>)> = Vec::new();
    let mut found = false;
    // Where a READONLY_BUFFER would stand that says so of an array's memory.
    let mut buffer_end = None;
    loop {
        let Some((op, at, memory)) = walk.next() else { return Ok(None) };
        match op {
            Op::Stop => break,
            Op::Frame(_) => fallible::push(&mut changes, (at..at + 9, None), ARRAYS)?,
            Op::Bytes(bytes) if memory => {
                let head = match stream.get(at) {
                    None => return Ok(None),
                    Some(b'C') => 2,
                    Some(b'B') => 5,
                    _ => 9,
                };
                fallible::push(&mut changes, (at..at + head, Some(bytes.len())), ARRAYS)?;
                found = true;
            }
            Op::NextBuffer if memory => buffer_end = Some(at + 1),
            Op::ReadonlyBuffer if buffer_end == Some(at) => {
                fallible::push(&mut changes, (at..at + 1, None), ARRAYS)?;
                found = true;
            }
            _ => {}
        }
    }
    if !found {
        return Ok(None);
    }
    let (mut made, mut kept) = (fallible::with_room(stream.len() + 8 * changes.len(), ARRAYS)?, 0);
    for (range, memory) in changes {
        made.extend(&stream[kept..range.start]);
        if let Some(len) = memory {
            made.push(BYTEARRAY);
            made.extend((len as u64).to_le_bytes());
        }
        kept = range.end;
    }
    made.extend(&stream[kept..]);
    Ok(Some(made))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAME: &[u8] = b"\x8c\x13numpy._core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94";

    fn framed(parts: &[&[u8]]) -> Vec<u8> {
        let mut stream = [b"\x80\x05\x95", &[0; 8][..]].concat();
        let body = parts.concat();
        stream[3..11].copy_from_slice(&(body.len() as u64).to_le_bytes());
        stream.extend(body);
        stream
    }

    #[test]
    fn memory_of_an_array_changes_its_kind_and_other_bytes_do_not() {
        // A list: bytes; an array over bytes; the same call, by its number in the memo, over a buffer; a bare buffer.
        let stream = framed(&[b"](C\x01x", NAME, b"(C\x02ab\x94t\x52h\x02(\x97\x98t\x52\x97\x98e."]);
        let expected =
            [b"\x80\x05](C\x01x", NAME, b"(\x96\x02\0\0\0\0\0\0\0ab\x94t\x52h\x02(\x97t\x52\x97\x98e."].concat();
        assert_eq!(writable(&stream).unwrap(), Some(expected.clone()));
        assert_eq!(writable(&expected).unwrap(), None);
        let found = sealing(&expected).unwrap().unwrap();
        assert_eq!((found.writable.len(), found.whole), (1, Whole::Other { rebuilt: false }));
        let mut sealed = expected.clone();
        seal(&mut sealed, &found.writable);
        assert_eq!(sealed[found.writable[0]], BYTES);
        assert_eq!(writable(&sealed).unwrap(), Some(expected));
    }

    #[test]
    fn a_call_of_another_function_of_that_name_is_left_alone() {
        let stream = framed(&[b"\x8c\x02my\x94\x8c\x0b_frombuffer\x94\x93\x94(C\x02ab\x94t\x52."]);
        assert_eq!(writable(&stream).unwrap(), None);
    }

    #[test]
    fn an_array_that_is_the_value_is_told_from_arrays_in_it() {
        let name: &[u8] = b"\x8c\x16numpy._core.multiarray\x94\x8c\x0c_reconstruct\x94\x93\x94";
        let masked: &[u8] = b"\x8c\x0dnumpy.ma.core\x94\x8c\x0e_mareconstruct\x94\x93)R.";
        let whole = |parts: &[&[u8]]| sealing(&framed(parts)).unwrap().unwrap().whole;
        assert_eq!(whole(&[name, b"NK\0NR."]), Whole::Rebuilt);
        assert_eq!(whole(&[b"]", name, b"NNNRa."]), Whole::Other { rebuilt: true });
        assert_eq!(whole(&[name, b"h\x02NNRb."]), Whole::Other { rebuilt: true });
        assert_eq!(whole(&[masked]), Whole::Other { rebuilt: true });
        assert_eq!(whole(&[b"]", NAME, b"(\x97t\x52a."]), Whole::Other { rebuilt: false });
        assert_eq!(whole(&[NAME, b"(\x97t\x52."]), Whole::Array);
        assert_eq!(whole(&[NAME, b"(\x97t\x52\x94h\x02(\x97t\x52\x94\x86\x94."]), Whole::Other { rebuilt: false });
        assert_eq!(whole(&[name, b"NK\0NR\x85."]), Whole::Other { rebuilt: true });
        assert_eq!(whole(&[name, b"NK\0NR\x94N\x86\x940h\x03."]), Whole::Other { rebuilt: true });
        assert_eq!(whole(&[name, b"NK\0NR\x94Nb\x86\x94."]), Whole::Other { rebuilt: true });
        let short = framed(&[NAME, b"(\x96\x01\0\0\0\0\0\0\0at\x52."]);
        assert_eq!(
            sealing(&short).unwrap(),
            Some(Sealing { writable: vec![11 + NAME.len() + 1], whole: Whole::Array })
        );
        assert_eq!(sealing(b"\x80\x05\x95\x40\0\0\0\0\0\0\0").unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_or_refused(bytes: Vec<u8>, place in 0_usize..90, byte: u8) {
            let _ = (sealing(&bytes), writable(&bytes));
            let mut stream = framed(&[b"](", NAME, b"(C\x02ab\x94t\x52h\x02(\x97\x98t\x52e."]);
            let at = place % stream.len();
            stream[at] = byte;
            let mut copy = stream.clone();
            if let Some(found) = sealing(&stream).unwrap() {
                seal(&mut copy, &found.writable);
            }
            prop_assert_eq!(copy.len(), stream.len());
            let _ = writable(&stream);
        }
    }
}
