//! Adding to a number in one step, without a pickler.
//!
//! A number that is there is in its slot or in a short record: one commit ("A change" in docs/protocol.md). Everything
//! else is read, and stored on the condition that the version is the same.

use crate::codec::scalar::{self, Scalar};
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{Eviction, INLINE_MAX};
use crate::key::{Index, Name};
use crate::os;
use crate::os::mem::Scratch;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::{Content, Kind};
use crate::variables::Variables;
use crate::variables::VariablesWriter;
use crate::variables::change::Condition;
use crate::variables::expiry::{expires_after, expiry_in};
use crate::variables::place::SlotPlace;
use crate::variables::read::{FoundValue, Purpose};
use crate::variables::record::record_at;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::{Layout, Stored};
use std::borrow::Cow;
use std::time::Duration;

/// A number's record of so many bytes is copied to the stack: expiry, number, and a key of up to 42 bytes.
const RECORD_FEW: usize = 64;

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
    /// Adds to a variable, where it is missing to 0; then it lives for `ttl`. Returns the sum. `None`: the value is no
    /// number of at most 64 bits, or the sum is none; the caller computes it in some other way.
    #[inline]
    pub fn add(
        &self,
        index: &Index<'_>,
        amount: Number,
        ttl: Option<Duration>,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<Number>> {
        let name = Name::from(index);
        let hash = name.hash(self.identity.hash_key);
        let mut writer = self.write(policy)?;
        let place = writer.find_place_of_hash(&name, hash, &mut Scratch::new())?;
        let sum = match place.occupant() {
            Some(old) if old.kind() == Kind::Inline => {
                let (bytes, len) = old.inline_bytes();
                let Some(sum) = Number::of(&bytes[2..2 + len]).and_then(|number| number.plus(amount)) else {
                    return Ok(None);
                };
                let pickle = sum.pickle();
                debug_assert!(pickle.as_slice().len() <= INLINE_MAX);
                let content = Content::inline(old.rest[0] as i64, 0, pickle.as_slice());
                let mut change = writer.change();
                writer.replace(&place, content, &mut change)?;
                if self.eviction == Some(Eviction::Lru) {
                    writer.note_stored(hash, false);
                }
                Some(sum)
            }
            Some(old) if old.kind() == Kind::Record => writer.add_to_record((name, hash), &place, old, amount, ttl)?,
            _ => None,
        };
        drop(writer);
        match sum {
            Some(sum) => {
                self.notify_changed(hash);
                Ok(Some(sum))
            }
            None => self.add_with_retries(index, amount, ttl, policy),
        }
    }

    /// Adds to a variable that is missing, or has a record: reads it, and stores the sum if nothing changed meanwhile;
    /// else again.
    #[inline(never)]
    fn add_with_retries(
        &self,
        index: &Index<'_>,
        amount: Number,
        ttl: Option<Duration>,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<Number>> {
        loop {
            let mut scratch = Scratch::new();
            let (number, condition, expiry) = match self.get_as(Purpose::Look, index, &mut scratch, policy)? {
                None => (Some(Number::Int(0)), Condition::Version(0), ttl.map(expires_after)),
                Some(FoundValue::Inline { bytes, len, version }) => {
                    (Number::of(&bytes[2..2 + len]), Condition::Keeping(version), None)
                }
                Some(FoundValue::Record { prefix, version, expires }) => {
                    let record = scratch.bytes();
                    let expiry = if expires { expiry_in(record) } else { None };
                    (Number::of(&record[prefix..]), Condition::Keeping(version), expiry)
                }
                Some(FoundValue::Large(_)) => return Ok(None),
            };
            let Some(sum) = number.and_then(|number| number.plus(amount)) else { return Ok(None) };
            let pickle = sum.pickle();
            let stored = Stored { parts: &[pickle.as_slice()], layout: Layout::Pickle, expiry };
            if self.put(index, stored, condition, policy)?.is_some() {
                return Ok(Some(sum));
            }
            policy.interrupted()?;
        }
    }
}

impl VariablesWriter<'_> {
    /// Adds to a number in a record that is in a block. `None`: the number is written in some longer way, or something
    /// has to be obtained or removed first, or the sum has more than 64 bits.
    fn add_to_record(
        &mut self,
        (name, hash): (Name<'_>, u64),
        place: &SlotPlace,
        old: &Content,
        amount: Number,
        ttl: Option<Duration>,
    ) -> Result<Option<Number>> {
        let (prefix, len) = (old.prefix_len() as usize, old.record_len() as usize);
        let Some(at) = record_at(self.att, old)? else { return Err(Error::corrupt("the place of a number's record")) };
        if prefix > len || len - prefix > INLINE_MAX || old.key_len() as usize != name.index.record_key().len() {
            return Ok(None);
        }
        // A record of the usual length is copied to the stack: an allocation would take as long as all the rest.
        let (mut few, mut many) = ([0; RECORD_FEW], Vec::new());
        let record = fallible::few_or_many(&mut few, &mut many, len, 0, "the record of a number")?;
        self.att.mem.copy_to(at, record)?;
        let (mut expiry, mut before) =
            (if old.expires() { expiry_in(record) } else { None }, Number::of(&record[prefix..]));
        if expiry.is_some_and(|expiry| expiry <= os::boottime_ns()) {
            // It is missing, so the count begins anew.
            (before, expiry) = (Some(Number::Int(0)), ttl.map(expires_after));
        }
        let Some(sum) = before.and_then(|number| number.plus(amount)) else { return Ok(None) };
        let pickle = sum.pickle();
        let parts = [pickle.as_slice()];
        let stored = Stored { parts: &parts, layout: Layout::Pickle, expiry };
        let key = prefix - old.key_len() as usize;
        if let (Some(expiry), Some(to)) = (expiry, record[..key].first_chunk_mut::<8>()) {
            *to = expiry.to_le_bytes();
        }
        let prefix = if expiry.is_some() { &record[..prefix] } else { &record[key..prefix] };
        let plan = StorePlan::with_prefix(name, hash, Cow::Borrowed(prefix), stored);
        let Placement::Block(class) = plan.placement else { return Ok(None) };
        let mut change = self.change();
        if self.check_limit(Some(old), plan.charge(), &change).is_err() {
            return Ok(None);
        }
        let Some(content) = self.put_in_block(&plan, class, &mut change)? else { return Ok(None) };
        self.replace(place, content, &mut change)?;
        if self.att.eviction == Some(Eviction::Lru) {
            self.note_stored(plan.hash, false);
        }
        Ok(Some(sum))
    }
}
