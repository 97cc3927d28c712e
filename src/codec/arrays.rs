//! numpy's arrays in a pickle: which of them a reader may write, and changing that in the stream.
//!
//! numpy pickles an array as a call of `_frombuffer` on its memory. The kind of memory decides whether the array is
//! writable: `bytes`, or a buffer with READONLY_BUFFER, makes a read-only array. This file replaces one kind by the
//! other. An array without such memory (subclasses, objects, dates, strides) is made by `_reconstruct` and gets its
//! state later. Such an array can only be found here; it is made read-only after it was unpickled.

use super::opcode::{Op, OpReader};
use crate::error::Result;
use crate::fallible;
use std::ops::Range;

/// Bytes that are in every stream with a numpy array. A quick search for them saves other streams the scan.
pub const NUMPY: &[u8] = b"numpy";

/// The start of a stream that is a single array over its memory, after the protocol and an optional frame.
const LONE_ARRAY_STARTS: [&[u8]; 2] = [
    b"\x8c\x13numpy._core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94(",
    b"\x8c\x12numpy.core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94(",
];

/// `BINBYTES8`.
const BYTES: u8 = 0x8e;
/// `BYTEARRAY8`.
const BYTEARRAY: u8 = 0x96;

/// A function of numpy that makes an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArrayFunction {
    FromBuffer,
    Reconstruct,
    MaskedReconstruct,
}

/// What an opcode has pushed on the stack, as far as it matters for finding arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    Other,
    /// The name of a numpy module.
    ModuleName,
    /// The name of a function.
    FunctionName(ArrayFunction),
    Function(ArrayFunction),
    /// The mark below the arguments of `_frombuffer`.
    ArgumentsMark,
}

impl Pushed {
    /// Returns what a str is.
    fn text(text: &[u8]) -> Self {
        match text {
            b"_frombuffer" => Pushed::FunctionName(ArrayFunction::FromBuffer),
            b"_reconstruct" => Pushed::FunctionName(ArrayFunction::Reconstruct),
            b"_mareconstruct" => Pushed::FunctionName(ArrayFunction::MaskedReconstruct),
            // The names in numpy 2, then those in numpy 1.
            b"numpy._core.numeric" | b"numpy._core.multiarray" | b"numpy.ma.core" => Pushed::ModuleName,
            b"numpy.core.numeric" | b"numpy.core.multiarray" => Pushed::ModuleName,
            _ => Pushed::Other,
        }
    }

    /// Returns what a class or function is, from the two strs of its name.
    fn global(module: Pushed, name: Pushed) -> Self {
        match (module, name) {
            (Pushed::ModuleName, Pushed::FunctionName(function)) => Pushed::Function(function),
            _ => Pushed::Other,
        }
    }
}

/// Scans a pickle for the memory of arrays. It follows the last two items of the stack and the memo, which is enough
/// for pickles as picklers write them. In any other pickle it may miss arrays.
struct ArrayScan<'a> {
    reader: OpReader<'a>,
    /// The memo entries that matter, in the order of their numbers. Picklers number upwards, so an insertion is cheap.
    memo: Vec<(u32, Pushed)>,
    /// The number of the next `MEMOIZE`.
    next_number: u32,
    below: Pushed,
    top: Pushed,
}

impl<'a> ArrayScan<'a> {
    fn new(stream: &'a [u8]) -> Self {
        let (below, top) = (Pushed::Other, Pushed::Other);
        ArrayScan { reader: OpReader::new(stream), memo: Vec::new(), next_number: 0, below, top }
    }

    /// Returns the next opcode, its offset, and whether it is the memory that `_frombuffer` is called on. Returns
    /// `None` if the stream is damaged.
    fn next(&mut self) -> Option<(Op<'a>, usize, bool)> {
        let op = self.reader.next_op().ok()?;
        let at = self.reader.op_at();
        let pushed = match op {
            Op::Frame(_) => return Some((op, at, false)),
            Op::Memoize | Op::Put(_) => {
                let number = if let Op::Put(number) = op { number } else { self.next_number };
                if self.top != Pushed::Other {
                    let place = self.memo.partition_point(|(other, _)| *other < number);
                    self.memo.insert(place, (number, self.top));
                }
                self.next_number = self.next_number.max(number).saturating_add(1);
                return Some((op, at, false));
            }
            Op::Get(number) => match self.memo.binary_search_by_key(&number, |(other, _)| *other) {
                Ok(place) => self.memo[place].1,
                Err(_) => Pushed::Other,
            },
            Op::Str(text) => Pushed::text(text),
            Op::StackGlobal => Pushed::global(self.below, self.top),
            Op::Global { module, name } => Pushed::global(Pushed::text(module), Pushed::text(name)),
            Op::Mark if self.top == Pushed::Function(ArrayFunction::FromBuffer) => Pushed::ArgumentsMark,
            _ => Pushed::Other,
        };
        let is_memory =
            self.top == Pushed::ArgumentsMark && matches!(op, Op::Bytes(_) | Op::ByteArray(_) | Op::NextBuffer);
        (self.below, self.top) = (self.top, pushed);
        Some((op, at, is_memory))
    }
}

/// What a value is, as far as arrays are concerned. An array is *rebuilt* if `_reconstruct` or `_mareconstruct` makes
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueShape {
    /// The value is one array over its memory.
    Array,
    /// The value is one rebuilt array, and there is no other rebuilt array in it.
    Rebuilt,
    /// The value is anything else.
    Other {
        /// It contains rebuilt arrays.
        rebuilt: bool,
    },
}

/// What has to be done so that every array of a value is read-only.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadOnlyPlan {
    /// Offsets of the opcodes that [`make_read_only`] changes.
    pub writable: Vec<usize>,
    /// The shape of the value. Rebuilt arrays have to be made read-only after the value was unpickled.
    pub shape: ValueShape,
}

/// What an error calls the list of what was found, if there is no memory for it.
const ARRAYS: &str = "the arrays of a value";

/// Looks for the arrays of a pickle. Returns `None` if the pickle is damaged.
///
/// # Errors
/// [`Error::Memory`](crate::error::Error::Memory) if there is no memory for what was found.
pub fn read_only_plan(stream: &[u8]) -> Result<Option<ReadOnlyPlan>> {
    if let Some(writable) = plan_of_lone_array(stream) {
        return Ok(Some(ReadOnlyPlan { writable, shape: ValueShape::Array }));
    }
    let mut scan = ArrayScan::new(stream);
    let (mut writable, mut shape) = (Vec::new(), ValueShape::Other { rebuilt: false });
    // `is_first`: nothing was met yet but names. A function that follows makes the value itself, or the first item of a
    // tuple of at most three items, for these have no mark in front.
    let (mut is_first, mut was_call) = (true, false);
    // If `ndarray.__new__` is named and a bytearray is in the stream that is no memory of `_frombuffer`, then the
    // bytearray may be the memory that `__new__` is called on.
    let (mut names_new, mut has_loose_bytearray) = (false, false);
    loop {
        let Some((op, at, is_memory)) = scan.next() else { return Ok(None) };
        match op {
            Op::Stop => {
                let is_nested = !was_call && shape == ValueShape::Rebuilt;
                let rebuilt = is_nested || (names_new && has_loose_bytearray);
                let shape = if rebuilt { ValueShape::Other { rebuilt } } else { shape };
                return Ok(Some(ReadOnlyPlan { writable, shape }));
            }
            Op::ByteArray(_) if is_memory => fallible::push(&mut writable, at, ARRAYS)?,
            Op::ByteArray(_) => has_loose_bytearray = true,
            Op::Str(b"__new__") => names_new = true,
            Op::Proto(_) | Op::Frame(_) | Op::Str(_) | Op::Memoize => continue,
            Op::StackGlobal | Op::Get(_) | Op::Global { .. } => match scan.top {
                Pushed::Function(ArrayFunction::Reconstruct) if is_first => shape = ValueShape::Rebuilt,
                Pushed::Function(ArrayFunction::Reconstruct | ArrayFunction::MaskedReconstruct) => {
                    shape = ValueShape::Other { rebuilt: true };
                }
                _ => {}
            },
            _ => {}
        }
        // A value that is an array ends with the call that makes it, or with its state. A tuple ends with its length
        // or, if it contains itself, with its number in the memo.
        (is_first, was_call) = (false, matches!(op, Op::Reduce | Op::Build));
    }
}

/// Returns the offsets of [`ReadOnlyPlan::writable`] if the value is one array over its memory. No scan is needed for
/// that.
fn plan_of_lone_array(stream: &[u8]) -> Option<Vec<usize>> {
    // The call comes last, so the array is not the first item of a short tuple.
    if ![&b"R."[..], b"R\x94."].iter().any(|end| stream.ends_with(end)) {
        return None;
    }
    let start = if stream.get(2) == Some(&0x95) { 11 } else { 2 };
    let head =
        LONE_ARRAY_STARTS.into_iter().find(|head| stream.get(start..).is_some_and(|rest| rest.starts_with(head)))?;
    let memory = start + head.len();
    Some(if stream.get(memory) == Some(&BYTEARRAY) { vec![memory] } else { Vec::new() })
}

/// Makes arrays read-only in a copy of the stream. `writable` are the offsets that [`read_only_plan`] found in the
/// stream.
pub fn make_read_only(stream: &mut [u8], writable: &[usize]) {
    for at in writable {
        // The length that follows has 8 bytes with both opcodes.
        stream[*at] = BYTES;
    }
}

/// Returns a pickle of the same value in which every array is writable. Returns `None` if no array is read-only, or if
/// the pickle is damaged.
///
/// # Errors
/// [`Error::Memory`](crate::error::Error::Memory) if there is no memory for the pickle.
pub fn make_writable(stream: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut scan = ArrayScan::new(stream);
    // Each change: the range that is replaced, and for the memory of an array its length. Frames are left out, because
    // they count bytes that change, and every reader accepts a pickle without them.
    let mut changes: Vec<(Range<usize>, Option<usize>)> = Vec::new();
    let mut found = false;
    // The offset directly after a NEXT_BUFFER that is the memory of an array. A READONLY_BUFFER there makes the array
    // read-only.
    let mut buffer_end = None;
    loop {
        let Some((op, at, is_memory)) = scan.next() else { return Ok(None) };
        match op {
            Op::Stop => break,
            Op::Frame(_) => fallible::push(&mut changes, (at..at + 9, None), ARRAYS)?,
            Op::Bytes(bytes) if is_memory => {
                let head = match stream.get(at) {
                    None => return Ok(None),
                    Some(b'C') => 2,
                    Some(b'B') => 5,
                    _ => 9,
                };
                fallible::push(&mut changes, (at..at + head, Some(bytes.len())), ARRAYS)?;
                found = true;
            }
            Op::NextBuffer if is_memory => buffer_end = Some(at + 1),
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
    let (mut changed, mut copied) = (fallible::with_room(stream.len() + 8 * changes.len(), ARRAYS)?, 0);
    for (range, memory_len) in changes {
        changed.extend(&stream[copied..range.start]);
        if let Some(len) = memory_len {
            changed.push(BYTEARRAY);
            changed.extend((len as u64).to_le_bytes());
        }
        copied = range.end;
    }
    changed.extend(&stream[copied..]);
    Ok(Some(changed))
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
        assert_eq!(make_writable(&stream).unwrap(), Some(expected.clone()));
        assert_eq!(make_writable(&expected).unwrap(), None);
        let found = read_only_plan(&expected).unwrap().unwrap();
        assert_eq!((found.writable.len(), found.shape), (1, ValueShape::Other { rebuilt: false }));
        let mut read_only = expected.clone();
        make_read_only(&mut read_only, &found.writable);
        assert_eq!(read_only[found.writable[0]], BYTES);
        assert_eq!(make_writable(&read_only).unwrap(), Some(expected));
    }

    #[test]
    fn a_call_of_another_function_of_that_name_is_left_alone() {
        let stream = framed(&[b"\x8c\x02my\x94\x8c\x0b_frombuffer\x94\x93\x94(C\x02ab\x94t\x52."]);
        assert_eq!(make_writable(&stream).unwrap(), None);
    }

    #[test]
    fn an_array_that_is_the_value_is_told_from_arrays_in_it() {
        let name: &[u8] = b"\x8c\x16numpy._core.multiarray\x94\x8c\x0c_reconstruct\x94\x93\x94";
        let masked: &[u8] = b"\x8c\x0dnumpy.ma.core\x94\x8c\x0e_mareconstruct\x94\x93)R.";
        let shape = |parts: &[&[u8]]| read_only_plan(&framed(parts)).unwrap().unwrap().shape;
        assert_eq!(shape(&[name, b"NK\0NR."]), ValueShape::Rebuilt);
        assert_eq!(shape(&[b"]", name, b"NNNRa."]), ValueShape::Other { rebuilt: true });
        assert_eq!(shape(&[name, b"h\x02NNRb."]), ValueShape::Other { rebuilt: true });
        assert_eq!(shape(&[masked]), ValueShape::Other { rebuilt: true });
        assert_eq!(shape(&[b"]", NAME, b"(\x97t\x52a."]), ValueShape::Other { rebuilt: false });
        assert_eq!(shape(&[NAME, b"(\x97t\x52."]), ValueShape::Array);
        assert_eq!(shape(&[NAME, b"(\x97t\x52\x94h\x02(\x97t\x52\x94\x86\x94."]), ValueShape::Other { rebuilt: false });
        assert_eq!(shape(&[name, b"NK\0NR\x85."]), ValueShape::Other { rebuilt: true });
        assert_eq!(shape(&[name, b"NK\0NR\x94N\x86\x940h\x03."]), ValueShape::Other { rebuilt: true });
        assert_eq!(shape(&[name, b"NK\0NR\x94Nb\x86\x94."]), ValueShape::Other { rebuilt: true });
        let short = framed(&[NAME, b"(\x96\x01\0\0\0\0\0\0\0at\x52."]);
        assert_eq!(
            read_only_plan(&short).unwrap(),
            Some(ReadOnlyPlan { writable: vec![11 + NAME.len() + 1], shape: ValueShape::Array })
        );
        assert_eq!(read_only_plan(b"\x80\x05\x95\x40\0\0\0\0\0\0\0").unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned_or_refused(bytes: Vec<u8>, place in 0_usize..90, byte: u8) {
            let _ = (read_only_plan(&bytes), make_writable(&bytes));
            let mut stream = framed(&[b"](", NAME, b"(C\x02ab\x94t\x52h\x02(\x97\x98t\x52e."]);
            let at = place % stream.len();
            stream[at] = byte;
            let mut copy = stream.clone();
            if let Some(found) = read_only_plan(&stream).unwrap() {
                make_read_only(&mut copy, &found.writable);
            }
            prop_assert_eq!(copy.len(), stream.len());
            let _ = make_writable(&stream);
        }
    }
}
