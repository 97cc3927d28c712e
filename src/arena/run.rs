//! Runs of granules: finding free ones, planning edits that reserve and free spans, and walking over all spans.
//!
//! Nothing here stores into the span map: a plan is an edit of a [`Change`], which is applied once the change is
//! decided.

use super::{Arena, WRONG_BITS_MAX};
use crate::bit_runs::{first_run, longest_run};
use crate::error::{Error, Result};
use crate::format::{FIRST_RUN_KIND, SpanEntry, SpanState, ZONE, ZONE_WORDS};
use crate::sync::intent::Change;
use std::sync::atomic::Ordering;

impl<'a> Arena<'a> {
    /// Finds the lowest run of `len` free granules, as the bitmaps show it. With `present`, all of its pages are known
    /// to be present, and it lies within one zone.
    fn find_run(&self, len: u64, present: bool) -> Result<Option<u64>> {
        if len <= ZONE {
            for zone in self.zones_with(FIRST_RUN_KIND + len.ilog2() as usize) {
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
        // No zone has such a run by itself, or the run is longer than a zone: look across zones. That is rare.
        let word = |i: u64| {
            self.zone(i / ZONE_WORDS as u64)
                .map_or(0, |zone| zone.free[(i % ZONE_WORDS as u64) as usize].load(Ordering::Relaxed))
        };
        Ok(first_run((0..self.zones() * ZONE_WORDS as u64).map(word), len))
    }

    /// Returns the number of granules in the longest run of free granules in the zones in use.
    pub fn longest_run(&self) -> Result<u64> {
        let words = (0..self.zones() * ZONE_WORDS as u64).map(|i| {
            let zone = self.zone(i / ZONE_WORDS as u64);
            zone.map_or(0, |zone| zone.free[(i % ZONE_WORDS as u64) as usize].load(Ordering::Relaxed))
        });
        Ok(longest_run(words))
    }

    /// Returns `true` if the span map says that every granule of a run is free. If the bitmap was wrong, it is
    /// corrected.
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

    /// Plans to reserve a span of `len` granules: the lowest free run, whether its pages are present or not. `entry`
    /// gives state, class and owner of the new span. Returns the first granule, or `None` if the zones in use have no
    /// such run.
    pub fn plan_reserve(&self, len: u64, entry: SpanEntry, change: &mut Change) -> Result<Option<u64>> {
        let entry = SpanEntry(entry.0 & u64::from(u32::MAX) | len << 32);
        let found = self.find_sound_run(len, false)?;
        if let Some(granule) = found {
            change.edit_span(granule, SpanEntry(0), entry);
        }
        Ok(found)
    }

    /// Plans to reserve a span of `len` granules whose pages are all known to be present. `entry` gives state, class
    /// and owner of the new span. Returns the first granule, or `None` if no zone in use has such a run.
    pub fn plan_reserve_present(&self, len: u64, entry: SpanEntry, change: &mut Change) -> Result<Option<u64>> {
        let found = self.find_sound_run(len, true)?;
        if let Some(granule) = found {
            change.edit_span(granule, SpanEntry(0), SpanEntry(entry.0 & u64::from(u32::MAX) | len << 32));
        }
        Ok(found)
    }

    /// Finds a run as [`Arena::find_run`] does, and checks it against the span map. Wrong bits are corrected on the
    /// way.
    fn find_sound_run(&self, len: u64, present: bool) -> Result<Option<u64>> {
        for _ in 0..WRONG_BITS_MAX {
            let Some(granule) = self.find_run(len, present)? else { return Ok(None) };
            if self.fits(granule, len, self.zones()) && self.is_free_run(granule, len)? {
                return Ok(Some(granule));
            }
        }
        Err(Error::corrupt("the bitmaps of free granules"))
    }

    /// Plans to free a span whose entry is `before`.
    pub fn plan_free(&self, granule: u64, before: SpanEntry, change: &mut Change) {
        change.edit_span(granule, before, SpanEntry(0));
    }

    /// Returns the number of zones that must be in use before a span of `len` granules can be reserved, where the zones
    /// in use have no such run. Returns `None` if the arena does not have so many zones.
    pub fn zones_needed(&self, len: u64) -> Option<u64> {
        let end = self.zones() + len.saturating_sub(self.free_at_end(len)).div_ceil(ZONE).max(1);
        (end <= self.geo.zones_max).then_some(end)
    }

    /// Counts the free granules at the end of the zones in use. It stops counting once it has found `enough`.
    pub fn free_at_end(&self, enough: u64) -> u64 {
        let mut free = 0;
        for zone in (0..self.zones()).rev() {
            let Ok(meta) = self.zone(zone) else { break };
            for word in meta.free.iter().rev() {
                let ones = word.load(Ordering::Relaxed).leading_ones();
                free += u64::from(ones);
                if ones < 64 || free >= enough {
                    return free;
                }
            }
        }
        free
    }

    /// Iterates over the spans of the zones in use, the lowest first: head and entry. Ends with an error at the first
    /// place at which the span map is damaged.
    pub fn spans(self) -> impl Iterator<Item = Result<(u64, SpanEntry)>> + 'a {
        self.walk()
            .filter(|step| !matches!(step, Ok((_, SpanEntry(0), _))))
            .map(|step| step.map(|(at, entry, _)| (at, entry)))
    }

    /// Iterates over the runs of free granules: first granule and length. A run is cut at the end of a zone.
    pub fn free_runs(self) -> impl Iterator<Item = Result<(u64, u64)>> + 'a {
        self.walk()
            .filter(|step| step.as_ref().map_or(true, |(_, entry, _)| entry.is_none()))
            .map(|step| step.map(|(at, _, len)| (at, len)))
    }

    /// Iterates over spans and runs of free granules: first granule, entry (0 for a free run), length.
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

    /// Returns the head of the span that a granule belongs to. If the granule is free, returns the granule itself.
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

    /// Returns the span, or the run of free granules, that begins at granule `at`: first granule, entry (0 for a free
    /// run), length. `end` is the end of the zones in use, as a granule number.
    pub fn step(&self, at: u64, end: u64) -> Result<(u64, SpanEntry, u64)> {
        let entry = self.entry(at)?;
        if !entry.is_none() {
            if matches!(entry.state(), SpanState::None | SpanState::Damaged) || !self.fits(at, entry.len(), end / ZONE)
            {
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
