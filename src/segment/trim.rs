//! Giving free memory back to the system.

use crate::error::{Error, Result};
use crate::layout::{Entry, GRANULE, PAGE, SpanState};
use crate::os::object;
use crate::segment::attachment::{Attachment, Patience};
use crate::segment::room::Taken;
use crate::segment::writer::Writer;

/// First granule and number of granules of each.
pub type Runs = Vec<(u64, u64)>;

impl Attachment {
    /// Gives free memory back to the system.
    pub fn trim(&self, patience: &dyn Patience) -> Result<()> {
        let _inside = self.enter();
        self.bury_the_dead(patience)?;
        let mut writer = self.write(patience)?;
        writer.sweep()?;
        let spans: Vec<(u64, Entry)> = writer.arena().spans().collect::<Result<_>>()?;
        drop(writer);
        for (granule, _) in spans.into_iter().filter(|(_, entry)| entry.state() == SpanState::Free) {
            if let Some((span, runs)) = self.take_to_punch(granule, self.write(patience)?)? {
                self.punch(&runs, patience)?;
                drop(span);
            }
        }
        Ok(())
    }

    /// Gives free spans back until at most `bound` bytes of them are present, the last ones first.
    pub fn cool(&self, bound: u64, patience: &dyn Patience) -> Result<()> {
        let _inside = self.enter();
        let mut warm = self.warm();
        let spans: Vec<(u64, Entry)> = self.arena().spans().map_while(Result::ok).collect();
        let free = |(_, entry): &&(u64, Entry)| entry.state() == SpanState::Free && entry.present() > 0;
        for (granule, entry) in spans.iter().rev().filter(free) {
            if warm <= bound {
                break;
            }
            // Whoever writes now goes on; the next large change looks again.
            let Some(writer) = self.try_write() else { return Ok(()) };
            if let Some((span, runs)) = self.take_to_punch(*granule, writer)? {
                self.punch(&runs, patience)?;
                warm = warm.saturating_sub(entry.present() * PAGE);
                drop(span);
            }
        }
        Ok(())
    }

    fn punch(&self, runs: &Runs, patience: &dyn Patience) -> Result<()> {
        for (start, granules) in runs {
            let offset = self.identity.geometry.granule_at(*start);
            let mut punched = Ok(Ok(()));
            patience.outside(&mut || {
                punched = self.with_file(|fd| object::punch(fd, offset, granules * GRANULE));
            });
            punched?.map_err(|e| Error::system("giving memory back", e))?;
            // CRASH: a span that is freeing, present 0.
            crash_point!("punched");
        }
        Ok(())
    }

    /// Takes a span that is free, with the runs of granules in it that may be punched.
    fn take_to_punch(&self, granule: u64, mut writer: Writer<'_>) -> Result<Option<(Taken<'_>, Runs)>> {
        let entry = writer.arena().entry(granule)?;
        if entry.state() != SpanState::Free || !writer.arena().fits(granule, entry.order(), writer.arena().zones()) {
            return Ok(None);
        }
        let runs = writer.runs_to_punch(granule, entry.order())?;
        if runs.is_empty() {
            return Ok(None);
        }
        writer.mark_spans();
        let mut change = writer.change();
        // Present 0 from this commit on: who buries us must not take holes for pages.
        change.span(granule, entry, Entry::new(SpanState::Freeing, entry.order()).with_owner(writer.me));
        writer.commit(&change)?;
        crash_point!("taken-to-punch");
        Ok(Some((Taken::new(self, granule, 0), runs)))
    }
}

impl Writer<'_> {
    /// Runs of granules of a free span that may be punched.
    pub fn runs_to_punch(&self, granule: u64, order: u32) -> Result<Runs> {
        let mut runs = Runs::new();
        for g in granule..granule + (1 << order) {
            if self.arena().entry(g)?.sticky() {
                continue;
            }
            match runs.last_mut() {
                Some((start, len)) if *start + *len == g => *len += 1,
                _ => runs.push((g, 1)),
            }
        }
        Ok(runs)
    }
}
