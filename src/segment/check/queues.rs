//! Queues and their items (docs/format.md, "Queue"; invariants 10 and 15). That each item is one of those that its queue
//! states, and that none is missing, follows from the sums: `checker` compares them.

use super::checker::Checker;
use super::invariant::ensure;
use crate::coordination::queue_keys::ItemKey;
use crate::coordination::queue_record::Parts;
use crate::coordination::queue_state::QueueState;
use crate::error::{Error, Result};
use crate::key::{Index, IndexBuf};
use crate::process::attachment::Attachment;
use crate::sync::slot::{Content, Kind};
use crate::variables::record::record_at;

impl Checker<'_> {
    /// Verifies what the record of a queue says.
    pub(super) fn check_queue(&mut self, number: u64, content: &Content) -> Result<()> {
        let state = queue_state(self.att, content)
            .map_err(|error| Error::corrupt(format_args!("invariant 15: slot {number}: {error}")))?;
        self.totals.variables.add_stated(&state);
        Ok(())
    }

    /// Verifies that an item's key is one.
    pub(super) fn check_item(&self, number: u64, content: &Content, index: &IndexBuf) -> Result<()> {
        let is_key = match index.as_index() {
            Index::Text(text) => ItemKey::parse(text.as_bytes()).is_some(),
            Index::Int(_) => false,
        };
        ensure!(is_key && content.kind() != Kind::Inline, 10, "slot {number}: an item without a key of its own");
        Ok(())
    }
}

/// What the record of a queue says.
pub(super) fn queue_state(att: &Attachment, content: &Content) -> Result<QueueState> {
    let at = match content.kind() {
        Kind::Record => record_at(att, content)?,
        _ => None,
    };
    let at = at.ok_or_else(|| Error::corrupt("the place of a queue's record"))?;
    let mut bytes = Vec::new();
    att.mem.read_into(at, content.record_len() as usize, &mut bytes)?;
    let bytes = bytes.get(content.prefix_len() as usize..).unwrap_or_default();
    QueueState::parse(bytes, content.has_second_head(), Parts::All, att.identity.geometry.length)
}
