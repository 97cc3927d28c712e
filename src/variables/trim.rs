//! Giving free memory back to the system.

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

/// Granules that are given back at once: others find them taken meanwhile.
const PIECE: u64 = ZONE;

/// Which free granules may be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reclaim {
    /// Those that no reader looks into through the mapping.
    Untouched,
    /// Those, too, that were free since `trims` had this value, when every section of then has ended.
    Aged(u64),
}

/// Which of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageScope {
    /// All.
    All,
    /// Those that are known to be present.
    Known,
}

impl Variables {
    /// Gives free memory back to the system, after what is stored was moved together.
    pub fn trim(&self, policy: &dyn WaitPolicy) -> Result<()> {
        // What nobody said to be present may be, too: a process that died while it filled a span left it so.
        self.trim_pages(PageScope::All, policy)
    }

    /// The same of what is known to be present.
    pub fn trim_known(&self, policy: &dyn WaitPolicy) -> Result<()> {
        self.trim_pages(PageScope::Known, policy)
    }

    fn trim_pages(&self, pages: PageScope, policy: &dyn WaitPolicy) -> Result<()> {
        let _call_guard = self.enter_call();
        self.reap_the_dead(policy)?;
        self.sweep(policy)?;
        self.dismantle(policy)?;
        self.compact(policy)?;
        for table in [TableOf::Variables, TableOf::Names] {
            match self.shrink_table(table, policy) {
                // No memory for smaller leaves: they come later.
                Err(Error::Full { .. }) => {}
                other => other?,
            }
        }
        self.give_back_all(pages, policy)?;
        match self.move_into_fewer_zones(policy) {
            Ok(true) => self.give_back_all(pages, policy)?,
            // No memory to move it with: it stays.
            Ok(false) | Err(Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        self.give_pins_back(policy)?;
        self.close_zones(policy)
    }

    fn give_back_all(&self, pages: PageScope, policy: &dyn WaitPolicy) -> Result<()> {
        let which = self.wait_for_readers(policy)?;
        for zone in 0..self.arena().zones() {
            for run in self.reclaimable_runs(zone, which, pages)? {
                self.give_back(run, which, policy)?;
            }
        }
        Ok(())
    }

    /// Waits until no reader looks into what is free now. Where one does not end, only what none looks into is given back.
    fn wait_for_readers(&self, policy: &dyn WaitPolicy) -> Result<Reclaim> {
        let trims = {
            let writer = self.write(policy)?;
            if !writer.arena().has_free_sticky()? {
                return Ok(Reclaim::Untouched);
            }
            let trims = self.state().trims.load(Ordering::Relaxed).wrapping_add(1);
            self.state().trims.store(trims, Ordering::Relaxed);
            crash_point!("trim-begun");
            // CRASH: with fewer of them fresh, more are waited for by whoever comes next, after a barrier of his own.
            writer.arena().clear_fresh()?;
            trims
        };
        Ok(if self.readers_have_left(policy) { Reclaim::Aged(trims) } else { Reclaim::Untouched })
    }

    /// The last zones that nothing is in go out of use, and their metadata back to the system. Whoever brings zones into use,
    /// or takes them out of it, holds the registry lock.
    fn close_zones(&self, policy: &dyn WaitPolicy) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            backoff.again(Obstacle::RoomTaken, self, policy)?;
            // Any wait for the writer lock happens before the registry lock is taken, not under it.
            if !self.write(policy)?.arena().last_zone_is_empty()? {
                return Ok(());
            }
            let _registry = self.registry(policy)?;
            let Some(mut writer) = self.try_write() else { continue };
            let zones = writer.arena().zones();
            let mut left = zones;
            while left > 1 && writer.arena().zone_is_empty(left - 1)? {
                left -= 1;
            }
            if left == zones {
                return Ok(());
            }
            let mut change = writer.change();
            change.counters.zones = left;
            writer.commit(&change)?;
            crash_point!("zones-closed");
            drop(writer);
            // CRASH: metadata of zones that are not in use stays present until they come into use again.
            if self.readers_have_left(&Blocking) {
                let (offset, len) = (self.identity.geometry.zone_at(left), (zones - left) * ZONE_META);
                let punched = self.with_file(|fd| object::punch(fd, offset, len))?;
                punched.map_err(|e| Error::system("giving memory back", e))?;
            }
            return Ok(());
        }
    }

    /// Gives free granules back until at most `bound` bytes of them are present, the last ones first. Without a wait for the
    /// writer lock: whoever writes now goes on, and the next change looks again.
    pub fn cool(&self, bound: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let _call_guard = self.enter_call();
        self.cool_granules(Reclaim::Untouched, bound, policy)?;
        if self.warm() <= bound {
            return Ok(());
        }
        // Small values leave what readers may look into.
        let which = self.wait_for_readers(policy)?;
        if which == Reclaim::Untouched { Ok(()) } else { self.cool_granules(which, bound, policy) }
    }

    fn cool_granules(&self, which: Reclaim, bound: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let mut warm = self.warm();
        for zone in (0..self.arena().zones()).rev() {
            for run in self.reclaimable_runs(zone, which, PageScope::Known)?.into_iter().rev() {
                if warm <= bound || self.state().lock.load(Ordering::Relaxed) != 0 {
                    return Ok(());
                }
                self.give_back(run, which, policy)?;
                warm = warm.saturating_sub(run.1 * GRANULE);
            }
        }
        Ok(())
    }

    /// Runs of granules of a zone that may be given back, as of now.
    fn reclaimable_runs(&self, zone: u64, which: Reclaim, pages: PageScope) -> Result<Vec<(u64, u64)>> {
        let runs = self.with_zone(zone, |meta| {
            let word = |i: usize| {
                let sticky = meta.sticky[i].load(Ordering::Relaxed);
                let fresh = meta.fresh[i].load(Ordering::Relaxed);
                let kept = if which == Reclaim::Untouched { sticky } else { sticky & fresh };
                let present = if pages == PageScope::All { u64::MAX } else { meta.present[i].load(Ordering::Relaxed) };
                meta.free[i].load(Ordering::Relaxed) & present & !kept
            };
            all_runs((0..meta.free.len()).map(word))
        })?;
        let mut runs = runs.transpose()?.unwrap_or_default();
        runs.iter_mut().for_each(|(at, _)| *at += zone * ZONE);
        Ok(runs)
    }

    /// Gives a run of free granules back, but for what was taken meanwhile.
    fn give_back(&self, (first, len): (u64, u64), which: Reclaim, policy: &dyn WaitPolicy) -> Result<()> {
        for (granule, len) in pieces(first, len, PIECE) {
            let Some(span) = self.reserve_to_punch(granule, len, which, policy)? else { continue };
            let offset = self.identity.geometry.granule_at(granule);
            let mut punched = Ok(Ok(()));
            policy.allow_threads(&mut || punched = self.with_file(|fd| object::punch(fd, offset, len * GRANULE)));
            punched?.map_err(|e| Error::system("giving memory back", e))?;
            // CRASH: a span that is freeing, nothing of it said to be present.
            crash_point!("punched");
            let mut writer = self.write(policy)?;
            if writer.owns(granule)? {
                if which != Reclaim::Untouched {
                    writer.arena().set_sticky(granule, len, false)?;
                }
                writer.free_span(granule)?;
                span.published();
            }
        }
        Ok(())
    }

    /// Takes granules that are free and may be given back. `None`: some are not, by now.
    fn reserve_to_punch(
        &self,
        granule: u64,
        len: u64,
        which: Reclaim,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<ReservedSpan<'_>>> {
        let mut writer = self.write(policy)?;
        if !writer.arena().fits(granule, len, writer.arena().zones()) {
            return Ok(None);
        }
        let still = match which {
            Reclaim::Aged(trims) => self.state().trims.load(Ordering::Relaxed) == trims,
            Reclaim::Untouched => true,
        };
        for at in granule..granule + len {
            let kept = writer.arena().is_sticky(at)? && (which == Reclaim::Untouched || writer.arena().is_fresh(at)?);
            if !still || kept || !writer.arena().is_free(at)? {
                return Ok(None);
            }
        }
        writer.mark_spans();
        self.deferred.reserve()?;
        let mut change = writer.change();
        // Nothing of it is said to be present from this commit on: who reaps us must not take holes for pages.
        change.span(granule, SpanEntry(0), SpanEntry::new(SpanState::Freeing, len).with_owner(writer.me));
        writer.commit(&change)?;
        crash_point!("taken-to-punch");
        Ok(Some(ReservedSpan::new(self, granule, len)))
    }
}
