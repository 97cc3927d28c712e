//! Reading the indexes of slots that a pass found: an integer stands in the slot, a text in the record.
//!
//! The protocol is "Iteration" in docs/protocol.md.

use crate::error::{Error, Result};
use crate::fallible;
use crate::key::{INDEX_MAX, IndexBuf};
use crate::os::mem::Scratch;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::Kind;
use crate::variables::Variables;
use crate::variables::found::Found;
use crate::variables::leaf::TableOf;
use crate::variables::scan::{ATTEMPTS_PER_SLOT, ScanPass};

/// The name of a text index in the error for a lack of memory.
const INDEX: &str = "a text index";

impl Variables {
    /// Returns all indexes. An index that was there throughout the call is among them.
    pub fn indexes(&self, policy: &dyn WaitPolicy) -> Result<Vec<IndexBuf>> {
        let index = |pass: &ScanPass<'_>, found| match self.live_now(pass, &found)? {
            Some(found) => self.index_of(pass, &found),
            None => Ok(None),
        };
        self.scan(TableOf::Variables, index, policy)
    }

    /// Reads the index of a slot that a pass found. `None`: the variable was removed meanwhile, so it was not there
    /// throughout; or the pass is given up.
    pub fn index_of(&self, pass: &ScanPass<'_>, found: &Found) -> Result<Option<IndexBuf>> {
        let mut found = *found;
        for _ in 0..ATTEMPTS_PER_SLOT {
            if let Some(index) = self.index_if_unchanged(&found)? {
                return Ok(Some(index));
            }
            // The variable may have been overwritten rather than removed.
            let Some(now) = pass.reload(&found)? else { return Ok(None) };
            if !now.content.is_entry() || now.content.name_of() != found.content.name_of() {
                return Ok(None);
            }
            found = now;
        }
        // The attempts within one read section are bounded. The caller that looks at the leaf anew waits as long as its
        // policy lets it.
        pass.give_up();
        Ok(None)
    }

    /// Reads the index of a slot that a pass found, within a read section of its own. `None`: the slot changed
    /// meanwhile.
    pub fn index_if_unchanged(&self, found: &Found) -> Result<Option<IndexBuf>> {
        reading!(self, |access| self.index_with(found, access))
    }

    /// Reads the index of a slot. `None`: the slot changed meanwhile. The caller is within a read section, or holds the
    /// writer lock.
    pub fn index_with(&self, found: &Found, access: impl Access) -> Result<Option<IndexBuf>> {
        if !found.content.is_text() {
            return Ok(Some(IndexBuf::Int(found.content.rest[0] as i64)));
        }
        Ok(self.text_of(found, access)?.map(IndexBuf::Text))
    }

    /// Copies a text index from its record. `None`: the slot changed meanwhile.
    fn text_of(&self, found: &Found, access: impl Access) -> Result<Option<String>> {
        let content = &found.content;
        if content.key_len() > INDEX_MAX as u64 && self.is_unchanged_with(found, access)? {
            return Err(Error::corrupt(format_args!("a text index of {} bytes", content.key_len())));
        }
        let prefix = content.prefix_len() as usize;
        let mut bytes = fallible::zeros(prefix, INDEX)?;
        match content.kind() {
            Kind::Record => {
                let mut scratch = Scratch::new();
                if !self.read_record(found, prefix as u64, &mut scratch, access)? {
                    return Ok(None);
                }
                let whole = scratch.bytes().get(..prefix).ok_or_else(|| Error::corrupt("a record's key"))?;
                bytes.copy_from_slice(whole);
            }
            _ => self.read_span(content, 0, &mut bytes)?,
        }
        if !self.is_unchanged_with(found, access)? {
            return Ok(None);
        }
        // The text stays in the same allocation; only an expiry before it is cut off.
        bytes.drain(..prefix - content.key_len() as usize);
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::corrupt(format_args!("the text index of the slot at {}", found.offset))),
        }
    }
}
