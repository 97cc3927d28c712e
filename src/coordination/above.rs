//! What the lower floors ask of those above them: see [`FloorsAbove`].

use crate::coordination::CoordinationWriter;
use crate::error::{Error, Result};
use crate::heap::HeapWriter;
use crate::process::attachment::Attachment;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::Writer;
use crate::process::writer::{Effort, FloorsAbove};
use crate::variables::{AsVariables, VariablesWriter};
use ref_cast::RefCast;

/// The only one.
pub struct Above;

fn variables<'w, 'a>(writer: &'w mut Writer<'a>) -> &'w mut VariablesWriter<'a> {
    VariablesWriter::ref_cast_mut(HeapWriter::ref_cast_mut(writer))
}

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
        coordination(writer).release_abandoned()
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
            // That it could not is no reason: the caller's own error tells more.
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
