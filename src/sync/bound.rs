//! Up to which version every change is made, asked without a lock.
//!
//! The protocol is "Changes" in `docs/protocol.md`, **The bound**.

use crate::atomic::{Ordering, fence};
use crate::format::{IntentArea, SET_SLOTS, State};
use crate::sync::intent::Change;
use crate::sync::slot_set::SlotSet;

/// Returns a version up to which every change is made, as long as no change is under way. `None`: one is.
///
/// A batch counts from its end on: within it, the bound is the version before it.
pub fn settled(state: &State, area: &IntentArea) -> Option<u64> {
    let serial = area.serial.load(Ordering::Acquire);
    // SYNC: acquire, with the release fence that follows `valid` in `Change::describe`: if this is the version of a
    // change, `valid` is found to be that change's or, afterwards, cleared.
    let version = state.version.load(Ordering::Acquire);
    // SYNC: acquire, with the release of `Change::clear`: who finds no change under way sees all of the last one.
    if area.valid.load(Ordering::Acquire) != 0 {
        return None;
    }
    // Each entry of a batch takes one version, and is counted in the commit that takes it. These are loaded after the
    // version was found to be made, so no fewer entries are counted than have a version up to that.
    let cursor = state.cursor.load(Ordering::Acquire);
    let batch = state.batch.load(Ordering::Acquire);
    fence(Ordering::Acquire);
    // The same serial: batch and cursor are of no later change than the version, or of the next one.
    let same = area.serial.load(Ordering::Relaxed) == serial;
    same.then_some(if batch == 0 { version } else { version.saturating_sub(cursor) })
}

/// Returns a version up to which every change is made, from the description of the change under way, whose writer does
/// not go on. `None`: there is no such change any more, or nobody who keeps to the protocol described it.
#[cold]
pub fn before_change_under_way(state: &State, area: &IntentArea) -> Option<u64> {
    let serial = area.valid.load(Ordering::Acquire);
    let change = Change::read(area)?;
    let set = SlotSet::read(area);
    // A change that says nothing of a batch leaves it as it is: one frees what an entry has replaced.
    let (batch, cursor) = match change.progress {
        Some(progress) => (progress.batch, progress.cursor),
        None => (state.batch.load(Ordering::Acquire), state.cursor.load(Ordering::Acquire)),
    };
    let before = state.version.load(Ordering::Acquire);
    if serial == 0 || !Change::is_current(area, serial) {
        return None;
    }
    let version = change.counters.version;
    // A record that is moved keeps its version, so its slot does not have the last one, or counts a move.
    let takes = |word: u64| u64::from(word == version << 1);
    let slots = match &set {
        Some(set) => set.slots().len() as u64,
        None => change.slot.map_or(0, |(_, content)| takes(content.word)),
    };
    let clear = u64::from(change.doomed.is_some_and(|doomed| doomed.root != 0 && doomed.position == 0));
    let made = if batch == 0 { slots.saturating_add(clear) } else { cursor };
    (version <= before.saturating_add(SET_SLOTS as u64)).then_some(version.saturating_sub(made))
}

/// Returns the serial number of the last change, if no process holds the writer lock. While the serial number is the
/// same, nothing in the segment has changed. `None`: somebody is at it.
pub fn quiet(state: &State, area: &IntentArea) -> Option<u64> {
    // SYNC: acquire, with the release fence of `Change::describe`, before which its process acquired the lock: so the
    // load of the lock sees that acquisition, or the release after it.
    let serial = area.serial.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    (state.lock.load(Ordering::Acquire) == 0).then_some(serial)
}
