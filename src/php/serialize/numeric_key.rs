//! Which strings PHP takes for an int where they are keys of an array.

/// The int that PHP makes of a string as a key of an array: `-`, perhaps, and digits without a zero before them, within
/// 64 bits. `None` if the string stays a string.
#[inline]
pub fn numeric_key(text: &[u8]) -> Option<i64> {
    let first = *text.first()?;
    if first > b'9' || text.len() > 20 {
        return None;
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] => return (first == b'0').then_some(0),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::numeric_key;

    #[test]
    fn only_what_php_would_write_for_an_int_is_one() {
        for (text, number) in [("0", 0), ("5", 5), ("-5", -5), ("10", 10)] {
            assert_eq!(numeric_key(text.as_bytes()), Some(number));
        }
        assert_eq!(numeric_key(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(numeric_key(b"-9223372036854775808"), Some(i64::MIN));
        for text in ["", "-", "-0", "01", " 1", "1 ", "+1", "1.0", "9223372036854775808", "-9223372036854775809", "a"] {
            assert_eq!(numeric_key(text.as_bytes()), None, "{text:?}");
        }
    }
}
