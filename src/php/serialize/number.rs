//! The digits of ints, floats and lengths.

/// Why digits are no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoNumber {
    /// There are none, or something else stands among them.
    Form,
    /// They are beyond 64 bits.
    Range,
}

/// The number without a sign that begins at `at`, and where its digits end.
#[inline(always)]
pub fn unsigned(text: &[u8], at: usize) -> Result<(u64, usize), NoNumber> {
    let (mut number, mut end) = (0_u64, at);
    while let Some(digit) = digit(text, end) {
        // 19 digits cannot exceed 64 bits.
        number = if end - at < 19 {
            number * 10 + digit
        } else {
            number.checked_mul(10).and_then(|number| number.checked_add(digit)).ok_or(NoNumber::Range)?
        };
        end += 1;
    }
    if end == at { Err(NoNumber::Form) } else { Ok((number, end)) }
}

/// The int that begins at `at`, and where it ends. As PHP reads it: with either sign or none, and with zeros before it.
#[inline(always)]
pub fn signed(text: &[u8], at: usize) -> Result<(i64, usize), NoNumber> {
    let (negative, digits) = match text.get(at) {
        Some(b'-') => (true, at + 1),
        Some(b'+') => (false, at + 1),
        _ => (false, at),
    };
    let (number, end) = unsigned(text, digits)?;
    let limit = i64::MAX as u64 + u64::from(negative);
    if number > limit {
        return Err(NoNumber::Range);
    }
    Ok((if negative { (number as i64).wrapping_neg() } else { number as i64 }, end))
}

/// The float that begins at `at`, and where it ends: digits with a point among, before or behind them or none, then
/// perhaps an exponent; or `INF`, `-INF`, `NAN`.
pub fn float(text: &[u8], at: usize) -> Option<(f64, usize)> {
    for (name, value) in [("INF", f64::INFINITY), ("-INF", f64::NEG_INFINITY), ("NAN", f64::NAN)] {
        if text[at..].starts_with(name.as_bytes()) {
            return Some((value, at + name.len()));
        }
    }
    let start = sign(text, at);
    let point = digits(text, start);
    let mut end = point;
    if text.get(point) == Some(&b'.') {
        end = digits(text, point + 1);
    }
    // At least one digit stands before or behind the point.
    if end == start || (end == start + 1 && text[start] == b'.') {
        return None;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let exponent = sign(text, end + 1);
        end = digits(text, exponent);
        if end == exponent {
            return None;
        }
    }
    let number = std::str::from_utf8(&text[at..end]).ok()?.parse().ok()?;
    Some((number, end))
}

#[inline(always)]
fn digit(text: &[u8], at: usize) -> Option<u64> {
    let digit = text.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// Where the digits end that begin at `at`.
fn digits(text: &[u8], mut at: usize) -> usize {
    while digit(text, at).is_some() {
        at += 1;
    }
    at
}

/// Where the sign ends that may stand at `at`.
fn sign(text: &[u8], at: usize) -> usize {
    at + usize::from(matches!(text.get(at), Some(b'-' | b'+')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ints_are_read_as_php_reads_them_and_refused_beyond_64_bits() {
        for (text, number) in [("0", 0), ("-0", 0), ("+5", 5), ("007", 7), ("-9223372036854775808", i64::MIN)] {
            assert_eq!(signed(text.as_bytes(), 0), Ok((number, text.len())), "{text}");
        }
        let zeros = format!("{}7", "0".repeat(40));
        assert_eq!(signed(zeros.as_bytes(), 0), Ok((7, 41)));
        for text in ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "99999999999999999999999"] {
            assert_eq!(signed(text.as_bytes(), 0), Err(NoNumber::Range), "{text}");
        }
        assert_eq!(unsigned(b"18446744073709551615", 0), Ok((u64::MAX, 20)));
        for text in ["", "-", "+", "x", "+-1"] {
            assert_eq!(signed(text.as_bytes(), 0), Err(NoNumber::Form), "{text}");
        }
    }

    #[test]
    fn floats_have_the_forms_that_php_reads() {
        for (text, number) in [("1.", 1.0), (".5", 0.5), ("1e5", 1e5), ("-1E-5", -1e-5), ("+1", 1.0), ("1e+5", 1e5)] {
            assert_eq!(float(text.as_bytes(), 0), Some((number, text.len())), "{text}");
        }
        assert!(float(b"-0", 0).is_some_and(|(number, _)| number == 0.0 && number.is_sign_negative()));
        assert!(float(b"NAN", 0).is_some_and(|(number, _)| number.is_nan()));
        for text in ["", ".", "-", "-.", "1e", "1e+", "+INF", "inf", "nan", "-NAN", "x", "e5", ".e5"] {
            assert_eq!(float(text.as_bytes(), 0), None, "{text}");
        }
    }
}
