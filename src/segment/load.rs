//! Loading a dump: its variables are one batch over what is there.
//!
//! Small values are gathered in this process's memory, large ones are written into spans of their own as they are read.
//! None of it is in the segment before the whole dump was read. The protocol is "Dumps" in docs/protocol.md.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::RECORD_MAX;
use crate::heap::span_writer::FilledSpan;
use crate::key::{Index, Name};
use crate::os;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::dump_reader::{DumpError, DumpPlan, DumpReader, DumpSource, DumpValue};
use crate::segment::handle::Segment;
use crate::variables::batch_entries::BatchEntries;
use crate::variables::dump_log::layout_of;
use crate::variables::expiry::NEVER;
use crate::variables::publish::limit_reached;
use crate::variables::store_plan::StorePlan;
use crate::variables::stored::{Layout, Stored};
use crate::variables::{AsVariables, Variables};
use std::sync::atomic::Ordering;

/// The name of the values in the error for a lack of memory.
const VALUES: &str = "the values of a dump";

/// A part of an item of a dump, as it is read.
pub enum ItemPart<'a> {
    /// The next item begins: its queue, and how long its value is.
    Begins(&'a DumpValue),
    /// The next bytes of its value.
    Piece(&'a [u8]),
}

impl Segment {
    /// Stores the variables of a dump, which was read once for `plan`, at one instant, or none of them. The limit has
    /// room for its items then. `read` is called when all of it was read, before anything is stored: it says whether
    /// what was read is the dump of the plan. `keep` is given the items, piece by piece, before that: the caller puts
    /// them afterwards, from what it kept, so that no byte is put that nobody has verified.
    ///
    /// # Errors
    /// [`Error::Full`](crate::Error::Full) and others; after an error nothing has changed.
    pub fn load_variables(
        &self,
        source: DumpSource<'_>,
        len: u64,
        plan: &DumpPlan,
        keep: &mut dyn FnMut(ItemPart<'_>) -> Result<()>,
        read: &mut dyn FnMut() -> Result<()>,
        policy: &dyn WaitPolicy,
    ) -> std::result::Result<(), DumpError> {
        let attachment = self.for_change()?;
        let att = attachment.variables();
        let (charge, besides) = plan.charges();
        let limit = att.state().limit.load(Ordering::Relaxed);
        if charge.saturating_add(besides) > limit {
            let free = limit.saturating_sub(att.state().used.load(Ordering::Relaxed));
            return Err(limit_reached(charge.saturating_add(besides), free, limit).into());
        }
        // From the first span that is reserved to the batch, this process has to keep its participant number.
        let _call_guard = att.enter_call();
        let mut entries = BatchEntries::new(att.identity.hash_key, plan.variables as usize)?;
        entries.besides = besides;
        let (mut reader, mut filled) = (DumpReader::new(source, len)?, Vec::new());
        let mut gathered = gather(att, &mut reader, plan, &mut entries, &mut filled, keep, policy);
        if gathered.is_ok() {
            gathered = read().map_err(DumpError::from).and_then(|()| room_for_items(att, besides, policy));
        }
        if let Err(error) = gathered {
            // Where pages are short, the ones that were obtained for nothing are not kept for later.
            if matches!(error, DumpError::Other(Error::Full { .. })) {
                for span in filled.iter().flatten() {
                    let _ = att.punch_unpublished(span, policy);
                }
            }
            return Err(error);
        }
        match plan.variables {
            0 => Ok(()),
            _ => Ok(att.put_entries_filled(entries, filled, policy)?),
        }
    }
}

/// Reads all values: small ones into the entries of the batch, large ones into spans, items to whoever keeps them.
fn gather<'a>(
    att: &'a Variables,
    reader: &mut DumpReader<'_>,
    plan: &DumpPlan,
    entries: &mut BatchEntries,
    filled: &mut Vec<Option<FilledSpan<'a>>>,
    keep: &mut dyn FnMut(ItemPart<'_>) -> Result<()>,
    policy: &dyn WaitPolicy,
) -> std::result::Result<(), DumpError> {
    let (now, mut small) = (os::boottime_ns(), Vec::new());
    while let Some(value) = reader.next(plan)? {
        if value.is_item {
            keep(ItemPart::Begins(&value))?;
            reader.each_piece(&mut |piece| Ok(keep(ItemPart::Piece(piece))?))?;
            reader.end_value()?;
            continue;
        }
        let DumpValue { index, value, expires_in, .. } = value;
        let (index, expiry) = (index.as_index(), expires_in.map(|seconds| expiry_after(now, seconds)));
        let layout = layout_of(value.kind);
        let prefix = index.record_key().len() as u64 + if expiry.is_some() { 8 } else { 0 };
        if layout == Layout::Pickle && prefix.saturating_add(value.len) <= RECORD_MAX {
            small.clear();
            reader.take_value(&mut small)?;
            entries.push(&index, Stored { parts: &[&small], layout, expiry })?;
        } else {
            let stored = Stored { parts: &[], layout, expiry };
            entries.push_apart(&index, stored, value.len)?;
            let span = fill_from(att, &index, stored, value.len, reader, policy)?;
            fallible::push(filled, Some(span), VALUES)?;
        }
    }
    Ok(())
}

/// The items are put afterwards. What others take meanwhile cannot be kept for them.
fn room_for_items(att: &Variables, besides: u64, policy: &dyn WaitPolicy) -> std::result::Result<(), DumpError> {
    if besides > 0 && att.memory_is_short(besides)? {
        att.reclaim_memory(policy)?;
        if att.memory_is_short(besides)? {
            return Err(att.file_system_full(besides).into());
        }
    }
    Ok(())
}

/// When a variable expires that has so many seconds left.
fn expiry_after(now: u64, seconds: f64) -> u64 {
    // A float that is too large becomes the largest number.
    now.saturating_add(((seconds * 1e9) as u64).max(1)).min(NEVER)
}

/// Fills a span with the value that comes next.
fn fill_from<'a>(
    att: &'a Variables,
    index: &Index<'_>,
    stored: Stored<'_>,
    len: u64,
    reader: &mut DumpReader<'_>,
    policy: &dyn WaitPolicy,
) -> std::result::Result<FilledSpan<'a>, DumpError> {
    let plan = StorePlan::new(Name::from(index), stored, att.identity.hash_key)?;
    let (lead, prefix) = (plan.lead(), plan.prefix.len() as u64);
    let filled = att.begin_span(lead, prefix + len, policy)?;
    att.fill_piece(&filled, lead, &plan.prefix, policy)?;
    let mut at = lead + prefix;
    reader.each_piece(&mut |piece| {
        policy.interrupted()?;
        att.fill_piece(&filled, at, piece, policy)?;
        at += piece.len() as u64;
        Ok(())
    })?;
    reader.end_value()?;
    crash_point!("span-filled");
    Ok(filled)
}
