//! Floats as PHP spells them with `serialize_precision = -1`: the fewest digits that give the same float again, and of
//! several such the nearest; of two equally near the one whose last digit is even.

use std::io::Write;

/// The longest text: sign, 17 digits, point, and an exponent of five characters; or zeros before the digits.
pub const LONGEST: usize = 32;

/// More digits than this before the point are written with an exponent.
const DIGITS: i32 = 17;

/// Writes a float. Returns how many bytes it takes.
pub fn float_text(number: f64, to: &mut [u8; LONGEST]) -> usize {
    if number.is_nan() {
        return put(to, &[b"NAN"]);
    }
    if number.is_infinite() {
        return put(to, &[if number > 0.0 { b"INF" } else { b"-INF" }]);
    }
    // Rust's `e` has the fewest digits, one of them before the point: `-1.25e-7`.
    let mut scratch = [0_u8; LONGEST];
    let mut rest = &mut scratch[..];
    let _ = write!(rest, "{number:e}");
    let left = rest.len();
    let written = LONGEST - left;
    halve_to_even(number, &mut scratch[..written]);
    let text = &scratch[..written];
    let (sign, text) = text.strip_prefix(b"-").map_or((&b""[..], text), |text| (&b"-"[..], text));
    let split = text.iter().position(|&byte| byte == b'e').unwrap_or(text.len());
    let exponent = std::str::from_utf8(&text[split..]).ok().and_then(|text| text.get(1..)?.parse().ok()).unwrap_or(0);
    let (first, others) = text[..split].split_at(1);
    let others = others.strip_prefix(b".").unwrap_or(others);
    // How many digits stand before the point.
    let before: i32 = exponent + 1;
    if !(-3..=DIGITS).contains(&before) {
        let others = if others.is_empty() { b"0" } else { others };
        let written = put(to, &[sign, first, b".", others, b"E", if exponent < 0 { b"-" } else { b"+" }]);
        let mut rest = &mut to[written..];
        let room = rest.len();
        let _ = write!(rest, "{}", exponent.unsigned_abs());
        let left = rest.len();
        return written + room - left;
    }
    const ZEROS: &[u8] = &[b'0'; DIGITS as usize];
    if before <= 0 {
        return put(to, &[sign, b"0.", &ZEROS[..-before as usize], first, others]);
    }
    let whole = before as usize - 1;
    match others.split_at_checked(whole) {
        Some((whole, [])) => put(to, &[sign, first, whole]),
        Some((whole, part)) => put(to, &[sign, first, whole, b".", part]),
        None => put(to, &[sign, first, others, &ZEROS[..whole - others.len()]]),
    }
}

/// Rust spells some floats that lie just between two shortest spellings with an odd last digit. This puts the even one
/// in its place. `text` is Rust's spelling with an exponent.
fn halve_to_even(number: f64, text: &mut [u8]) {
    let end = text.iter().position(|&byte| byte == b'e').unwrap_or(text.len());
    let Some(last) = end.checked_sub(1).filter(|&last| text[last] % 2 == 1) else { return };
    let (mut digits, mut point) = (0_u64, None);
    for (at, &byte) in text[..end].iter().enumerate() {
        match byte {
            b'0'..=b'9' => digits = digits * 10 + u64::from(byte - b'0'),
            b'.' => point = Some(at),
            _ => {}
        }
    }
    let spelled = std::str::from_utf8(&text[end..]).ok().and_then(|text| text.get(1..)?.parse::<i32>().ok());
    let behind_point = point.map_or(0, |point| last - point) as i32;
    // The float would be so many units of ten to this power.
    let power = spelled.unwrap_or(0) - behind_point - 1;
    let up = match (is_exactly(number, digits * 10 - 5, power), is_exactly(number, digits * 10 + 5, power)) {
        (true, _) => false,
        (_, true) => true,
        _ => return,
    };
    let odd = text[last];
    text[last] = if up { odd + 1 } else { odd - 1 };
    // Next to a power of two, only one of the two gives the float again.
    let same = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()) == Some(number);
    if !same || text[last] > b'9' {
        text[last] = odd;
    }
}

/// Whether a float is exactly, but for its sign, `digits` times ten to this power.
fn is_exactly(number: f64, digits: u64, power: i32) -> bool {
    let bits = number.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    let whole = if exponent == 0 { fraction } else { fraction | 1 << 52 };
    // Each as an odd number and a power of two; then the fives of ten go to the side where they multiply.
    let twos = whole.trailing_zeros() as i32 + exponent.max(1) - 1075;
    let (odd, other) = (whole >> whole.trailing_zeros(), digits >> digits.trailing_zeros());
    if twos != digits.trailing_zeros() as i32 + power {
        return false;
    }
    let fives = 5_u64.checked_pow(power.unsigned_abs());
    match (fives, power < 0) {
        (Some(fives), true) => odd.checked_mul(fives) == Some(other),
        (Some(fives), false) => other.checked_mul(fives) == Some(odd),
        (None, _) => false,
    }
}

/// Writes parts one after the other. Returns how many bytes they take.
fn put(to: &mut [u8; LONGEST], parts: &[&[u8]]) -> usize {
    let mut at = 0;
    for part in parts {
        to[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(number: f64) -> String {
        let mut text = [0; LONGEST];
        let len = float_text(number, &mut text);
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    #[test]
    #[allow(clippy::excessive_precision, reason = "exact halves between two texts")]
    fn floats_are_spelled_as_php_spells_them() {
        for (number, text) in [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.0, "0"),
            (0.1, "0.1"),
            (1.5, "1.5"),
            (-123456789.125, "-123456789.125"),
            (1e15, "1000000000000000"),
            (1e16, "10000000000000000"),
            (1e17, "1.0E+17"),
            (99999999999999980.0, "99999999999999980"),
            (123456789012345678.0, "1.2345678901234568E+17"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1.0E-5"),
            (1e22, "1.0E+22"),
            (1e100, "1.0E+100"),
            (5e-324, "5.0E-324"),
            (f64::MAX, "1.7976931348623157E+308"),
            (-2.2250738585072014e-308, "-2.2250738585072014E-308"),
            (-0.00012345678901234567, "-0.00012345678901234567"),
            (-1261476922904082.25, "-1261476922904082.2"),
            (1261476922904082.75, "1261476922904082.8"),
            (f64::INFINITY, "INF"),
            (f64::NEG_INFINITY, "-INF"),
            (-f64::NAN, "NAN"),
        ] {
            assert_eq!(spelled(number), text);
        }
    }

    #[test]
    fn every_float_comes_back_bit_for_bit() {
        let mut bits = 1_u64;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let number = f64::from_bits(bits);
            if !number.is_nan() {
                let text = spelled(number);
                let read = super::super::number::float(text.as_bytes(), 0);
                assert_eq!(read.map(|(number, end)| (number.to_bits(), end)), Some((bits, text.len())), "{text}");
            }
        }
    }
}
