//! Keys, which name segments; indexes, which name variables; and names, which are an index, or the name of a lock or a
//! queue, or of a queue's item.
//!
//! How a hash leads to a slot is in `hash.rs` and `format/root.rs`.

use crate::error::{Error, Result};
pub use crate::format::slot_flags::NameOf;
use crate::format::slot_flags::{ITEM, LOCK, QUEUE, TEXT};
use crate::hash;
use std::fmt::Write;

/// The longest text key, in bytes of UTF-8.
pub const KEY_MAX: usize = 128;
/// The longest text index, in bytes of UTF-8.
pub const INDEX_MAX: usize = 1024;
/// The start of the name of every segment's object.
pub const PREFIX: &str = "shmvar.";
/// The longest escaped key that stands in an object's name, in bytes. A longer one is replaced by a hash.
const ESCAPED_MAX: usize = 200;

/// The name of a segment: a number or a text. The number 5 and the text "5" are different keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Any signed 64-bit number.
    Int(i64),
    /// Text of 1 to 128 bytes.
    Text(String),
}

impl Key {
    /// Makes a text key.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the text is empty, [`Error::Overflow`] if it has more than [`KEY_MAX`] bytes.
    pub fn text(text: &str) -> Result<Self> {
        match text.len() {
            0 => Err(Error::Invalid("a text key may not be empty".into())),
            1..=KEY_MAX => Ok(Key::Text(text.into())),
            n => Err(Error::Overflow(format!("a text key has at most {KEY_MAX} bytes of UTF-8, this one {n}"))),
        }
    }

    /// Returns the name of the segment's object in the memory file system. It has at most 255 bytes.
    ///
    /// For a number the name is `shmvar.i.` and the number. For a text it is `shmvar.s.` and the text, with every byte
    /// but letters, digits, `-` and `_` written as `%XX`. If that text is longer than 200 bytes, the name is
    /// `shmvar.h.` and a hash; the whole key is in the segment itself.
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
    /// Returns the key whose object has this name. Returns `None` if the name contains a hash, or is not an object name
    /// of a key.
    pub fn from_object_name(name: &str) -> Option<Self> {
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
            Key::Text(text) => write_quoted(f, text),
        }
    }
}

/// Writes a text in quotes, as its user wrote it. Only characters that control a terminal, or that cannot be seen, are
/// escaped.
fn write_quoted(f: &mut std::fmt::Formatter<'_>, text: &str) -> std::fmt::Result {
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

/// The name of a variable in a segment. A text is borrowed for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Index<'a> {
    /// Any signed 64-bit number.
    Int(i64),
    /// Text of at most 1024 bytes.
    Text(&'a str),
}

impl<'a> Index<'a> {
    /// Makes a text index.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the text has more than [`INDEX_MAX`] bytes.
    pub fn text(text: &'a str) -> Result<Self> {
        if text.len() > INDEX_MAX {
            let n = text.len();
            return Err(Error::Overflow(format!("a text index has at most {INDEX_MAX} bytes of UTF-8, this one {n}")));
        }
        Ok(Index::Text(text))
    }

    /// Checks the length of a text, which may have come in unchecked.
    #[inline]
    pub(crate) fn check_length(&self) -> Result<()> {
        match self {
            Index::Text(text) if text.len() > INDEX_MAX => Index::text(text).map(drop),
            _ => Ok(()),
        }
    }

    /// Returns the key in a record of this index: the text, or nothing for a number.
    #[inline]
    pub(crate) fn record_key(&self) -> &'a [u8] {
        match self {
            Index::Int(_) => &[],
            Index::Text(text) => text.as_bytes(),
        }
    }

    /// Returns a copy of the index that owns its text.
    pub fn to_owned(&self) -> IndexBuf {
        match self {
            Index::Int(number) => IndexBuf::Int(*number),
            Index::Text(text) => IndexBuf::Text((*text).into()),
        }
    }
}

/// What a slot is found by: the index of a variable, or the name of a lock, of a queue or of an item. An index and a
/// lock's name that are equal are different names, and have slots in different tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The index of the variable, or the name of the lock or the queue.
    pub index: Index<'a>,
    /// What it is the name of.
    pub of: NameOf,
}

impl<'a> From<&Index<'a>> for Name<'a> {
    #[inline(always)]
    fn from(index: &Index<'a>) -> Self {
        Name { index: *index, of: NameOf::Variable }
    }
}

impl<'a> Name<'a> {
    /// Makes the name of a lock.
    pub fn of_lock(index: &Index<'a>) -> Self {
        Name { index: *index, of: NameOf::Lock }
    }

    /// Makes the name of a queue.
    pub fn of_queue(index: &Index<'a>) -> Self {
        Name { index: *index, of: NameOf::Queue }
    }

    /// Returns `true` if the name has its slot in the table of the names.
    #[inline(always)]
    pub fn is_name(&self) -> bool {
        self.of != NameOf::Variable
    }

    /// Returns the bits of a slot's tag that tell this name from others with the same index.
    #[inline(always)]
    pub fn mask(&self) -> u64 {
        if self.is_name() { TEXT | LOCK | QUEUE | ITEM } else { TEXT | LOCK }
    }

    /// Returns `true` if the name is text.
    #[inline(always)]
    pub fn is_text(&self) -> bool {
        matches!(self.index, Index::Text(_))
    }

    /// Returns the bits of a slot's tag that belong to the name.
    #[inline(always)]
    pub fn flags(&self) -> u64 {
        let text = if self.is_text() { TEXT } else { 0 };
        text | self.of.flags()
    }

    /// Returns the hash of the name in the segment with this hash key. The hash decides on the leaf and on the slot in
    /// it.
    #[inline(always)]
    pub fn hash(&self, key: [u64; 2]) -> u64 {
        let hash = match &self.index {
            Index::Int(number) => hash::of_int(key, *number),
            Index::Text(text) => hash::of_bytes(key, text.as_bytes()),
        };
        hash::spread(match self.of {
            NameOf::Variable => hash,
            NameOf::Lock => hash ^ hash::LOCK_NAME_MIX,
            NameOf::Queue | NameOf::Item => hash ^ hash::QUEUE_NAME_MIX,
        })
    }

    /// Returns the second word of the name's slot: the number, or for a text its hash, which is `hash`.
    #[inline(always)]
    pub fn index_word(&self, hash: u64) -> u64 {
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

/// Makes a text index without checking its length. A text of more than 1024 bytes is refused where it is stored.
impl<'a> From<&'a str> for Index<'a> {
    fn from(text: &'a str) -> Self {
        Index::Text(text)
    }
}

impl std::fmt::Display for Index<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Index::Int(number) => write!(f, "{number}"),
            Index::Text(text) => write_quoted(f, text),
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
    /// Returns the index, borrowed for a call.
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
            assert_eq!(Key::from_object_name(&key.object_name()), Some(key));
        }
        let others =
            ["shmvar.i.+5", "shmvar.i.", "shmvar.s.", "shmvar.s.%4", "shmvar.s.a.b", "shmvar.s.%61", "shmvar.x", "5"];
        let hashed = Key::text(&"é".repeat(64)).unwrap().object_name();
        for name in others.into_iter().chain([&*hashed]) {
            assert_eq!(Key::from_object_name(name), None, "{name}");
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
