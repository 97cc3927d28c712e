//! Pickles of scalars, written and read without the interpreter's pickler. They are real pickles, which any unpickler
//! reads.
//!
//! They are written in protocol 4 (the first with `BINBYTES8` and `SHORT_BINUNICODE`), without frame and memo. They are
//! read in the shapes that CPython's pickler gives to a single scalar in protocols 2 to 5: optional `FRAME`, one
//! opcode, optional `MEMOIZE` or `BINPUT`, `STOP`. Any other pickle is left to the unpickler.

use crate::codec::code;

/// A scalar, borrowed from its pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "Python's own names")]
pub enum Scalar<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// UTF-8 that was not checked. It may contain lone surrogates.
    Str(&'a [u8]),
    Bytes(&'a [u8]),
}

/// A pickle, or the start of one, of at most 14 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortPickle {
    bytes: [u8; 14],
    len: u8,
}

impl ShortPickle {
    #[inline(always)]
    fn new(parts: &[&[u8]]) -> Self {
        let mut short = ShortPickle { bytes: [0; 14], len: 0 };
        for part in parts {
            let at = short.len as usize;
            short.bytes[at..at + part.len()].copy_from_slice(part);
            short.len += part.len() as u8;
        }
        short
    }

    /// Returns the bytes.
    #[inline(always)]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// Returns the bytes, filled up with zeros to a fixed length, and how many of them there are.
    #[inline(always)]
    pub(crate) fn padded(&self) -> (&[u8; 14], usize) {
        (&self.bytes, self.len as usize)
    }
}

const PROTO: [u8; 2] = [code::PROTO, 4];
const STOP: [u8; 1] = [code::STOP];

/// Returns the pickle of `None`, `True` or `False`.
#[inline]
pub fn constant(value: Option<bool>) -> ShortPickle {
    let code = match value {
        None => b'N',
        Some(true) => 0x88,
        Some(false) => 0x89,
    };
    ShortPickle::new(&[&PROTO, &[code], &STOP])
}

/// Returns the pickle of an int, with the opcode that CPython chooses.
#[inline]
pub fn int(value: i64) -> ShortPickle {
    match value {
        0..=0xff => ShortPickle::new(&[&PROTO, &[b'K', value as u8], &STOP]),
        0x100..=0xffff => ShortPickle::new(&[&PROTO, b"M", &(value as u16).to_le_bytes(), &STOP]),
        _ if value as i32 as i64 == value => ShortPickle::new(&[&PROTO, b"J", &(value as i32).to_le_bytes(), &STOP]),
        _ => {
            let bytes = value.to_le_bytes();
            // Two's complement with as few bytes as possible.
            let sign = if value < 0 { 0xff } else { 0 };
            let mut len = 8;
            while len > 1 && bytes[len - 1] == sign && (bytes[len - 2] ^ sign) & 0x80 == 0 {
                len -= 1;
            }
            ShortPickle::new(&[&PROTO, &[0x8a, len as u8], &bytes[..len], &STOP])
        }
    }
}

/// Returns the pickle of a float.
#[inline]
pub fn float(value: f64) -> ShortPickle {
    ShortPickle::new(&[&PROTO, b"G", &value.to_be_bytes(), &STOP])
}

/// Returns what stands before and after the UTF-8 bytes in the pickle of a str with `len` such bytes.
#[inline]
pub fn str_frame(len: usize) -> (ShortPickle, [u8; 1]) {
    let head = match len {
        0..=0xff => ShortPickle::new(&[&PROTO, &[0x8c, len as u8]]),
        0x100..=0xffff_ffff => ShortPickle::new(&[&PROTO, b"X", &(len as u32).to_le_bytes()]),
        _ => ShortPickle::new(&[&PROTO, &[0x8d], &(len as u64).to_le_bytes()]),
    };
    (head, STOP)
}

/// Returns what stands before and after the bytes in the pickle of a bytes object with `len` bytes.
#[inline]
pub fn bytes_frame(len: usize) -> (ShortPickle, [u8; 1]) {
    let head = match len {
        0..=0xff => ShortPickle::new(&[&PROTO, &[b'C', len as u8]]),
        0x100..=0xffff_ffff => ShortPickle::new(&[&PROTO, b"B", &(len as u32).to_le_bytes()]),
        _ => ShortPickle::new(&[&PROTO, &[0x8e], &(len as u64).to_le_bytes()]),
    };
    (head, STOP)
}

/// Returns where the bytes of a pickled bytes object begin, and how many there are. `head` is the start of the pickle,
/// `total` its length. Returns `None` if the pickle is anything but one bytes object.
pub fn bytes_within(head: &[u8], total: u64) -> Option<(u64, u64)> {
    let (start, len, code) = counted_content(head, total)?;
    matches!(code, b'C' | b'B' | 0x8e).then_some((start as u64, len))
}

/// Returns the width in bytes of the length that follows an opcode of text or bytes.
fn length_bytes(code: u8) -> Option<usize> {
    match code {
        0x8c | b'C' => Some(1),
        b'X' | b'B' => Some(4),
        0x8d | 0x8e => Some(8),
        _ => None,
    }
}

/// Returns where the content of a pickle of one text or bytes object begins, its length, and the opcode. `head` is the
/// start of the pickle, `total` its length. Returns `None` if it is another pickle, or if what follows the content has
/// a wrong length.
fn counted_content(head: &[u8], total: u64) -> Option<(usize, u64, u8)> {
    let at = opcode_offset(head, total)?;
    let code = *head.get(at)?;
    let width = length_bytes(code)?;
    let mut length = [0; 8];
    length[..width].copy_from_slice(head.get(at + 1..at + 1 + width)?);
    let (start, len) = (at + 1 + width, u64::from_le_bytes(length));
    let tail = total.checked_sub(start as u64)?.checked_sub(len)?;
    // STOP; or MEMOIZE STOP; or BINPUT n STOP.
    (1..=3).contains(&tail).then_some((start, len, code))
}

/// Returns the offset of the opcode that makes the scalar: after PROTO and an optional FRAME. Returns `None` if the
/// frame's length is wrong.
#[inline(always)]
fn opcode_offset(pickle: &[u8], total: u64) -> Option<usize> {
    let [0x80, 2..=5, rest @ ..] = pickle else { return None };
    if rest.first() != Some(&0x95) {
        return Some(2);
    }
    let length = u64::from_le_bytes(rest.get(1..9)?.try_into().ok()?);
    // CPython refuses a frame that runs beyond the end, and it never writes one that ends early for a scalar.
    (length == total.checked_sub(11)?).then_some(11)
}

/// Returns `true` if `tail` may follow the opcode: `STOP`, and before it, for text and bytes (`memo`), an opcode that
/// puts the value into the memo.
#[inline(always)]
fn is_end(tail: &[u8], memo: bool) -> bool {
    matches!((tail, memo), ([b'.'], _) | ([0x94, b'.'], true) | ([b'q', _, b'.'], true))
}

/// Decodes the pickle of a scalar. Returns `None` if the value is no scalar, or if the pickle has another shape than
/// those above.
#[inline]
pub fn decode(pickle: &[u8]) -> Option<Scalar<'_>> {
    // The most usual shapes by themselves, because that takes a quarter of the steps: small numbers, and short texts.
    match pickle {
        [0x80, 2..=5, b'K', number, b'.'] => return Some(Scalar::Int(i64::from(*number))),
        [0x80, 2..=5, b'M', low, high, b'.'] => {
            return Some(Scalar::Int(i64::from(u16::from_le_bytes([*low, *high]))));
        }
        [0x80, 2..=5, 0x8c, len, text @ .., b'.'] if text.len() == usize::from(*len) => {
            return Some(Scalar::Str(text));
        }
        _ => {}
    }
    let total = pickle.len() as u64;
    let at = opcode_offset(pickle, total)?;
    let (code, rest) = pickle[at..].split_first()?;
    let fixed = |n: usize| Some((rest.get(..n)?, rest.get(n..)?));
    let (value, tail) = match code {
        b'K' => fixed(1).map(|(b, tail)| (Scalar::Int(i64::from(b[0])), tail))?,
        b'M' => fixed(2).map(|(b, tail)| (Scalar::Int(i64::from(u16::from_le_bytes([b[0], b[1]]))), tail))?,
        b'J' => {
            let (b, tail) = fixed(4)?;
            (Scalar::Int(i64::from(i32::from_le_bytes(b.try_into().ok()?))), tail)
        }
        0x8a => {
            let (&len, rest) = rest.split_first()?;
            if len == 0 || len > 8 {
                return None;
            }
            let (b, tail) = (rest.get(..len as usize)?, rest.get(len as usize..)?);
            let mut bytes = if b[b.len() - 1] & 0x80 == 0 { [0; 8] } else { [0xff; 8] };
            bytes[..b.len()].copy_from_slice(b);
            (Scalar::Int(i64::from_le_bytes(bytes)), tail)
        }
        b'G' => {
            let (b, tail) = fixed(8)?;
            (Scalar::Float(f64::from_be_bytes(b.try_into().ok()?)), tail)
        }
        b'N' => (Scalar::None, rest),
        0x88 => (Scalar::Bool(true), rest),
        0x89 => (Scalar::Bool(false), rest),
        0x8c | 0x8d | 0x8e | b'X' | b'C' | b'B' => {
            let (start, len, code) = counted_content(pickle, total)?;
            let end = start + len as usize;
            let text = matches!(code, 0x8c | 0x8d | b'X');
            let value = if text { Scalar::Str(&pickle[start..end]) } else { Scalar::Bytes(&pickle[start..end]) };
            return is_end(&pickle[end..], true).then_some(value);
        }
        _ => return None,
    };
    is_end(tail, false).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn join(frame: (ShortPickle, [u8; 1]), middle: &[u8]) -> Vec<u8> {
        [frame.0.as_slice(), middle, &frame.1].concat()
    }

    #[test]
    fn edges_of_every_opcode_round_trip() {
        for (value, scalar) in
            [(None, Scalar::None), (Some(true), Scalar::Bool(true)), (Some(false), Scalar::Bool(false))]
        {
            assert_eq!(decode(constant(value).as_slice()), Some(scalar));
        }
        let edges = (0..64).flat_map(|bit| {
            let power = 1_i64 << bit;
            [power, power.wrapping_sub(1), power.wrapping_neg(), power.wrapping_neg().wrapping_sub(1)]
        });
        for value in edges.chain([0, i64::MIN, i64::MAX]) {
            assert_eq!(decode(int(value).as_slice()), Some(Scalar::Int(value)));
        }
        for len in [0, 1, 255, 256, 65_536] {
            let text = vec![b'x'; len];
            assert_eq!(decode(&join(str_frame(len), &text)), Some(Scalar::Str(&text)));
            let pickle = join(bytes_frame(len), &text);
            assert_eq!(decode(&pickle), Some(Scalar::Bytes(&text)));
            let head = &pickle[..pickle.len().min(24)];
            assert_eq!(bytes_within(head, pickle.len() as u64).map(|(_, n)| n), Some(len as u64));
        }
    }

    #[test]
    fn a_frame_that_lies_is_not_ours_to_decode() {
        let mut framed = vec![0x80, 5, 0x95, 3, 0, 0, 0, 0, 0, 0, 0, b'K', 7, b'.'];
        assert_eq!(decode(&framed), Some(Scalar::Int(7)));
        framed[3] = 4;
        assert_eq!(decode(&framed), None);
    }

    proptest! {
        #[test]
        fn ints_and_floats_round_trip(value: i64, bits: u64) {
            let pickle = int(value);
            prop_assert_eq!(decode(pickle.as_slice()), Some(Scalar::Int(value)));
            let number = f64::from_bits(bits);
            let pickle = float(number);
            let Some(Scalar::Float(back)) = decode(pickle.as_slice()) else { panic!("no float") };
            prop_assert_eq!(back.to_bits(), number.to_bits());
            prop_assert!(int(value).as_slice().len() <= 13);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, tail in 0_usize..4) {
            let _ = decode(&bytes);
            let _ = bytes_within(&bytes[..bytes.len().saturating_sub(tail)], bytes.len() as u64);
        }
    }
}
