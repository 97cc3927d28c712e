//! What a process keeps of a segment that was destroyed, once its last handle is detached and views of it live: the spans of
//! those views. The kernel keeps a file whole as long as any of it is mapped; so the views get a copy, where they are.

use crate::layout::{GRANULE, SpanState};
use crate::segment::attachment::Attachment;
use crate::spare;
use std::sync::atomic::Ordering;

impl Attachment {
    /// Leaves the memory of a destroyed segment to the others, or to nobody. Not where that frees less than it takes, nor where a
    /// private map of it lives: what was not written in such a map is still the file's.
    pub fn leave_destroyed(&self) {
        let destroyed = self.state().gone.load(Ordering::SeqCst) == 1;
        if !destroyed || !self.held.lock().is_empty() || !self.chores.lock().is_empty() {
            return;
        }
        self.only_viewed(|granules| {
            let Some(spans) = self.spans_of(&granules) else { return };
            let copied = spans.iter().map(|(_, len)| len).fold(0_u64, |sum, len| sum.saturating_add(*len));
            if self.resident().is_ok_and(|resident| copied.saturating_mul(2) > resident) {
                return;
            }
            self.left.store(true, Ordering::SeqCst);
            // SYNC: with `enter`: who counted himself in before this load may look at the memory; who comes later sees `left`.
            let active = self.active.load(Ordering::SeqCst);
            let inside = (active >> 32) as u32 == crate::os::fork::epoch() && active as u32 != 0;
            if inside || !self.mem.keep_only(&spans) {
                self.left.store(false, Ordering::SeqCst);
                return;
            }
            // From here on the others take this process for dead, and bury it.
            self.member.store(0, Ordering::SeqCst);
            *self.anchor.lock() = None;
            self.file.replace(None, &self.status);
            self.query.replace(None, &self.lock_status);
        });
    }

    /// Where these spans are, in order. `None`: one of them is none, or there is no memory for the list.
    fn spans_of(&self, granules: &[u64]) -> Option<Vec<(u64, u64)>> {
        let mut spans = Vec::new();
        for granule in granules {
            let entry = self.arena().entry(*granule).ok()?;
            if !matches!(entry.state(), SpanState::Live | SpanState::Retired) {
                return None;
            }
            let span = (self.identity.geometry.granule_at(*granule), entry.len() * GRANULE);
            spare::push(&mut spans, span, "the spans of views").ok()?;
        }
        spans.sort_unstable();
        Some(spans)
    }
}
