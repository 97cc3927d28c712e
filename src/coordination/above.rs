//! What the lower floors ask of those above them, through the trait [`FloorsAbove`].
//!
//! A process that acquires the writer lock of a dead owner has to finish batches and release named locks, and one that
//! runs out of memory has to remove what has expired. The floor `process` notices both, and does not know variables or
//! locks. [`Above`] is handed down once, before the first segment is attached (`set_above`), so
//! the call up is one through a trait object.

use crate::coordination::CoordinationWriter;
use crate::error::{Error, Result};
use crate::heap::HeapWriter;
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::Writer;
use crate::process::writer::{Effort, FloorsAbove};
use crate::variables::{AsVariables, VariablesWriter};
use ref_cast::RefCast;

/// Private to the process: the one implementation of [`FloorsAbove`].
pub struct Above;

/// Returns the writer lock with the methods of the floor `variables`.
fn variables<'w, 'a>(writer: &'w mut Writer<'a>) -> &'w mut VariablesWriter<'a> {
    VariablesWriter::ref_cast_mut(HeapWriter::ref_cast_mut(writer))
}

/// Returns the writer lock with the methods of this floor.
fn coordination<'w, 'a>(writer: &'w mut Writer<'a>) -> &'w mut CoordinationWriter<'a> {
    CoordinationWriter::ref_cast_mut(variables(writer))
}

impl FloorsAbove for Above {
    #[cold]
    fn finish_batch(&self, writer: &mut Writer<'_>) -> Result<()> {
        variables(writer).finish_batch()
    }

    #[cold]
    fn release_abandoned_locks(&self, writer: &mut Writer<'_>) -> Result<()> {
        coordination(writer).release_abandoned()?;
        coordination(writer).end_holds_put_off()
    }

    #[cold]
    fn reap_locks(&self, writer: &mut Writer<'_>, number: u32, hash: u64) -> Result<Option<u64>> {
        coordination(writer).reap_locks(number, hash)
    }

    #[cold]
    fn dismantle_some(&self, writer: &mut Writer<'_>) -> Result<()> {
        variables(writer).dismantle_some().map(drop)
    }

    #[cold]
    fn reclaim_memory(&self, att: &Attachment, policy: &dyn WaitPolicy) -> Result<()> {
        let variables = att.variables();
        match variables.collect_expired(policy).and_then(|_| variables.trim_known(policy)) {
            // Other errors are left out: the error of the call that needs the memory tells more.
            Err(Error::Interrupted) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    #[cold]
    fn compact(&self, att: &Attachment, effort: Effort, policy: &dyn WaitPolicy) -> Result<()> {
        match effort {
            Effort::Dismantle => att.variables().dismantle(policy),
            Effort::Trim => att.variables().trim_known(policy),
            Effort::Defragment => att.variables().defragment(0, policy),
        }
    }
}
