//! The participants' records and pin bitmaps (docs/format.md, "Participant", "Pin bitmaps"; invariant 11). Dead
//! participants are counted here, and reaped elsewhere (docs/protocol.md, "Death").

use super::invariant::{LISTS, ensure};
use super::report::Report;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{PIN_UNITS, Participant, ZONE, at};
use crate::os::object;
use crate::process::attachment::Attachment;
use std::sync::atomic::Ordering;

/// Verifies the record of one participant number, which may be in use or not.
pub(super) fn check_participant(att: &Attachment, number: u32, report: &mut Report) -> Result<()> {
    let Some(record) = att.participant(number) else { return Ok(()) };
    let state = record.state.load(Ordering::Acquire);
    ensure!(state <= 1, 11, "participant {number} has state {state}");
    if state == 0 {
        return Ok(());
    }
    let registered = record.generation.load(Ordering::Relaxed) != 0 && record.pid.load(Ordering::Relaxed) != 0;
    ensure!(registered, 11, "participant {number} is in use and has no pid or generation");
    for (name, mark) in [("spans", &record.spans), ("locks", &record.locks)] {
        ensure!(mark.load(Ordering::Relaxed) <= 1, 11, "participant {number}: {name} is neither 0 nor 1");
    }
    check_pins(att, number, record)?;
    // The participant may have released its number since the look at its state.
    let still_in_use = || record.state.load(Ordering::Acquire) == 1;
    // A handle that may not write may not be allowed to ask the lock object: then the participant counts as alive.
    let died = att.died(number, still_in_use).or_else(|e| if att.mem.writable() { Err(e) } else { Ok(false) })?;
    report.living += u64::from(!died);
    report.dead += u64::from(died);
    Ok(())
}

/// The record of a participant number that is in use. `None` if it is not, or if it has no record: above
/// `participants_top` there may be no page.
pub(super) fn in_use(att: &Attachment, number: u32) -> Option<&Participant> {
    att.participant(number).filter(|record| record.state.load(Ordering::Acquire) == 1)
}

fn check_pins(att: &Attachment, number: u32, record: &Participant) -> Result<()> {
    let geometry = &att.identity.geometry;
    let granules = att.arena().zones() * ZONE;
    for unit in 0..PIN_UNITS {
        if record.pin_units[(unit / 64) as usize].load(Ordering::Acquire) >> (unit % 64) & 1 == 0 {
            continue;
        }
        let start = unit * geometry.pin_unit();
        ensure!(
            start < geometry.pin_stride,
            11,
            "participant {number} has part {unit} of a bitmap, which has fewer parts"
        );
        let mut bits = fallible::zeros(geometry.pin_unit().min(geometry.pin_stride - start) as usize, LISTS)?;
        // Read by a call, not through the mapping: whether the page is there is just what is in question.
        let offset = geometry.pins + u64::from(number) * geometry.pin_stride + start;
        att.with_file(|fd| object::read_at(fd, &mut bits, offset))?.map_err(|e| Error::system("reading pins", e))?;
        let last = bits.iter().rposition(|byte| *byte != 0).map(|byte| (start + byte as u64) * 8);
        ensure!(last.is_none_or(|bit| bit < granules), 11, "participant {number} pins a granule after {}", granules);
    }
    Ok(())
}

/// Verifies that all records at and above `top` are zero. They are read by a call, since their pages may not be there.
pub(super) fn check_unused_records(att: &Attachment, top: u32) -> Result<()> {
    let offset = att.identity.geometry.participant_at(top);
    let mut bytes = fallible::zeros((at::READERS - offset) as usize, LISTS)?;
    att.with_file(|fd| object::read_at(fd, &mut bytes, offset))?
        .map_err(|e| Error::system("reading participants", e))?;
    // A process may have registered meanwhile: then it has raised `participants_top`.
    let raised = att.state().participants_top.load(Ordering::Acquire) != top;
    let used = bytes.iter().position(|byte| *byte != 0).map(|byte| u64::from(top) + byte as u64 / 64);
    ensure!(used.is_none() || raised, 11, "participant {} was used, participants_top is {top}", used.unwrap_or(0));
    Ok(())
}
