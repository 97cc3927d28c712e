//! The JSON of a line of a dump: one object of names and plain values. Nothing in it is nested, so reading it takes no
//! more memory than the line has, and no stack.

use std::fmt::Write;

/// A value of such an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    /// `null`
    Null,
    /// A whole number of 64 bits.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
}

/// Appends a text in quotes, in ASCII: a dump is shown on terminals, and its texts may be anybody's.
pub fn write_text(text: &str, to: &mut Vec<u8>) {
    to.push(b'"');
    let mut escaped = String::new();
    for unit in text.chars() {
        match unit {
            '"' => to.extend_from_slice(b"\\\""),
            '\\' => to.extend_from_slice(b"\\\\"),
            '\n' => to.extend_from_slice(b"\\n"),
            ' '..='~' => to.push(unit as u8),
            _ => {
                escaped.clear();
                for half in unit.encode_utf16(&mut [0; 2]) {
                    let _ = write!(escaped, "\\u{half:04x}");
                }
                to.extend_from_slice(escaped.as_bytes());
            }
        }
    }
    to.push(b'"');
}

/// Reads an object. `None`: it is none, has something nested in it, or a name twice.
pub fn parse(line: &[u8]) -> Option<Vec<(String, Plain)>> {
    let mut reader = Reader { line: std::str::from_utf8(line).ok()?, at: 0 };
    let mut all: Vec<(String, Plain)> = Vec::new();
    reader.token("{")?;
    if reader.token("}").is_some() {
        return reader.is_at_end().then_some(all);
    }
    loop {
        let name = reader.text()?;
        reader.token(":")?;
        let value = reader.value()?;
        if all.iter().any(|(other, _)| *other == name) || all.len() == MOST {
            return None;
        }
        all.push((name, value));
        if reader.token(",").is_none() {
            reader.token("}")?;
            return reader.is_at_end().then_some(all);
        }
    }
}

/// No line of a dump has as many names.
const MOST: usize = 8;

struct Reader<'a> {
    line: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.line[self.at..]
    }

    fn pass_blanks(&mut self) {
        self.at = self.line.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// Passes over a token, if it comes next.
    fn token(&mut self, token: &str) -> Option<()> {
        self.pass_blanks();
        self.rest().starts_with(token).then(|| self.at += token.len())
    }

    fn is_at_end(&mut self) -> bool {
        self.pass_blanks();
        self.rest().is_empty()
    }

    fn value(&mut self) -> Option<Plain> {
        if self.token("null").is_some() {
            return Some(Plain::Null);
        }
        self.pass_blanks();
        if self.rest().starts_with('"') {
            return self.text().map(Plain::Text);
        }
        let len = self.rest().find(|unit: char| !matches!(unit, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let number = &self.rest()[..len.unwrap_or(self.rest().len())];
        let digits = number.strip_prefix('-').unwrap_or(number);
        let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        if !digits.starts_with(|unit: char| unit.is_ascii_digit()) || digits.ends_with('.') || leading_zero {
            return None;
        }
        let value = match digits.bytes().all(|digit| digit.is_ascii_digit()) {
            true => Plain::Int(number.parse().ok()?),
            false => Plain::Float(number.parse().ok()?),
        };
        self.at += number.len();
        Some(value)
    }

    fn text(&mut self) -> Option<String> {
        self.token("\"")?;
        let mut text = String::new();
        loop {
            let plain = self.rest().find(|unit: char| unit == '"' || unit == '\\' || unit < ' ')?;
            text.push_str(&self.line[self.at..self.at + plain]);
            self.at += plain;
            if self.rest().starts_with('"') {
                self.at += 1;
                return Some(text);
            }
            if !self.rest().starts_with('\\') {
                return None;
            }
            self.at += 1;
            let escaped = self.rest().chars().next()?;
            self.at += escaped.len_utf8();
            text.push(match escaped {
                '"' | '\\' | '/' => escaped,
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => self.utf16()?,
                _ => return None,
            });
        }
    }

    /// Reads a character that is written as one or two numbers of UTF-16.
    fn utf16(&mut self) -> Option<char> {
        let first = self.half()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first.into());
        }
        self.rest().starts_with("\\u").then_some(())?;
        self.at += 2;
        char::decode_utf16([first, self.half()?]).next()?.ok()
    }

    fn half(&mut self) -> Option<u16> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        let half = u16::from_str_radix(digits, 16).ok()?;
        self.at += 4;
        Some(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_reads_back(text: String) {
            let mut line = b"{\"a\": ".to_vec();
            write_text(&text, &mut line);
            line.extend_from_slice(b", \"b\": -7}");
            prop_assert!(line.is_ascii() && !line.contains(&b'\n'));
            prop_assert_eq!(parse(&line), Some(vec![("a".into(), Plain::Text(text)), ("b".into(), Plain::Int(-7))]));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[b"{\"a\":", &bytes[..], b"}"].concat());
        }
    }

    #[test]
    fn what_is_no_flat_object_is_refused() {
        let bad: [&[u8]; 16] = [
            b"[1]",
            b"{\"a\": [1]}",
            b"{\"a\": {}}",
            b"{\"a\": 1",
            b"{\"a\" 1}",
            b"{\"a\": 1} x",
            b"{\"a\": 1, \"a\": 1}",
            b"{\"a\": 01}",
            b"{\"a\": 1.}",
            b"{\"a\": NaN}",
            b"{\"a\": true}",
            b"{\"a\": \"\\ud800\"}",
            b"{\"a\": \"\\x\"}",
            b"{\"a\": 9223372036854775808}",
            b"",
            b"{\"a\": \"\x01\"}",
        ];
        for line in bad {
            assert_eq!(parse(line), None, "{line:?}");
        }
        let deep = [&b"{\"a\":"[..], &b"[".repeat(100_000)].concat();
        assert_eq!(parse(&deep), None);
        assert_eq!(parse(b" { } "), Some(vec![]));
        assert_eq!(parse(b"{\"\\ud83d\\udc0d\": -1.5e3}"), Some(vec![("\u{1f40d}".into(), Plain::Float(-1500.0))]));
    }
}
