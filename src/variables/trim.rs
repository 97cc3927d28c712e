//! Giving free memory back to the system: `trim`, and the bound on free memory that stays present.
//!
//! The protocol is "Giving back" in docs/protocol.md. Which free granules are sticky or fresh, the arena's bitmaps say
//! (docs/format.md, "Zone metadata").

use crate::bit_runs::{all_runs, pieces};
use crate::error::{Error, Result};
use crate::format::{GRANULE, SpanEntry, SpanState, ZONE, ZONE_META};
use crate::heap::reserve::ReservedSpan;
use crate::os::object;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::variables::Variables;
use crate::variables::leaf::TableOf;
use std::sync::atomic::Ordering;

/// Granules that are given back in one go. Meanwhile other processes find them taken.
const PIECE: u64 = ZONE;

/// Private to the process: which free granules may be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reclaim {
    /// Those that are not sticky: no reader looks into them through the mapping.
    Untouched,
    /// Also the sticky ones that have been free since `trims` was set to this value: every read section that had begun
    /// by then has ended.
    Aged(u64),
}

/// Private to the process: which pages of these granules are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageScope {
    /// All of them.
    All,
    /// Those that the bitmap says are present.
    Known,
}

impl Variables {
    /// Moves what is stored together and gives free memory back to the system.
    pub fn trim(&self, policy: &dyn WaitPolicy) -> Result<()> {
        // Pages that the bitmap does not speak of may be present: a process that died while it filled a span left them
        // so.
        self.trim_pages(PageScope::All, policy)
    }

    /// Moves what is stored together and gives back the free memory that is known to be present.
    pub fn trim_known(&self, policy: &dyn WaitPolicy) -> Result<()> {
        self.trim_pages(PageScope::Known, policy)
    }

    /// Does all of `trim`. Its order is in "Giving back" of docs/protocol.md (**`trim`** as a whole).
    fn trim_pages(&self, pages: PageScope, policy: &dyn WaitPolicy) -> Result<()> {
        let _call_guard = self.enter_call();
        self.reap_the_dead(policy)?;
        self.sweep(policy)?;
        self.dismantle(policy)?;
        self.compact(policy)?;
        for table in [TableOf::Variables, TableOf::Names] {
            match self.shrink_table(table, policy) {
                // There is no memory for smaller leaves: they are left to a later call.
                Err(Error::Full { .. }) => {}
                other => other?,
            }
        }
        self.give_back_all(pages, policy)?;
        match self.move_into_fewer_zones(policy) {
            Ok(true) => self.give_back_all(pages, policy)?,
            // There is no memory to move the values with: they stay.
            Ok(false) | Err(Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        self.give_pin_pages_back(policy)?;
        self.shrink_stamps(policy)?;
        self.close_zones(policy)
    }

    /// Gives the free granules of all zones back.
    fn give_back_all(&self, pages: PageScope, policy: &dyn WaitPolicy) -> Result<()> {
        let reclaim = self.wait_for_readers(policy)?;
        for zone in 0..self.arena().zones() {
            for run in self.reclaimable_runs(zone, reclaim, pages)? {
                self.give_back(run, reclaim, policy)?;
            }
        }
        Ok(())
    }

    /// Waits until every reader that may look into what is free now has left its read section. If one does not leave,
    /// only granules that are not sticky are given back.
    fn wait_for_readers(&self, policy: &dyn WaitPolicy) -> Result<Reclaim> {
        let trims = {
            let writer = self.write(policy)?;
            if !writer.arena().has_free_sticky()? {
                return Ok(Reclaim::Untouched);
            }
            let trims = self.state().trims.load(Ordering::Relaxed).wrapping_add(1);
            self.state().trims.store(trims, Ordering::Relaxed);
            crash_point!("trim-begun");
            // CRASH: fewer granules are fresh than were freed lately. The next process that trims begins with a barrier
            // of its own, and waits for all readers anew.
            writer.arena().clear_fresh()?;
            trims
        };
        Ok(if self.readers_have_left(policy) { Reclaim::Aged(trims) } else { Reclaim::Untouched })
    }

    /// Takes the last zones out of use if nothing is in them, and gives their metadata back to the system. The registry
    /// lock is held for that, as for bringing zones into use.
    fn close_zones(&self, policy: &dyn WaitPolicy) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            // A wait for the writer lock happens before the registry lock is taken, never under it.
            if !self.write(policy)?.arena().last_zone_is_empty()? {
                return Ok(());
            }
            let _registry = self.registry(policy)?;
            let Some(mut writer) = self.try_write() else { continue };
            let zones = writer.arena().zones();
            let mut zones_left = zones;
            while zones_left > 1 && writer.arena().zone_is_empty(zones_left - 1)? {
                zones_left -= 1;
            }
            if zones_left == zones {
                return Ok(());
            }
            let mut change = writer.change();
            change.counters.zones = zones_left;
            writer.commit(&change)?;
            crash_point!("zones-closed");
            drop(writer);
            // CRASH: metadata of zones that are not in use stays present until they come into use again.
            if self.readers_have_left(&Blocking) {
                let (offset, len) = (self.identity.geometry.zone_at(zones_left), (zones - zones_left) * ZONE_META);
                let punched = self.with_file(|fd| object::punch(fd, offset, len))?;
                punched.map_err(|e| Error::system("giving memory back", e))?;
            }
            return Ok(());
        }
    }

    /// Gives free granules back, the last ones first, until at most `bound` bytes of them are present. It does not wait
    /// for the writer lock: if another process is writing, it stops, and the next change looks again.
    pub fn cool(&self, bound: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let _call_guard = self.enter_call();
        self.cool_granules(Reclaim::Untouched, bound, policy)?;
        if self.warm_bytes() <= bound {
            return Ok(());
        }
        // Small values leave sticky granules behind, into which readers may look.
        let reclaim = self.wait_for_readers(policy)?;
        if reclaim == Reclaim::Untouched { Ok(()) } else { self.cool_granules(reclaim, bound, policy) }
    }

    /// Gives granules of one kind back until at most `bound` bytes of free memory are present, or another process
    /// writes.
    fn cool_granules(&self, reclaim: Reclaim, bound: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let mut warm = self.warm_bytes();
        for zone in (0..self.arena().zones()).rev() {
            for run in self.reclaimable_runs(zone, reclaim, PageScope::Known)?.into_iter().rev() {
                if warm <= bound || self.state().lock.load(Ordering::Relaxed) != 0 {
                    return Ok(());
                }
                self.give_back(run, reclaim, policy)?;
                warm = warm.saturating_sub(run.1 * GRANULE);
            }
        }
        Ok(())
    }

    /// Returns the runs of granules of a zone that may be given back.
    fn reclaimable_runs(&self, zone: u64, reclaim: Reclaim, pages: PageScope) -> Result<Vec<(u64, u64)>> {
        let runs = self.with_zone(zone, |meta| {
            let word = |i: usize| {
                let sticky = meta.sticky[i].load(Ordering::Relaxed);
                let fresh = meta.fresh[i].load(Ordering::Relaxed);
                let protected = if reclaim == Reclaim::Untouched { sticky } else { sticky & fresh };
                let present = if pages == PageScope::All { u64::MAX } else { meta.present[i].load(Ordering::Relaxed) };
                meta.free[i].load(Ordering::Relaxed) & present & !protected
            };
            all_runs((0..meta.free.len()).map(word))
        })?;
        let mut runs = runs.transpose()?.unwrap_or_default();
        runs.iter_mut().for_each(|(at, _)| *at += zone * ZONE);
        Ok(runs)
    }

    /// Gives a run of free granules back, except what was taken meanwhile.
    fn give_back(&self, (first, len): (u64, u64), reclaim: Reclaim, policy: &dyn WaitPolicy) -> Result<()> {
        for (granule, len) in pieces(first, len, PIECE) {
            let Some(span) = self.reserve_to_punch(granule, len, reclaim, policy)? else { continue };
            let offset = self.identity.geometry.granule_at(granule);
            let mut punched = Ok(Ok(()));
            policy.allow_threads(&mut || punched = self.with_file(|fd| object::punch(fd, offset, len * GRANULE)));
            punched?.map_err(|e| Error::system("giving memory back", e))?;
            // CRASH: a span that is freeing in the name of this process, none of it said to be present.
            crash_point!("punched");
            let mut writer = self.write(policy)?;
            if writer.owns(granule)? {
                if reclaim != Reclaim::Untouched {
                    writer.arena().set_sticky(granule, len, false)?;
                }
                writer.free_span(granule)?;
                span.published();
            }
        }
        Ok(())
    }

    /// Reserves granules that are free and may be given back. `None`: some of them are not free any more, or may not.
    fn reserve_to_punch(
        &self,
        granule: u64,
        len: u64,
        reclaim: Reclaim,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<ReservedSpan<'_>>> {
        let mut writer = self.write(policy)?;
        if !writer.arena().fits(granule, len, writer.arena().zones()) {
            return Ok(None);
        }
        let same_trims = match reclaim {
            Reclaim::Aged(trims) => self.state().trims.load(Ordering::Relaxed) == trims,
            Reclaim::Untouched => true,
        };
        for at in granule..granule + len {
            let protected =
                writer.arena().is_sticky(at)? && (reclaim == Reclaim::Untouched || writer.arena().is_fresh(at)?);
            if !same_trims || protected || !writer.arena().is_free(at)? {
                return Ok(None);
            }
        }
        writer.mark_spans();
        self.deferred.reserve()?;
        let mut change = writer.change();
        // From this commit on none of the span is said to be present: the process that reaps this one must not take
        // holes for pages.
        change.edit_span(granule, SpanEntry(0), SpanEntry::new(SpanState::Freeing, len).with_owner(writer.number));
        writer.commit(&change)?;
        crash_point!("taken-to-punch");
        Ok(Some(ReservedSpan::new(self, granule, len)))
    }
}
