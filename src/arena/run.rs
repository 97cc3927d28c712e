//! Runs of granules: finding free ones, planning to take and free them, and walking over all spans.

use super::{Arena, WRONG_BITS};
use crate::bit_runs::{first_run, longest_run};
use crate::error::{Error, Result};
use crate::format::{KIND_RUN, SpanEntry, SpanState, ZONE, ZONE_WORDS};
use crate::sync::intent::Change;
use std::sync::atomic::Ordering;

impl<'a> Arena<'a> {
    /// The lowest run of free granules of this length, and with `present`, whose pages are.
    fn find_run(&self, len: u64, present: bool) -> Result<Option<u64>> {
        if len <= ZONE {
            for zone in self.zones_of(KIND_RUN + len.ilog2() as usize) {
                let zone = zone?;
                let meta = self.zone(zone)?;
                let word = |i: usize| {
                    let free = meta.free[i].load(Ordering::Relaxed);
                    if present { free & meta.present[i].load(Ordering::Relaxed) } else { free }
                };
                if let Some(at) = first_run((0..ZONE_WORDS).map(word), len) {
                    return Ok(Some(zone * ZONE + at));
                }
            }
        }
        if present || len == 1 {
            return Ok(None);
        }
        // Across zones: few spans are that long, or nothing else was found.
        let word = |i: u64| {
            self.zone(i / ZONE_WORDS as u64)
                .map_or(0, |zone| zone.free[(i % ZONE_WORDS as u64) as usize].load(Ordering::Relaxed))
        };
        Ok(first_run((0..self.zones() * ZONE_WORDS as u64).map(word), len))
    }

    /// How many granules of the longest free run in the zones in use.
    pub fn longest_run(&self) -> Result<u64> {
        let words = (0..self.zones() * ZONE_WORDS as u64).map(|i| {
            let zone = self.zone(i / ZONE_WORDS as u64);
            zone.map_or(0, |zone| zone.free[(i % ZONE_WORDS as u64) as usize].load(Ordering::Relaxed))
        });
        Ok(longest_run(words))
    }

    /// Is every granule there free, whatever the bitmap says? A wrong bit is put right.
    fn is_free_run(&self, granule: u64, len: u64) -> Result<bool> {
        for at in granule..granule + len {
            let entry = self.entry(at)?;
            if !entry.is_none() {
                self.set_free(at, entry.len().clamp(1, ZONE), false)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Plans to take a span of so many granules, the lowest that is free, present or not. `None`: no room in the zones in use.
    pub fn plan_take(&self, len: u64, entry: SpanEntry, change: &mut Change) -> Result<Option<u64>> {
        let entry = SpanEntry(entry.0 & u64::from(u32::MAX) | len << 32);
        let found = self.find_sound_run(len, false)?;
        if let Some(granule) = found {
            change.span(granule, SpanEntry(0), entry);
        }
        Ok(found)
    }

    /// The same of one whose pages are all known to be present.
    pub fn plan_take_present(&self, len: u64, entry: SpanEntry, change: &mut Change) -> Result<Option<u64>> {
        let found = self.find_sound_run(len, true)?;
        if let Some(granule) = found {
            change.span(granule, SpanEntry(0), SpanEntry(entry.0 & u64::from(u32::MAX) | len << 32));
        }
        Ok(found)
    }

    fn find_sound_run(&self, len: u64, present: bool) -> Result<Option<u64>> {
        for _ in 0..WRONG_BITS {
            let Some(granule) = self.find_run(len, present)? else { return Ok(None) };
            if self.fits(granule, len, self.zones()) && self.is_free_run(granule, len)? {
                return Ok(Some(granule));
            }
        }
        Err(Error::corrupt("the bitmaps of free granules"))
    }

    /// Plans to free a span.
    pub fn plan_free(&self, granule: u64, before: SpanEntry, change: &mut Change) {
        change.span(granule, before, SpanEntry(0));
    }

    /// So many zones must be in use before a span of this length can be taken. `None`: the reserve is used up.
    pub fn zones_for(&self, len: u64) -> Option<u64> {
        let end = self.zones() + len.saturating_sub(self.free_behind(len)).div_ceil(ZONE).max(1);
        (end <= self.geo.zones_max).then_some(end)
    }

    /// Granules that are free at the end of the zones in use: all, or at least so many.
    pub fn free_behind(&self, enough: u64) -> u64 {
        let mut behind = 0;
        for zone in (0..self.zones()).rev() {
            let Ok(meta) = self.zone(zone) else { break };
            for word in meta.free.iter().rev() {
                let ones = word.load(Ordering::Relaxed).leading_ones();
                behind += u64::from(ones);
                if ones < 64 || behind >= enough {
                    return behind;
                }
            }
        }
        behind
    }

    /// Every span of the zones in use, from the left: head and entry. Ends early, with an error, where the map is damaged.
    pub fn spans(self) -> impl Iterator<Item = Result<(u64, SpanEntry)>> + 'a {
        self.walk()
            .filter(|step| !matches!(step, Ok((_, SpanEntry(0), _))))
            .map(|step| step.map(|(at, entry, _)| (at, entry)))
    }

    /// Every run of free granules within a zone: its first, and how many.
    pub fn free_runs(self) -> impl Iterator<Item = Result<(u64, u64)>> + 'a {
        self.walk()
            .filter(|step| step.as_ref().map_or(true, |(_, entry, _)| entry.is_none()))
            .map(|step| step.map(|(at, _, len)| (at, len)))
    }

    /// Spans, and runs of free granules within one word of their bitmap or several: first granule, entry, length.
    fn walk(self) -> impl Iterator<Item = Result<(u64, SpanEntry, u64)>> + 'a {
        let end = self.zones() * ZONE;
        let mut next = 0;
        std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let step = self.step(next, end);
            next = match &step {
                Ok((at, _, len)) => at + len,
                Err(_) => end,
            };
            Some(step)
        })
    }

    /// Where the span that covers a granule begins; itself, where it is free or begins one.
    pub fn head_of(&self, granule: u64) -> Result<u64> {
        if !self.entry(granule)?.is_none() || self.is_free(granule)? {
            return Ok(granule);
        }
        let head = (0..granule).rev().find_map(|at| match self.entry(at) {
            Ok(entry) if entry.is_none() => None,
            found => Some(found.map(|entry| (at, entry.len()))),
        });
        match head.transpose()? {
            Some((head, len)) if head + len > granule => Ok(head),
            _ => Err(Error::corrupt(format_args!("span map: granule {granule} belongs to no span and is not free"))),
        }
    }

    /// The span, or the run of free granules, that begins here: its first granule, entry and length. `end`: of the zones in use.
    pub fn step(&self, at: u64, end: u64) -> Result<(u64, SpanEntry, u64)> {
        let entry = self.entry(at)?;
        if !entry.is_none() {
            if matches!(entry.state(), SpanState::None | SpanState::Bad) || !self.fits(at, entry.len(), end / ZONE) {
                return Err(Error::corrupt(format_args!("span map, granule {at}: {entry:?}")));
            }
            return Ok((at, entry, entry.len()));
        }
        let (zone, mut bit) = (self.zone(at / ZONE)?, at % ZONE);
        let start = bit;
        while bit < ZONE {
            let ones = (zone.free[(bit / 64) as usize].load(Ordering::Relaxed) >> (bit % 64)).trailing_ones();
            let ones = u64::from(ones).min(64 - bit % 64);
            bit += ones;
            if ones == 0 || bit % 64 != 0 {
                break;
            }
        }
        if bit == start {
            return Err(Error::corrupt(format_args!("span map: granule {at} belongs to no span and is not free")));
        }
        Ok((at, SpanEntry(0), bit - start))
    }
}
