//! How many bytes of the arena are present, free or retired, counted in the bitmaps of its zones.

use crate::error::{Error, Result};
use crate::format::{GRANULE, ZoneMeta};
use crate::heap::Heap;
use crate::os::mem::SharedCopy;
use crate::os::object;
use std::sync::atomic::{AtomicU64, Ordering};

impl Heap {
    /// Returns how many bytes are free and known to be present. It is a guess while other processes write.
    pub fn warm_bytes(&self) -> u64 {
        let warm = |zone: &ZoneMeta| {
            let both = |(a, b): (&AtomicU64, &AtomicU64)| a.load(Ordering::Relaxed) & b.load(Ordering::Relaxed);
            zone.free.iter().zip(&zone.present).map(|words| u64::from(both(words).count_ones())).sum::<u64>()
        };
        let zones = 0..self.arena().zones();
        zones.map_while(|zone| self.with_zone(zone, warm).ok()?).sum::<u64>() * GRANULE
    }

    /// Returns how many bytes of the arena are known to be present. It is a guess while other processes write.
    pub fn present_bytes(&self) -> u64 {
        let present = |zone: &ZoneMeta| {
            zone.present.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum::<u64>()
        };
        let zones = 0..self.arena().zones();
        zones.map_while(|zone| self.with_zone(zone, present).ok()?).sum::<u64>() * GRANULE
    }

    /// Returns how many bytes are in retired spans: a process has them pinned, or they are about to be freed.
    pub fn retired_bytes(&self) -> u64 {
        self.state().retired.load(Ordering::Relaxed).saturating_mul(GRANULE)
    }

    /// Runs `act` with a zone's metadata. `None`: the zone is not in use any more.
    pub fn with_zone<T>(&self, zone: u64, act: impl FnOnce(&ZoneMeta) -> T) -> Result<Option<T>> {
        if let Some(_section) = self.read_section() {
            // Metadata of a zone that is in use now stays present until the read section ends.
            return if zone < self.arena().zones() {
                self.arena().zone(zone).map(|meta| Some(act(meta)))
            } else {
                Ok(None)
            };
        }
        let mut copy = SharedCopy::<ZoneMeta>::new()?;
        let offset = self.identity.geometry.zone_at(zone);
        let read = self.with_file(|fd| object::read_at(fd, copy.bytes(), offset))?;
        read.map_err(|e| Error::system("reading the segment", e))?;
        Ok(Some(act(copy.get())))
    }
}
