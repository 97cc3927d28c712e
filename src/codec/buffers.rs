//! Records with out-of-band buffers: how they are laid out, read, and turned into a pickle without any.

use crate::codec::opcode::{Op, OpReader};
use crate::error::Result;
use crate::fallible;

/// Buffers are aligned to this in memory.
pub const ALIGN: u64 = 64;
/// The stream of an exact `bytes` whose one buffer is beside it: `builtins.bytes` called on it.
pub const BYTES: &[u8] = b"\x80\x05\x8c\x08builtins\x8c\x05bytes\x93\x97\x85R.";
/// The stream of an exact `bytearray`, likewise.
pub const BYTEARRAY: &[u8] = b"\x80\x05\x8c\x08builtins\x8c\x09bytearray\x93\x97\x85R.";
/// The stream of a `memoryview` of plain bytes: the buffer itself.
pub const MEMORYVIEW: &[u8] = b"\x80\x05\x97.";
/// The stream of an exact `array.array` whose items are beside it, as `array` itself reduces one at protocol 5: typecode, and
/// the number by which it calls the machine's format of such items.
pub fn array_stream(code: u8, format: u8) -> Vec<u8> {
    let mut stream = ARRAY_HEAD.to_vec();
    stream.extend([code, b'K', format]);
    stream.extend(ARRAY_TAIL);
    stream
}

/// The typecode of such a stream.
pub fn array_code(stream: &[u8]) -> Option<u8> {
    match stream.strip_prefix(ARRAY_HEAD)?.strip_suffix(ARRAY_TAIL)? {
        [code, b'K', _] => Some(*code),
        _ => None,
    }
}

const ARRAY_HEAD: &[u8] =
    b"\x80\x05\x8c\x05array\x8c\x14_array_reconstructor\x93(\x8c\x05array\x8c\x05array\x93\x8c\x01";
const ARRAY_TAIL: &[u8] = b"\x8c\x08builtins\x8c\x05bytes\x93\x97\x85RtR.";
/// An exact `bytes` from here on is stored as a record with one buffer: as a pickle it would take a span, too.
pub const LARGE_BYTES: usize = crate::format::RECORD_MAX as usize - 7;
/// Other buffers from here on are stored beside the pickle, in a span; shorter ones within it. In whole pages a shorter one
/// would waste more than a quarter of what is stored, and to copy it takes less time than to pin it.
pub const OUT_OF_BAND: usize = 16 << 10;
/// What it may take to say what one buffer is: of an array, its dtype and shape.
const DESCRIPTION: usize = 256;
/// Most buffers of one value: the table stays small against what it describes.
const MOST: u64 = 1 << 24;
/// What such a table is called where there is no memory for it.
const TABLE: &str = "a value's table of buffers";

/// Does a view of a value copy nothing of size? The pickle is what it copies; so long is it, with so many buffers beside it.
pub fn viewable(pickle: usize, buffers: usize) -> bool {
    pickle < OUT_OF_BAND + DESCRIPTION * buffers
}

/// Where the parts of a value with buffers stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferPlan {
    /// Counts and table, ready to be stored before the pickle.
    pub head: Vec<u8>,
    /// Zeros before each buffer.
    pub gaps: Vec<usize>,
}

/// Plans a value: head, pickle and buffers.
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

/// A value with buffers, parsed: every number lies within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The pickle: offset in the value, length.
    pub pickle: (u64, u64),
    /// Each buffer: offset in the value, length.
    pub buffers: Vec<(u64, u64)>,
}

/// Bytes of the head of a value whose first 16 bytes are these.
pub fn head_len(start: [u8; 16]) -> Option<u64> {
    let count = u64::from_le_bytes(start[..8].try_into().ok()?);
    (count <= MOST).then(|| 16 + 16 * count)
}

/// Parses a head; the value has `total` bytes. `None`: damaged.
///
/// # Errors
/// No memory for it.
pub fn parse(head: &[u8], total: u64) -> Result<Option<Parsed>> {
    // A count that the head's own length bears out: so long it is there already.
    let buffers = fallible::with_room((head.len() / 16).saturating_sub(1), TABLE)?;
    Ok(parsed(head, total, buffers))
}

fn parsed(head: &[u8], total: u64, mut buffers: Vec<(u64, u64)>) -> Option<Parsed> {
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
        // In order, one behind the other, behind the pickle.
        if start < end || start % ALIGN != 0 || !within(start, len) {
            return None;
        }
        buffers.push((start, len));
        end = start + len;
    }
    Some(Parsed { pickle, buffers })
}

/// The same value as a stream without buffers. `None`: damaged.
///
/// # Errors
/// No memory for it.
pub fn in_band(pickle: &[u8], buffers: &[&[u8]]) -> Result<Option<Vec<u8>>> {
    // All that is said of a buffer in the stream is shorter than 16 bytes.
    let whole = buffers.iter().map(|buffer| buffer.len() + 16).sum::<usize>();
    let stream = fallible::with_room(pickle.len() + whole, "a value")?;
    // So many opcodes there are at most; no more than there are buffers are looked at.
    let ends = fallible::with_room(buffers.len() + 1, TABLE)?;
    Ok(joined(pickle, buffers, stream, ends))
}

fn joined(pickle: &[u8], buffers: &[&[u8]], mut stream: Vec<u8>, mut ends: Vec<(usize, bool)>) -> Option<Vec<u8>> {
    if pickle == BYTES {
        let (head, tail) = crate::codec::scalar::bytes_frame(buffers.first()?.len());
        [head.as_slice(), buffers.first()?, &tail].iter().for_each(|part| stream.extend_from_slice(part));
        return Some(stream);
    }
    let mut reader = OpReader::new(pickle);
    loop {
        let op = reader.next_op().ok()?;
        match op {
            Op::NextBuffer if ends.len() > buffers.len() => return None,
            Op::NextBuffer => ends.push((reader.op_at(), false)),
            Op::ReadonlyBuffer => {
                if let Some(last) = ends.last_mut().filter(|last| last.0 + 1 == reader.op_at()) {
                    last.1 = true;
                }
            }
            Op::Stop => break,
            _ => {}
        }
    }
    if ends.len() > buffers.len() {
        return None;
    }
    // Frames count bytes that change: they are left out, which every reader bears.
    let mut reader = OpReader::new(pickle);
    let (mut kept, mut next) = (0, ends.iter().zip(buffers));
    let mut skip_readonly = false;
    loop {
        let op = reader.next_op().ok()?;
        let at = reader.op_at();
        match op {
            Op::Frame(_) => {
                stream.extend(&pickle[kept..at]);
                kept = at + 9;
            }
            Op::NextBuffer => {
                stream.extend(&pickle[kept..at]);
                let ((_, readonly), buffer) = next.next()?;
                stream.push(if *readonly { 0x8e } else { 0x96 });
                stream.extend((buffer.len() as u64).to_le_bytes());
                stream.extend(*buffer);
                kept = at + 1;
                skip_readonly = *readonly;
            }
            Op::ReadonlyBuffer if skip_readonly => {
                stream.extend(&pickle[kept..at]);
                kept = at + 1;
                skip_readonly = false;
            }
            Op::Stop => {
                stream.extend(&pickle[kept..=at]);
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
        fn any_head_and_stream_is_parsed_or_refused(bytes: Vec<u8>, total: u64) {
            let _ = parse(&bytes, total);
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
