//! Adding to a number in one step, without a pickler.
//!
//! An inline integer index is the usual case: one commit ("A change" in docs/protocol.md). Everything else is read, and
//! stored on the condition that the version is the same.

use crate::codec::scalar::{self, Scalar};
use crate::error::Result;
use crate::format::INLINE_MAX;
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::{Content, Kind};
use crate::variables::Variables;
use crate::variables::change::Condition;
use crate::variables::expiry::expiry_in;
use crate::variables::place::Spot;
use crate::variables::read::FoundValue;
use crate::variables::stored::{Layout, Stored};

/// A number that can be added.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "Python's own names")]
pub enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    /// Returns the sum as Python computes it. `None`: it has more than 64 bits.
    fn plus(self, other: Number) -> Option<Number> {
        let float = |number| match number {
            Number::Int(number) => number as f64,
            Number::Float(number) => number,
        };
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.checked_add(b).map(Number::Int),
            (a, b) => Some(Number::Float(float(a) + float(b))),
        }
    }

    /// Reads a number from its pickle. `None`: it is none, or has more than 64 bits.
    fn of(pickle: &[u8]) -> Option<Number> {
        match scalar::decode(pickle)? {
            Scalar::Int(number) => Some(Number::Int(number)),
            Scalar::Float(number) => Some(Number::Float(number)),
            _ => None,
        }
    }

    /// Returns the pickle of the number.
    fn pickle(self) -> scalar::ShortPickle {
        match self {
            Number::Int(number) => scalar::int(number),
            Number::Float(number) => scalar::float(number),
        }
    }
}

impl Variables {
    /// Adds to a variable, where it is missing to 0. Returns the sum. `None`: the value is no number of at most 64
    /// bits, or the sum is none; the caller computes it in some other way.
    #[inline]
    pub fn add(&self, index: &Index<'_>, amount: Number, policy: &dyn WaitPolicy) -> Result<Option<Number>> {
        let name = Name::from(index);
        if !name.is_text() {
            let hash = name.hash(self.identity.hash_key);
            let mut writer = self.write(policy)?;
            let place = writer.find_place_of_hash(&name, hash, &mut Scratch::new())?;
            if let Spot::Occupied(_, old) = place.spot {
                if old.kind() == Kind::Inline {
                    let (bytes, len) = old.inline_bytes();
                    let Some(sum) = Number::of(&bytes[2..2 + len]).and_then(|number| number.plus(amount)) else {
                        return Ok(None);
                    };
                    let pickle = sum.pickle();
                    debug_assert!(pickle.as_slice().len() <= INLINE_MAX);
                    let content = Content::inline(old.rest[0] as i64, 0, pickle.as_slice());
                    let mut change = writer.change();
                    writer.replace(&place, content, &mut change)?;
                    drop(writer);
                    self.notify_changed(hash);
                    return Ok(Some(sum));
                }
            }
        }
        self.add_with_retries(index, amount, policy)
    }

    /// Adds to a variable that is missing, or has a record: reads it, and stores the sum if nothing changed meanwhile;
    /// else again.
    fn add_with_retries(&self, index: &Index<'_>, amount: Number, policy: &dyn WaitPolicy) -> Result<Option<Number>> {
        loop {
            let mut scratch = Scratch::new();
            let (number, version, expiry) = match self.get(index, &mut scratch, policy)? {
                None => (Some(Number::Int(0)), 0, None),
                Some(FoundValue::Inline { bytes, len, version }) => (Number::of(&bytes[2..2 + len]), version, None),
                Some(FoundValue::Record { prefix, version, expires }) => {
                    let record = scratch.bytes();
                    let expiry = if expires { expiry_in(record) } else { None };
                    (Number::of(&record[prefix..]), version, expiry)
                }
                Some(FoundValue::Large(_)) => return Ok(None),
            };
            let Some(sum) = number.and_then(|number| number.plus(amount)) else { return Ok(None) };
            let pickle = sum.pickle();
            let stored = Stored { parts: &[pickle.as_slice()], layout: Layout::Pickle, expiry };
            if self.put(index, stored, Condition::Version(version), policy)?.is_some() {
                return Ok(Some(sum));
            }
            policy.interrupted()?;
        }
    }
}
