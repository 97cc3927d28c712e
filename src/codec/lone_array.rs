//! The pickle of a value that is one of numpy's arrays, with its memory in a buffer beside the pickle: reading and
//! writing it without a pickler.
//!
//! ```text
//! head                            PROTO 5, FRAME, _frombuffer, MARK, NEXT_BUFFER
//! dtype                           a call of `numpy.dtype`, and its state
//! shape                           a tuple of ints
//! tail                            the order of axes, TUPLE, REDUCE, STOP
//! ```
//!
//! Only the shape differs between arrays of one dtype. The dtype is taken as the bytes that they are: whoever needs it
//! unpickles them once and remembers what came of it. All other pickles are left to the pickler; so are arrays of more
//! than eight axes, of structs, and of anything that is not the value itself.

use super::opcode::{Op, OpReader};
use crate::error::Result;
use crate::fallible;

/// Axes of an array that is read or written here.
pub const AXES_MAX: usize = 8;

/// What a pickle begins with: PROTO 5 and FRAME, whose length follows.
const FRAME: &[u8] = b"\x80\x05\x95";
/// Bytes of [`FRAME`] and the length of the frame.
const FRAME_LEN: usize = 11;
/// `_frombuffer` of numpy 2 and of numpy 1, called on a buffer beside the pickle.
const CALLS: [&[u8]; 2] = [
    b"\x8c\x13numpy._core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94(\x97",
    b"\x8c\x12numpy.core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94(\x97",
];
/// What follows the shape, where the axes are in C's order and in Fortran's.
const TAILS: [&[u8]; 2] = [b"\x8c\x01C\x94t\x94R\x94.", b"\x8c\x01F\x94t\x94R\x94."];
/// What an error calls a pickle that is written here.
const PICKLE: &str = "the pickle of an array";

/// The lengths of the axes of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    axes: [u64; AXES_MAX],
    count: usize,
}

impl Shape {
    /// Makes a shape. `None`: there are more axes than [`AXES_MAX`].
    pub fn new(lens: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut shape = Shape { axes: [0; AXES_MAX], count: 0 };
        for len in lens {
            *shape.axes.get_mut(shape.count)? = len;
            shape.count += 1;
        }
        Some(shape)
    }

    /// Returns the lengths of the axes.
    pub fn axes(&self) -> &[u64] {
        &self.axes[..self.count]
    }

    /// Returns the number of items. `None`: it is no number of 64 bits.
    pub fn items(&self) -> Option<u64> {
        self.axes().iter().try_fold(1_u64, |items, len| items.checked_mul(*len))
    }
}

/// A pickle of one array that was split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoneArray<'a> {
    /// The pickle of the dtype, without PROTO and STOP. It refers to nothing outside of itself.
    pub dtype: &'a [u8],
    /// The lengths of the axes.
    pub shape: Shape,
    /// The axes are in Fortran's order.
    pub fortran: bool,
}

/// Returns what follows the NEXT_BUFFER of a pickle that may be one array: dtype, shape and tail. `None` for any other
/// pickle.
#[inline]
pub fn after_buffer(stream: &[u8]) -> Option<&[u8]> {
    let rest = match stream.strip_prefix(FRAME) {
        Some(framed) => framed.get(8..)?,
        None => stream.strip_prefix(&FRAME[..2])?,
    };
    CALLS.into_iter().find_map(|call| rest.strip_prefix(call))
}

/// Returns the number of bytes of the dtype's pickle with which `rest` begins: a call of `numpy.dtype`, and its state.
/// `None`: it is something else, or does not stand for itself, or is that of a struct.
pub fn dtype_len(rest: &[u8]) -> Option<usize> {
    let mut reader = OpReader::starting_at(rest, rest.starts_with(PLAIN_DTYPE[0]).then_some(PLAIN_DTYPE[0].len() - 1)?);
    loop {
        match reader.next_op().ok()? {
            Op::Build => return Some(reader.op_at() + 1),
            // Nothing that refers to the memo, and no other function or class.
            Op::Str(_) | Op::Memoize | Op::Bool(_) | Op::TupleOf(_) | Op::Reduce => {}
            Op::Mark | Op::Int(_) | Op::None | Op::Tuple => {}
            _ => return None,
        }
    }
}

/// The parts of the pickle of a dtype of numpy's own that is said by its name and byte order alone.
const PLAIN_DTYPE: [&[u8]; 3] = [
    b"\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c",
    b"\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01",
    b"\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t\x94b",
];

/// Returns the pickle of a dtype that is said by its name and byte order alone, as [`plain_dtype`] reads it.
///
/// # Errors
/// [`Error::Memory`](crate::error::Error::Memory) if there is no memory for it.
pub fn pickle_of_plain_dtype(order: u8, name: &str) -> Result<Vec<u8>> {
    let parts = [PLAIN_DTYPE[0], &[name.len() as u8], name.as_bytes(), PLAIN_DTYPE[1], &[order], PLAIN_DTYPE[2]];
    fallible::joined(&parts, "the pickle of a dtype")
}

/// Returns the byte order and the name of a dtype (`<` and `f8`), and the bytes of an item, if its pickle says nothing
/// else.
pub fn plain_dtype(pickle: &[u8]) -> Option<(char, &str, u64)> {
    let rest = pickle.strip_prefix(PLAIN_DTYPE[0])?;
    let (len, rest) = rest.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*len))?;
    let order = rest.strip_prefix(PLAIN_DTYPE[1])?.strip_suffix(PLAIN_DTYPE[2])?;
    match (name, order) {
        ([b'b' | b'i' | b'u' | b'f' | b'c', ..], [order @ (b'<' | b'>' | b'|' | b'=')]) => {
            let name = std::str::from_utf8(name).ok()?;
            Some((char::from(*order), name, name[1..].parse().ok().filter(|item| *item > 0)?))
        }
        _ => None,
    }
}

/// Reads the shape and the order of axes, which are all that follows the dtype.
#[inline]
pub fn shape_and_order(rest: &[u8]) -> Option<(Shape, bool)> {
    let fortran = rest.ends_with(TAILS[1]);
    let mut ints = rest.strip_suffix(TAILS[usize::from(fortran)])?;
    let mut shape = Shape { axes: [0; AXES_MAX], count: 0 };
    if ints == b")" {
        return Some((shape, fortran));
    }
    let marked = ints.first() == Some(&b'(');
    if marked {
        ints = &ints[1..];
    }
    loop {
        let (len, after) = match ints {
            [b'K', len, after @ ..] => (u64::from(*len), after),
            [b'M', a, b, after @ ..] => (u64::from(u16::from_le_bytes([*a, *b])), after),
            [b'J', a, b, c, d, after @ ..] => (u64::try_from(i32::from_le_bytes([*a, *b, *c, *d])).ok()?, after),
            [0x8a, bytes, after @ ..] if usize::from(*bytes) <= 8 && after.len() >= usize::from(*bytes) => {
                let (number, after) = after.split_at(usize::from(*bytes));
                let mut word = [0; 8];
                word[..number.len()].copy_from_slice(number);
                // The last bit of the number's own bytes is its sign.
                if number.last().is_some_and(|last| last & 0x80 != 0) {
                    return None;
                }
                (u64::from_le_bytes(word), after)
            }
            _ => break,
        };
        *shape.axes.get_mut(shape.count)? = len;
        shape.count += 1;
        ints = after;
    }
    let end: &[u8] = match (marked, shape.count) {
        (false, 1) => b"\x85\x94",
        (false, 2) => b"\x86\x94",
        (false, 3) => b"\x87\x94",
        (true, 4..) => b"t\x94",
        _ => return None,
    };
    (ints == end).then_some((shape, fortran))
}

/// Splits a pickle that is one array. `None` for any other pickle.
pub fn split(stream: &[u8]) -> Option<LoneArray<'_>> {
    let rest = after_buffer(stream)?;
    let (dtype, rest) = rest.split_at(dtype_len(rest)?);
    let (shape, fortran) = shape_and_order(rest)?;
    Some(LoneArray { dtype, shape, fortran })
}

/// Returns the pickle of an array like that of `like`, which [`split`] has taken apart, but of another shape and order:
/// byte for byte what the pickler writes.
///
/// # Errors
/// [`Error::Memory`](crate::error::Error::Memory) if there is no memory for the pickle.
pub fn join(head_and_dtype: &[u8], shape: &Shape, fortran: bool) -> Result<Vec<u8>> {
    let tail = TAILS[usize::from(fortran)];
    let mut stream = fallible::with_room(head_and_dtype.len() + 10 * AXES_MAX + 3 + tail.len(), PICKLE)?;
    stream.extend_from_slice(head_and_dtype);
    let axes = shape.axes();
    if axes.len() > 3 {
        stream.push(b'(');
    }
    for len in axes {
        let bytes = len.to_le_bytes();
        match len {
            0..=0xff => stream.extend_from_slice(&[b'K', bytes[0]]),
            0x100..=0xffff => stream.extend_from_slice(&[b'M', bytes[0], bytes[1]]),
            0x1_0000..=0x7fff_ffff => stream.extend_from_slice(&[b'J', bytes[0], bytes[1], bytes[2], bytes[3]]),
            _ => {
                // Two's complement, no longer than it must be. No axis is so long that its number has 64 bits.
                let used = 8 - (len.leading_zeros() as usize - 1) / 8;
                stream.extend_from_slice(&[0x8a, used as u8]);
                stream.extend_from_slice(&bytes[..used]);
            }
        }
    }
    match axes.len() {
        0 => stream.push(b')'),
        1 => stream.extend_from_slice(b"\x85\x94"),
        2 => stream.extend_from_slice(b"\x86\x94"),
        3 => stream.extend_from_slice(b"\x87\x94"),
        _ => stream.extend_from_slice(b"t\x94"),
    }
    stream.extend_from_slice(tail);
    if stream.starts_with(FRAME) {
        let framed = (stream.len() - FRAME_LEN) as u64;
        stream[FRAME.len()..FRAME_LEN].copy_from_slice(&framed.to_le_bytes());
    }
    Ok(stream)
}

/// Returns how many bytes at the start of a pickle are head and dtype: what [`join`] continues. `None`: the pickle is
/// not one array, or has no frame as those of the pickler have.
pub fn head_and_dtype_len(stream: &[u8]) -> Option<usize> {
    let array = split(stream).filter(|_| stream.starts_with(FRAME))?;
    let rest = after_buffer(stream)?;
    Some(stream.len() - rest.len() + array.dtype.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DTYPE: &[u8] = b"\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02f8\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t\x94b";

    fn head() -> Vec<u8> {
        [FRAME, &[0; 8], CALLS[0], DTYPE].concat()
    }

    #[test]
    fn a_pickle_of_numpy_is_split_and_joined() {
        // As `pickle.dumps(numpy.zeros((3, 5)), 5, buffer_callback=…)` writes it.
        let stream =
            [FRAME, b"\x6d\0\0\0\0\0\0\0", CALLS[0], DTYPE, b"K\x03K\x05\x86\x94\x8c\x01C\x94t\x94R\x94."].concat();
        let shape = Shape::new([3, 5]).unwrap();
        assert_eq!(split(&stream), Some(LoneArray { dtype: DTYPE, shape, fortran: false }));
        let len = head_and_dtype_len(&stream).unwrap();
        assert_eq!(join(&stream[..len], &shape, false).unwrap(), stream);
        assert!(split(&join(&stream[..len], &shape, true).unwrap()).unwrap().fortran);
    }

    #[test]
    fn what_is_not_one_array_is_refused() {
        let shape = Shape::new([2]).unwrap();
        let whole = join(&head(), &shape, false).unwrap();
        for len in 0..whole.len() {
            assert_eq!(split(&whole[..len]), None, "{len}");
        }
        let with_memo = [FRAME, &[0; 8], CALLS[0], b"h\x03b", b"K\x02\x85\x94", TAILS[0]].concat();
        assert_eq!(split(&with_memo), None);
        let other_class = [FRAME, &[0; 8], CALLS[0], b"\x8c\x02os\x94\x8c\x04exit\x94\x93\x94)R\x94Nb"].concat();
        assert_eq!(split(&[&other_class, &b"K\x02\x85\x94"[..], TAILS[0]].concat()), None);
        let read_only = [FRAME, &[0; 8], CALLS[0], b"\x98", DTYPE, b"K\x02\x85\x94", TAILS[0]].concat();
        assert_eq!(split(&read_only), None);
        let negative = [&head()[..], b"J\xff\xff\xff\xff\x85\x94", TAILS[0]].concat();
        assert_eq!(split(&negative), None);
        let wrong_count = [&head()[..], b"K\x02K\x02\x85\x94", TAILS[0]].concat();
        assert_eq!(split(&wrong_count), None);
        assert!(Shape::new([1; AXES_MAX + 1]).is_none());
    }

    #[test]
    fn a_plain_dtype_is_its_name_and_byte_order() {
        assert_eq!(dtype_len(DTYPE), Some(DTYPE.len()));
        assert_eq!(plain_dtype(DTYPE), Some(('<', "f8", 8)));
        assert_eq!(plain_dtype(&DTYPE[1..]), None);
        assert_eq!(pickle_of_plain_dtype(b'<', "f8").unwrap(), DTYPE);
        let text = DTYPE.iter().map(|byte| if *byte == b'f' { b'U' } else { *byte }).collect::<Vec<u8>>();
        assert_eq!(plain_dtype(&text), None);
    }

    proptest! {
        #[test]
        fn every_shape_comes_back(axes in prop::collection::vec(0..=i64::MAX as u64, 0..=AXES_MAX), fortran: bool) {
            let shape = Shape::new(axes.iter().copied()).unwrap();
            let stream = join(&head(), &shape, fortran).unwrap();
            prop_assert_eq!(split(&stream), Some(LoneArray { dtype: DTYPE, shape, fortran }));
            prop_assert_eq!(&stream[3..11], &(stream.len() as u64 - 11).to_le_bytes());
        }

        #[test]
        fn any_bytes_are_split_or_refused(bytes: Vec<u8>, axes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = split(&bytes);
            let _ = plain_dtype(&bytes);
            let _ = plain_dtype(&[PLAIN_DTYPE[0], &axes, PLAIN_DTYPE[2]].concat());
            let _ = split(&[&head()[..], &axes].concat());
            let _ = split(&[&head()[..], &axes, TAILS[0]].concat());
        }
    }
}
