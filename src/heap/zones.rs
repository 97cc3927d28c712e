//! Bringing zones into use. Taking them out of use is a part of `trim`. The protocol is "Giving back", *Zones*, and
//! "Length" in `docs/protocol.md`.

use crate::error::Result;
use crate::format::{PAGE, ZONE_META, at};
use crate::heap::Heap;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;

impl Heap {
    /// Brings zones into use until `end` of them are. The registry lock is held meanwhile, so that no process takes
    /// zones out of use or gives their metadata back.
    pub fn bring_zones(&self, end: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            // Any wait for the writer lock happens before the registry lock is taken, not under it.
            drop(self.write(policy)?);
            let _registry = self.registry(policy)?;
            let (geometry, zones) = (&self.identity.geometry, self.arena().zones());
            if zones >= end {
                return Ok(());
            }
            self.lengthen_for(end)?;
            // The zones are mapped before they are in use. A process that cannot map them must not bring them into use:
            // it would shut itself out, and with it every process that could map only what was in use before.
            self.mem.map_up_to(geometry.end_of_zones(end))?;
            self.obtain_pages(geometry.zone_at(zones), (end - zones) * ZONE_META)?;
            let (first, last) = (zones / 64 * 1_024, (end - 1) / 64 * 1_024);
            let page = |offset: u64| (at::SUMMARY + offset) / PAGE * PAGE;
            self.obtain_pages(page(first), page(last) + PAGE - page(first))?;
            if let Some(mut writer) = self.try_write() {
                writer.arena().open_zones(end)?;
                let mut change = writer.change();
                change.counters.zones = end;
                return writer.commit(&change);
            }
        }
    }
}
