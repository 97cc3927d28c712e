//! The lines of a dump: what they say, how they are written and read. The format is "Dumps" in docs/guide.md.

use crate::codec::flat_json::{self, Plain};
use crate::codec::value_check::ValueKind;
use crate::key::{INDEX_MAX, Index, IndexBuf};
use std::io::Write;

/// The first lines of dumps, by version.
pub const HEADERS: [&[u8]; 2] = [b"shmvar dump 1\n", b"shmvar dump 2\n"];
/// The longest line. An index has at most [`INDEX_MAX`] bytes, and each takes at most six.
pub const LINE_MAX: usize = 16 << 10;

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum DumpLine {
    /// A variable, whose value follows.
    Variable {
        /// Its index.
        index: IndexBuf,
        /// What its value is.
        value: ValueLine,
        /// The seconds that are left of its time to live. `None`: it has none, or a later line says so.
        expires_in: Option<f64>,
    },
    /// An item of a queue, whose value follows.
    Item {
        /// The name of the queue.
        queue: IndexBuf,
        /// What its value is.
        value: ValueLine,
    },
    /// The value line of this number, counted from 0, does not count.
    Gone(u64),
    /// The variable of the value line of this number has so many seconds left to live.
    Expires(u64, f64),
    /// The last line: how many variables and items there are; the checksum.
    End(u64, u64, String),
}

/// What a line says of the value that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueLine {
    /// Its length in bytes.
    pub len: u64,
    /// What its bytes are.
    pub kind: ValueKind,
}

/// What a value line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueOf<'a> {
    /// A variable.
    Variable(Index<'a>),
    /// An item of this queue.
    Item(Index<'a>),
}

/// Appends the line before a value.
pub fn write_value_line(of: ValueOf<'_>, value: ValueLine, to: &mut Vec<u8>) {
    let (name, index) = match of {
        ValueOf::Variable(index) => ("index", index),
        ValueOf::Item(queue) => ("queue", queue),
    };
    // Writing to a vector does not fail.
    let _ = write!(to, "{{\"{name}\": ");
    match index {
        Index::Int(number) => drop(write!(to, "{number}")),
        Index::Text(text) => flat_json::write_text(text, to),
    }
    let _ = write!(to, ", \"length\": {}", value.len);
    if let Some(kind) = kind_name(value.kind) {
        let _ = write!(to, ", \"kind\": \"{kind}\"");
    }
    to.extend_from_slice(b"}\n");
}

/// Appends the line that a value line does not count.
pub fn write_gone(line: u32, to: &mut Vec<u8>) {
    let _ = writeln!(to, "{{\"gone\": {line}}}");
}

/// Appends the line that says when a variable expires.
pub fn write_expires(line: u32, nanoseconds: u64, to: &mut Vec<u8>) {
    let (seconds, fraction) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let _ = writeln!(to, "{{\"line\": {line}, \"expires_in\": {seconds}.{fraction:09}}}");
}

/// Returns how a dump names a kind of value. `None`: a pickle, of which nothing is said.
fn kind_name(kind: ValueKind) -> Option<&'static str> {
    match kind {
        ValueKind::Pickle => None,
        ValueKind::Buffers => Some("buffers"),
        ValueKind::InPlace => Some("in place"),
    }
}

/// Reads a line of a dump of this version. `None`: no dump has such a line.
pub fn parse(line: &[u8], version: u32) -> Option<DumpLine> {
    let mut parts = Parts(flat_json::parse(line)?);
    let parsed = if let Some(index) = parts.take("index") {
        let expires_in = match parts.take("expires_in") {
            // A dump of version 1 always says it.
            None if version == 1 => return None,
            None | Some(Plain::Null) => None,
            Some(seconds) => Some(lifetime(&seconds)?),
        };
        DumpLine::Variable { index: index_of(index)?, value: parts.value(version)?, expires_in }
    } else if let Some(queue) = parts.take("queue") {
        DumpLine::Item { queue: index_of(queue)?, value: parts.value(version)? }
    } else if let Some(digest) = parts.take("sha256") {
        let Plain::Text(digest) = digest else { return None };
        // A dump of version 1 says nothing of items where there are none.
        let items = match parts.take("items") {
            None if version == 1 => 0,
            Some(Plain::Int(0)) if version == 1 => return None,
            items => number(items)?,
        };
        DumpLine::End(number(parts.take("variables"))?, items, digest)
    } else if version == 1 {
        return None;
    } else if let Some(line) = parts.take("gone") {
        DumpLine::Gone(number(Some(line))?)
    } else {
        DumpLine::Expires(number(parts.take("line"))?, lifetime(&parts.take("expires_in")?)?)
    };
    parts.0.is_empty().then_some(parsed)
}

/// The names of a line that were not read yet, and what they are.
struct Parts(Vec<(String, Plain)>);

impl Parts {
    fn take(&mut self, name: &str) -> Option<Plain> {
        let at = self.0.iter().position(|(own, _)| own == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn value(&mut self, version: u32) -> Option<ValueLine> {
        let len = number(self.take("length")).filter(|len| *len > 0)?;
        let kind = match self.take("kind") {
            None => ValueKind::Pickle,
            Some(_) if version == 1 => return None,
            Some(name) => [ValueKind::Buffers, ValueKind::InPlace]
                .into_iter()
                .find(|kind| matches!(&name, Plain::Text(name) if Some(name.as_str()) == kind_name(*kind)))?,
        };
        Some(ValueLine { len, kind })
    }
}

fn number(value: Option<Plain>) -> Option<u64> {
    match value? {
        Plain::Int(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

fn lifetime(value: &Plain) -> Option<f64> {
    let seconds = match value {
        Plain::Int(seconds) => *seconds as f64,
        Plain::Float(seconds) => *seconds,
        _ => return None,
    };
    (seconds > 0.0 && seconds < 1e300).then_some(seconds)
}

fn index_of(value: Plain) -> Option<IndexBuf> {
    match value {
        Plain::Int(number) => Some(IndexBuf::Int(number)),
        Plain::Text(text) if text.len() <= INDEX_MAX => Some(IndexBuf::Text(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back() {
        let long = "\u{1f40d}".repeat(INDEX_MAX / 4);
        for index in
            [Index::Int(i64::MIN), Index::Text(""), Index::Text("a \"b\"\n\u{7f}\u{202e}é"), Index::Text(&long)]
        {
            for kind in [ValueKind::Pickle, ValueKind::Buffers, ValueKind::InPlace] {
                let (value, mut line) = (ValueLine { len: u64::MAX >> 1, kind }, Vec::new());
                write_value_line(ValueOf::Variable(index), value, &mut line);
                let expected = DumpLine::Variable { index: index.to_owned(), value, expires_in: None };
                assert!(line.len() < LINE_MAX && line.is_ascii());
                assert_eq!(parse(&line, 2), Some(expected));
                assert_eq!(parse(&line, 1), None, "version 1 says when a variable expires");
                line.clear();
                write_value_line(ValueOf::Item(index), value, &mut line);
                assert_eq!(parse(&line, 2), Some(DumpLine::Item { queue: index.to_owned(), value }));
            }
        }
        let mut line = Vec::new();
        write_gone(7, &mut line);
        assert_eq!((parse(&line, 2), parse(&line, 1)), (Some(DumpLine::Gone(7)), None));
        line.clear();
        write_expires(8, 1_500_000_000, &mut line);
        assert_eq!((parse(&line, 2), parse(&line, 1)), (Some(DumpLine::Expires(8, 1.5)), None));
        let end = b"{\"variables\": 1, \"items\": 2, \"sha256\": \"x\"}";
        assert_eq!(parse(end, 2), Some(DumpLine::End(1, 2, "x".into())));
        assert_eq!(parse(b"{\"variables\": 1, \"sha256\": \"x\"}", 1), Some(DumpLine::End(1, 0, "x".into())));
    }

    #[test]
    fn what_no_dump_says_is_refused() {
        for line in [
            "{\"index\": 1.5, \"length\": 2}",
            "{\"index\": null, \"length\": 2}",
            "{\"index\": 1, \"length\": 0}",
            "{\"index\": 1, \"length\": -2}",
            "{\"index\": 1, \"length\": 2, \"kind\": \"list\"}",
            "{\"index\": 1, \"length\": 2, \"kind\": 1}",
            "{\"index\": 1, \"length\": 2, \"more\": 1}",
            "{\"index\": 1, \"length\": 2, \"expires_in\": -1}",
            "{\"index\": 1, \"length\": 2, \"expires_in\": 1e999}",
            "{\"index\": 1, \"queue\": 1, \"length\": 2}",
            "{\"gone\": -1}",
            "{\"gone\": 1, \"line\": 1}",
            "{\"line\": 1}",
            "{\"line\": 1, \"expires_in\": null}",
            "{\"variables\": 1, \"sha256\": \"x\"}",
            "{}",
        ] {
            assert_eq!(parse(line.as_bytes(), 2), None, "{line}");
        }
    }
}
