//! Values with out-of-band buffers: laying them out, parsing them, and turning them into a pickle without buffers.
//!
//! The layout is stated in "Record" in `docs/format.md`.

use crate::codec::opcode::{Op, OpReader};
use crate::error::Result;
use crate::fallible;
use std::ops::Range;

/// The alignment of buffers, from the start of the value.
pub const ALIGN: u64 = 64;
/// The pickle of an exact `bytes` whose bytes are an out-of-band buffer: `builtins.bytes` is called on the buffer.
pub const BYTES: &[u8] = b"\x80\x05\x8c\x08builtins\x8c\x05bytes\x93\x97\x85R.";
/// The pickle of an exact `bytearray` whose bytes are an out-of-band buffer.
pub const BYTEARRAY: &[u8] = b"\x80\x05\x8c\x08builtins\x8c\x09bytearray\x93\x97\x85R.";
/// The pickle of a `memoryview` of plain bytes: the out-of-band buffer itself.
pub const MEMORYVIEW: &[u8] = b"\x80\x05\x97.";

/// Returns the pickle of an exact `array.array` whose items are an out-of-band buffer, as `array` itself reduces one at
/// protocol 5. `code` is the typecode, `format` the number that `array` has for the machine's format of such items.
pub fn array_stream(code: u8, format: u8) -> Vec<u8> {
    let mut stream = ARRAY_HEAD.to_vec();
    stream.extend([code, b'K', format]);
    stream.extend(ARRAY_TAIL);
    stream
}

/// Returns the typecode of a pickle that [`array_stream`] has made, or `None` for any other pickle.
pub fn array_code(stream: &[u8]) -> Option<u8> {
    match stream.strip_prefix(ARRAY_HEAD)?.strip_suffix(ARRAY_TAIL)? {
        [code, b'K', _] => Some(*code),
        _ => None,
    }
}

const ARRAY_HEAD: &[u8] =
    b"\x80\x05\x8c\x05array\x8c\x14_array_reconstructor\x93(\x8c\x05array\x8c\x05array\x93\x8c\x01";
const ARRAY_TAIL: &[u8] = b"\x8c\x08builtins\x8c\x05bytes\x93\x97\x85RtR.";
/// An exact `bytes` of this many bytes or more is stored as a value with one buffer: as a pickle it would take a span,
/// too.
pub const LARGE_BYTES: usize = crate::format::RECORD_MAX as usize - 7;
/// Any other buffer of this many bytes or more is stored out of band, in a span; a shorter one is stored in the pickle.
/// A span has whole pages, so a shorter buffer would waste more than a quarter of it; and copying a shorter one takes
/// less time than pinning.
pub const OUT_OF_BAND: usize = 16 << 10;
/// Bytes of a pickle that the description of one buffer may take: for an array, its dtype and shape.
const DESCRIPTION: usize = 256;
/// The largest number of buffers in one value. It bounds the size of the table.
const BUFFERS_MAX: u64 = 1 << 24;
/// What an error calls the table, if there is no memory for it.
const TABLE: &str = "a value's table of buffers";

/// Returns `true` if a view of a value copies only a small part of it. A view copies the pickle, which has `pickle`
/// bytes and `buffers` buffers beside it.
pub fn viewable(pickle: usize, buffers: usize) -> bool {
    pickle < OUT_OF_BAND + DESCRIPTION * buffers
}

/// Where the parts of a value with buffers are to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferPlan {
    /// The counts and the table, as they are stored before the pickle.
    pub head: Vec<u8>,
    /// For each buffer, the number of zeros before it.
    pub gaps: Vec<usize>,
}

/// Plans a value with a pickle of `pickle` bytes and buffers of these lengths.
pub fn plan(pickle: usize, lens: &[usize]) -> Result<BufferPlan> {
    let mut head = fallible::with_room(16 + 16 * lens.len(), TABLE)?;
    head.extend((lens.len() as u64).to_le_bytes());
    head.extend((pickle as u64).to_le_bytes());
    let mut at = (16 + 16 * lens.len() + pickle) as u64;
    let mut gaps = fallible::with_room(lens.len(), TABLE)?;
    for len in lens {
        let start = at.next_multiple_of(ALIGN);
        gaps.push((start - at) as usize);
        head.extend(start.to_le_bytes());
        head.extend((*len as u64).to_le_bytes());
        at = start + *len as u64;
    }
    Ok(BufferPlan { head, gaps })
}

/// The parsed table of a value with buffers. Every range lies within the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferTable {
    /// The pickle: offset in the value, and length.
    pub pickle: (u64, u64),
    /// The buffers: for each one, offset in the value and length.
    pub buffers: Vec<(u64, u64)>,
}

/// Returns the number of bytes in the head of a value that begins with these 16 bytes, or `None` if it has too many
/// buffers.
pub fn head_len(start: [u8; 16]) -> Option<u64> {
    let count = u64::from_le_bytes(start[..8].try_into().ok()?);
    (count <= BUFFERS_MAX).then(|| 16 + 16 * count)
}

/// Parses the head of a value of `total` bytes. Returns `None` if it is damaged.
///
/// # Errors
/// [`Error::Memory`](crate::error::Error::Memory) if there is no memory for the table.
pub fn parse(head: &[u8], total: u64) -> Result<Option<BufferTable>> {
    // The number of buffers is computed from the length of the head, which is in memory already, so a hostile count
    // cannot make this allocation large.
    let buffers = fallible::with_room((head.len() / 16).saturating_sub(1), TABLE)?;
    Ok(parse_into(head, total, buffers))
}

/// Parses a head into `buffers`, which has room for all of them.
fn parse_into(head: &[u8], total: u64, mut buffers: Vec<(u64, u64)>) -> Option<BufferTable> {
    let word = |i: usize| Some(u64::from_le_bytes(head.get(i * 8..i * 8 + 8)?.try_into().ok()?));
    let (count, pickle_len) = (word(0)?, word(1)?);
    if head.len() as u64 != count.checked_mul(16)?.checked_add(16)? {
        return None;
    }
    let pickle = (head.len() as u64, pickle_len);
    let within = |start: u64, len: u64| start.checked_add(len).is_some_and(|end| end <= total);
    if !within(pickle.0, pickle.1) {
        return None;
    }
    let mut end = pickle.0 + pickle.1;
    for i in 0..count as usize {
        let (start, len) = (word(2 + 2 * i)?, word(3 + 2 * i)?);
        // The buffers must stand in order, after the pickle, and must not overlap.
        if start < end || start % ALIGN != 0 || !within(start, len) {
            return None;
        }
        buffers.push((start, len));
        end = start + len;
    }
    Some(BufferTable { pickle, buffers })
}

/// Bytes of the head of a value with one buffer.
const ONE_HEAD: usize = 32;

/// The parsed start of a value with one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneBuffer {
    /// Where the pickle lies in the value, and in its start.
    pub pickle: Range<usize>,
    /// The buffer: offset in the value, and length.
    pub buffer: (u64, u64),
}

/// Parses the start of a value of `total` bytes that has one buffer and whose pickle lies within that start. `None`: it
/// is another value, or damaged.
pub fn parse_one(start: &[u8], total: u64) -> Option<OneBuffer> {
    let word = |i: usize| Some(u64::from_le_bytes(start.get(i * 8..i * 8 + 8)?.try_into().ok()?));
    let (count, pickle_len, at, len) = (word(0)?, word(1)?, word(2)?, word(3)?);
    if count != 1 || pickle_len > (start.len() - ONE_HEAD) as u64 {
        return None;
    }
    let pickle = ONE_HEAD..ONE_HEAD + pickle_len as usize;
    let within = at.checked_add(len).is_some_and(|end| end <= total);
    (within && at >= pickle.end as u64 && at % ALIGN == 0).then_some(OneBuffer { pickle, buffer: (at, len) })
}

/// Plans a value with a pickle of `pickle` bytes and one buffer of `len` bytes, as [`plan`] does. Returns the head, and
/// the number of zeros before the buffer.
pub fn plan_one(pickle: usize, len: usize) -> ([u8; ONE_HEAD], usize) {
    let at = (ONE_HEAD + pickle) as u64;
    let start = at.next_multiple_of(ALIGN);
    let mut head = [0; ONE_HEAD];
    for (to, word) in head.chunks_exact_mut(8).zip([1, pickle as u64, start, len as u64]) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    (head, (start - at) as usize)
}

/// Returns a pickle of the same value that contains the buffers. Returns `None` if the pickle is damaged.
///
/// # Errors
/// [`Error::Memory`](crate::error::Error::Memory) if there is no memory for the pickle.
pub fn in_band(pickle: &[u8], buffers: &[&[u8]]) -> Result<Option<Vec<u8>>> {
    // A buffer in a pickle takes less than 16 bytes besides its own.
    let added = buffers.iter().map(|buffer| buffer.len() + 16).sum::<usize>();
    let stream = fallible::with_room(pickle.len() + added, "a value")?;
    // One more than there are buffers: a pickle that names more is refused before it needs more memory.
    let places = fallible::with_room(buffers.len() + 1, TABLE)?;
    Ok(insert_buffers(pickle, buffers, stream, places))
}

/// Writes the pickle with the buffers into `stream`. `stream` and `places` are empty and have room for all of it.
/// `places` gets, for each NEXT_BUFFER, its offset and whether READONLY_BUFFER follows.
fn insert_buffers(
    pickle: &[u8],
    buffers: &[&[u8]],
    mut stream: Vec<u8>,
    mut places: Vec<(usize, bool)>,
) -> Option<Vec<u8>> {
    if pickle == BYTES {
        let (head, tail) = crate::codec::scalar::bytes_frame(buffers.first()?.len());
        [head.as_slice(), buffers.first()?, &tail].iter().for_each(|part| stream.extend_from_slice(part));
        return Some(stream);
    }
    let mut reader = OpReader::new(pickle);
    loop {
        let op = reader.next_op().ok()?;
        match op {
            Op::NextBuffer if places.len() > buffers.len() => return None,
            Op::NextBuffer => places.push((reader.op_at(), false)),
            Op::ReadonlyBuffer => {
                if let Some(last) = places.last_mut().filter(|last| last.0 + 1 == reader.op_at()) {
                    last.1 = true;
                }
            }
            Op::Stop => break,
            _ => {}
        }
    }
    if places.len() > buffers.len() {
        return None;
    }
    // Frames are left out, because they count bytes that change, and every reader accepts a pickle without them.
    let mut reader = OpReader::new(pickle);
    let (mut copied, mut next) = (0, places.iter().zip(buffers));
    let mut skip_readonly = false;
    loop {
        let op = reader.next_op().ok()?;
        let at = reader.op_at();
        match op {
            Op::Frame(_) => {
                stream.extend(&pickle[copied..at]);
                copied = at + 9;
            }
            Op::NextBuffer => {
                stream.extend(&pickle[copied..at]);
                let ((_, readonly), buffer) = next.next()?;
                stream.push(if *readonly { 0x8e } else { 0x96 });
                stream.extend((buffer.len() as u64).to_le_bytes());
                stream.extend(*buffer);
                copied = at + 1;
                skip_readonly = *readonly;
            }
            Op::ReadonlyBuffer if skip_readonly => {
                stream.extend(&pickle[copied..at]);
                copied = at + 1;
                skip_readonly = false;
            }
            Op::Stop => {
                stream.extend(&pickle[copied..=at]);
                return Some(stream);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_plan_parses_back_with_every_buffer_aligned(
            pickle in 0_usize..300, lens in prop::collection::vec(0_usize..5000, 0..20),
        ) {
            let plan = plan(pickle, &lens).unwrap();
            let total = plan.head.len() + pickle + plan.gaps.iter().sum::<usize>() + lens.iter().sum::<usize>();
            prop_assert_eq!(head_len(plan.head[..16].try_into().unwrap()), Some(plan.head.len() as u64));
            let parsed = parse(&plan.head, total as u64).unwrap().unwrap();
            prop_assert_eq!(parsed.pickle, (plan.head.len() as u64, pickle as u64));
            let mut at = parsed.pickle.0 + parsed.pickle.1;
            for ((start, len), (gap, expected)) in parsed.buffers.iter().zip(plan.gaps.iter().zip(&lens)) {
                prop_assert_eq!((*start, *len), (at + *gap as u64, *expected as u64));
                prop_assert!(start % ALIGN == 0);
                at = start + len;
            }
            prop_assert!(parse(&plan.head, total as u64 - 1).unwrap().is_none() || total as u64 > at);
        }

        #[test]
        fn one_buffer_is_planned_and_parsed_as_several_are(pickle in 0_usize..300, len in 0_usize..5000, short in 0_usize..400) {
            let (head, gap) = plan_one(pickle, len);
            let several = plan(pickle, &[len]).unwrap();
            prop_assert_eq!((&head[..], &[gap][..]), (&several.head[..], &several.gaps[..]));
            let start = [&head[..], &vec![0; pickle + gap + len]].concat();
            let total = start.len() as u64;
            let parsed = parse(&head, total).unwrap().unwrap();
            let expected = OneBuffer { pickle: 32..32 + pickle, buffer: parsed.buffers[0] };
            prop_assert_eq!(parse_one(&start, total), Some(expected.clone()));
            prop_assert_eq!(parse_one(&start, total - 1).is_none(), len > 0 || gap > 0);
            let cut = &start[..short.min(start.len())];
            prop_assert_eq!(parse_one(cut, total), (cut.len() >= expected.pickle.end).then_some(expected));
        }

        #[test]
        fn any_head_and_stream_is_parsed_or_refused(bytes: Vec<u8>, total: u64) {
            let _ = parse(&bytes, total);
            let _ = parse_one(&bytes, total);
            let _ = in_band(&bytes, &[b"x", b"yy"]);
        }
    }

    #[test]
    fn what_a_view_copies_is_small_whatever_the_number_of_arrays() {
        assert!(viewable(OUT_OF_BAND - 1, 0) && !viewable(OUT_OF_BAND, 0));
        assert!(viewable(100_000, 1_000) && !viewable(100_000, 1));
    }

    #[test]
    fn in_band_replaces_each_buffer_where_it_stands() {
        let stream = in_band(BYTES, &[b"abc"]).unwrap().unwrap();
        assert_eq!(crate::codec::scalar::decode(&stream), Some(crate::codec::scalar::Scalar::Bytes(b"abc")));
        let two = b"\x80\x05\x95\x05\x00\x00\x00\x00\x00\x00\x00\x97\x97\x98\x86.";
        let stream = in_band(two, &[b"ab", b"c"]).unwrap().unwrap();
        let expected = b"\x80\x05\x96\x02\0\0\0\0\0\0\0ab\x8e\x01\0\0\0\0\0\0\0c\x86.";
        assert_eq!(stream, expected);
        assert_eq!(in_band(two, &[b"ab"]).unwrap(), None);
    }
}
