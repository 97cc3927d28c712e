//! How much of the arena is present, free or held, from the bitmaps of its zones.

use crate::error::{Error, Result};
use crate::format::{GRANULE, ZoneMeta};
use crate::heap::Heap;
use crate::os::mem::SharedCopy;
use crate::os::object;
use std::sync::atomic::{AtomicU64, Ordering};

impl Heap {
    /// Bytes that are free and known to be present; a guess while others write.
    pub fn warm(&self) -> u64 {
        let both = |zone: &ZoneMeta| {
            let both = |(a, b): (&AtomicU64, &AtomicU64)| a.load(Ordering::Relaxed) & b.load(Ordering::Relaxed);
            zone.free.iter().zip(&zone.present).map(|words| u64::from(both(words).count_ones())).sum::<u64>()
        };
        let zones = 0..self.arena().zones();
        zones.map_while(|zone| self.with_zone(zone, both).ok()?).sum::<u64>() * GRANULE
    }

    /// Bytes of the arena that are known to be present; a guess while others write.
    pub fn present(&self) -> u64 {
        let pages = |zone: &ZoneMeta| {
            zone.present.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum::<u64>()
        };
        let zones = 0..self.arena().zones();
        zones.map_while(|zone| self.with_zone(zone, pages).ok()?).sum::<u64>() * GRANULE
    }

    /// Bytes of spans that are retired: somebody has them in a view, or they are about to be freed.
    pub fn held(&self) -> u64 {
        self.state().retired.load(Ordering::Relaxed).saturating_mul(GRANULE)
    }

    /// Looks at a zone's metadata. `None`: it is not in use any more.
    pub fn with_zone<T>(&self, zone: u64, look: impl FnOnce(&ZoneMeta) -> T) -> Result<Option<T>> {
        if let Some(_section) = self.read_section() {
            // Within the section: what is in use now stays present until it ends.
            return if zone < self.arena().zones() {
                self.arena().zone(zone).map(|meta| Some(look(meta)))
            } else {
                Ok(None)
            };
        }
        let mut copy = SharedCopy::<ZoneMeta>::new()?;
        let offset = self.identity.geometry.zone_at(zone);
        let read = self.with_file(|fd| object::read_at(fd, copy.bytes(), offset))?;
        read.map_err(|e| Error::system("reading the segment", e))?;
        Ok(Some(look(copy.get())))
    }
}
