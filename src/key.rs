//! Keys name segments, indexes name variables.

use crate::error::{Error, Result};
use crate::format::slot_flags::{LOCK, TEXT};
use crate::hash;
use std::fmt::Write;

/// Longest text key, in bytes of UTF-8.
pub const KEY_MAX: usize = 128;
/// Longest text index, in bytes of UTF-8.
pub const INDEX_MAX: usize = 1024;
/// What every object's name begins with.
pub const PREFIX: &str = "shmvar.";
/// Longest escaped key in a name; a longer one is hashed.
const ESCAPED_MAX: usize = 200;

/// The name of a segment: a number or a text. 5 and "5" are different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Any signed 64-bit number.
    Int(i64),
    /// Text of 1 to 128 bytes.
    Text(String),
}

impl Key {
    /// A text key, checked.
    pub fn text(text: &str) -> Result<Self> {
        match text.len() {
            0 => Err(Error::Invalid("a text key may not be empty".into())),
            1..=KEY_MAX => Ok(Key::Text(text.into())),
            n => Err(Error::Overflow(format!("a text key has at most {KEY_MAX} bytes of UTF-8, this one {n}"))),
        }
    }

    /// The name of the segment's object in the memory file system, at most 255 bytes.
    ///
    /// `shmvar.i.` and the number; `shmvar.s.` and the text with every byte but letters, digits, `-` and `_` written as
    /// `%XX`; where that is longer than 200 bytes, `shmvar.h.` and a hash (the segment itself holds the whole key).
    pub fn object_name(&self) -> String {
        match self {
            Key::Int(number) => format!("{PREFIX}i.{number}"),
            Key::Text(text) => {
                let mut escaped = String::with_capacity(text.len());
                for byte in text.bytes() {
                    if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
                        escaped.push(char::from(byte));
                    } else {
                        escaped.push_str(&format!("%{byte:02X}"));
                    }
                }
                if escaped.len() <= ESCAPED_MAX {
                    return format!("{PREFIX}s.{escaped}");
                }
                let half = |seed| hash::of_bytes([seed, 0x5851_F42D_4C95_7F2D], text.as_bytes());
                format!("{PREFIX}h.{:016x}{:016x}", half(1), half(2))
            }
        }
    }
}

impl Key {
    /// The key whose object has this name, where the name tells.
    pub fn of_object_name(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let key = match rest.split_at_checked(2)? {
            ("i.", number) => Key::Int(number.parse().ok()?),
            ("s.", text) => {
                let mut bytes = Vec::with_capacity(text.len());
                let mut parts = text.split('%');
                bytes.extend(parts.next()?.bytes());
                for part in parts {
                    let (escaped, plain) = part.split_at_checked(2)?;
                    bytes.push(u8::from_str_radix(escaped, 16).ok()?);
                    bytes.extend(plain.bytes());
                }
                Key::text(&String::from_utf8(bytes).ok()?).ok()?
            }
            _ => return None,
        };
        (key.object_name() == name).then_some(key)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Int(number) => write!(f, "{number}"),
            Key::Text(text) => quoted(f, text),
        }
    }
}

/// As its user wrote it; but what commands a terminal, or cannot be seen, is escaped.
fn quoted(f: &mut std::fmt::Formatter<'_>, text: &str) -> std::fmt::Result {
    let escaped = format!("{text:?}");
    let mut characters = escaped.chars().peekable();
    while let Some(character) = characters.next() {
        let character = match (character, characters.peek()) {
            ('\\', Some('"' | '\\')) => characters.next().expect("just seen"),
            _ => character,
        };
        f.write_char(character)?;
    }
    Ok(())
}

impl From<i64> for Key {
    fn from(number: i64) -> Self {
        Key::Int(number)
    }
}

/// The name of a variable in a segment, borrowed for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Index<'a> {
    /// Any signed 64-bit number.
    Int(i64),
    /// Text of at most 1024 bytes.
    Text(&'a str),
}

impl<'a> Index<'a> {
    /// A text index, checked.
    pub fn text(text: &'a str) -> Result<Self> {
        if text.len() > INDEX_MAX {
            let n = text.len();
            return Err(Error::Overflow(format!("a text index has at most {INDEX_MAX} bytes of UTF-8, this one {n}")));
        }
        Ok(Index::Text(text))
    }

    /// Is it short enough? (Text may come in unchecked.)
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Index::Text(text) if text.len() > INDEX_MAX => Index::text(text).map(drop),
            _ => Ok(()),
        }
    }

    /// The bytes that a record of this index begins with.
    #[inline]
    pub(crate) fn record_key(&self) -> &'a [u8] {
        match self {
            Index::Int(_) => &[],
            Index::Text(text) => text.as_bytes(),
        }
    }

    /// The same, owned.
    pub fn to_owned(&self) -> IndexBuf {
        match self {
            Index::Int(number) => IndexBuf::Int(*number),
            Index::Text(text) => IndexBuf::Text((*text).into()),
        }
    }
}

/// What a slot is for: a variable's index, or the name of a lock. The two do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// Index or name.
    pub index: Index<'a>,
    /// A lock's.
    pub lock: bool,
}

impl<'a> From<&Index<'a>> for Name<'a> {
    #[inline(always)]
    fn from(index: &Index<'a>) -> Self {
        Name { index: *index, lock: false }
    }
}

impl<'a> Name<'a> {
    /// Of a lock.
    pub fn of_lock(index: &Index<'a>) -> Self {
        Name { index: *index, lock: true }
    }

    /// Is it text?
    #[inline(always)]
    pub fn is_text(&self) -> bool {
        matches!(self.index, Index::Text(_))
    }

    /// The bits of a slot's tag that belong to the name.
    #[inline(always)]
    pub fn flags(&self) -> u64 {
        let text = if self.is_text() { TEXT } else { 0 };
        if self.lock { text | LOCK } else { text }
    }

    /// Its place in any table of the segment with this key.
    #[inline(always)]
    pub fn hash(&self, key: [u64; 2]) -> u64 {
        let hash = match &self.index {
            Index::Int(number) => hash::of_int(key, *number),
            Index::Text(text) => hash::of_bytes(key, text.as_bytes()),
        };
        hash::spread(if self.lock { hash ^ hash::LOCK_NAME_MIX } else { hash })
    }

    /// The slot's second word, for a name of this hash.
    #[inline(always)]
    pub fn first(&self, hash: u64) -> u64 {
        match &self.index {
            Index::Int(number) => *number as u64,
            Index::Text(_) => hash,
        }
    }
}

impl From<i64> for Index<'_> {
    fn from(number: i64) -> Self {
        Index::Int(number)
    }
}

/// Unchecked: a text of more than 1024 bytes is refused where it is stored.
impl<'a> From<&'a str> for Index<'a> {
    fn from(text: &'a str) -> Self {
        Index::Text(text)
    }
}

impl std::fmt::Display for Index<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Index::Int(number) => write!(f, "{number}"),
            Index::Text(text) => quoted(f, text),
        }
    }
}

/// An [`Index`] that owns its text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IndexBuf {
    /// See [`Index::Int`].
    Int(i64),
    /// See [`Index::Text`].
    Text(String),
}

impl IndexBuf {
    /// Borrowed for a call.
    pub fn as_index(&self) -> Index<'_> {
        match self {
            IndexBuf::Int(number) => Index::Int(*number),
            IndexBuf::Text(text) => Index::Text(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_name_max_and_apart() {
        let texts = ["5", "a/b", "a.b", "..", "é", "ü", "A", "a", "\u{1F600}"];
        let long = ["é".repeat(64), "ü".repeat(64), "a".repeat(128)];
        let keys = texts.iter().map(|t| (*t).to_string()).chain(long);
        let mut names: Vec<String> = keys.map(|t| Key::text(&t).unwrap().object_name()).collect();
        names.push(Key::Int(5).object_name());
        names.push(Key::Int(i64::MIN).object_name());
        assert!(names.iter().all(|n| n.len() <= 255 && !n.contains('/')));
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_name_tells_the_key_unless_it_is_a_hash_or_no_keys() {
        let texts = ["5", "a/b", "..", "é", "%41", "\u{1F600}", &"a".repeat(128)].map(|t| Key::text(t).unwrap());
        for key in texts.into_iter().chain([0, -7, i64::MIN].map(Key::Int)) {
            assert_eq!(Key::of_object_name(&key.object_name()), Some(key));
        }
        let others =
            ["shmvar.i.+5", "shmvar.i.", "shmvar.s.", "shmvar.s.%4", "shmvar.s.a.b", "shmvar.s.%61", "shmvar.x", "5"];
        let hashed = Key::text(&"é".repeat(64)).unwrap().object_name();
        for name in others.into_iter().chain([&*hashed]) {
            assert_eq!(Key::of_object_name(name), None, "{name}");
        }
    }

    #[test]
    fn texts_are_shown_as_they_are_but_for_what_cannot_be_seen() {
        for text in ["a b/c", "it's \"so\"", r"C:\new\", r#"\""#, "\u{e9}\u{1F600}"] {
            assert_eq!(Key::text(text).unwrap().to_string(), format!("\"{text}\""));
            assert_eq!(Index::from(text).to_string(), format!("\"{text}\""));
        }
        assert_eq!(Index::from("\x1b[2J\n\u{202e}").to_string(), r#""\u{1b}[2J\n\u{202e}""#);
    }

    #[test]
    fn keys_and_indexes_out_of_range_are_refused() {
        assert!(matches!(Key::text(""), Err(Error::Invalid(_))));
        assert!(matches!(Key::text(&"x".repeat(129)), Err(Error::Overflow(_))));
        assert!(matches!(Index::text(&"x".repeat(1025)), Err(Error::Overflow(_))));
        assert!(Index::text("").is_ok());
    }
}
