//! Ints of more than 64 bits: between the two's complement of a pickle and hexadecimal text.
//!
//! The interpreter's stable interface takes and gives the digits of such ints only as text. Hexadecimal digits are
//! converted in linear time.

use crate::error::Result;
use crate::fallible;

/// What an error calls the digits, if there is no memory for them.
const DIGITS: &str = "the digits of an int";

/// Returns the two's complement of an int, lowest byte first, with as few bytes as possible. `text` is what `hex`
/// returns: a sign if the int is negative, `0x`, and digits. Anything that is no digit counts as 0.
pub fn from_hex(text: &[u8]) -> Result<Vec<u8>> {
    let (negative, digits) = match text {
        [b'-', b'0', b'x', digits @ ..] => (true, digits),
        [b'0', b'x', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let mut bytes = fallible::with_room(digits.len() / 2 + 2, DIGITS)?;
    for pair in digits.rchunks(2) {
        bytes.push(pair.iter().fold(0, |byte, &digit| byte << 4 | value_of(digit)));
    }
    bytes.push(0);
    if negative {
        negate(&mut bytes);
    }
    let sign = if negative { 0xff } else { 0 };
    while let [.., below, last] = bytes[..] {
        if last != sign || (below ^ sign) & 0x80 != 0 {
            break;
        }
        bytes.pop();
    }
    Ok(bytes)
}

/// Returns an int as hexadecimal text with a sign if it is negative, and a 0 at the end. `bytes` is its two's
/// complement, lowest byte first.
pub fn to_hex(bytes: &[u8]) -> Result<Vec<u8>> {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut magnitude = fallible::copied(bytes, DIGITS)?;
    if negative {
        negate(&mut magnitude);
    }
    let mut text = fallible::with_room(2 * bytes.len() + 3, DIGITS)?;
    text.extend_from_slice(if negative { b"-0" } else { b"0" });
    for byte in magnitude.iter().rev() {
        text.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    text.push(0);
    Ok(text)
}

/// Negates two's complement. The lowest number of a width stays as it is, which is its magnitude.
fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes {
        let (sum, overflow) = (!*byte).overflowing_add(carry.into());
        (*byte, carry) = (sum, overflow);
    }
}

fn value_of(digit: u8) -> u8 {
    char::from(digit).to_digit(16).map_or(0, |value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: i128) -> String {
        if value < 0 { format!("-{:#x}", value.unsigned_abs()) } else { format!("{value:#x}") }
    }

    fn check(value: i128) {
        let written = text(value);
        let bytes = from_hex(written.as_bytes()).unwrap();
        let mut whole = [if value < 0 { 0xff } else { 0 }; 17];
        whole[..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(i128::from_le_bytes(whole[..16].try_into().unwrap()), value);
        if let [.., below, last] = bytes[..] {
            let sign = if below & 0x80 == 0 { 0 } else { 0xff };
            assert_ne!(last, sign, "{value} is too long");
        }
        let mut back = to_hex(&bytes).unwrap();
        assert_eq!(back.pop(), Some(0));
        let back = String::from_utf8(back).unwrap();
        assert_eq!(i128::from_str_radix(&back, 16).unwrap(), value);
    }

    #[test]
    fn the_edges_of_every_width_round_trip() {
        for bit in 0..127 {
            let power = 1_i128 << bit;
            [power, power - 1, power + 1, -power, -power - 1, 1 - power].into_iter().for_each(check);
        }
        check(i128::MAX);
    }

    proptest! {
        #[test]
        fn any_int_round_trips(value in i128::MIN + 1..i128::MAX) {
            check(value);
        }

        #[test]
        fn any_bytes_are_text(bytes: Vec<u8>, digits: Vec<u8>) {
            let text = to_hex(&bytes).unwrap();
            prop_assert_eq!(text.last(), Some(&0));
            from_hex(&digits).unwrap();
        }
    }
}
