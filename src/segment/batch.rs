//! Several changes at one instant, whole or not at all: listed in a span, made step by step, finished by whoever comes.

use crate::error::{Error, Result};
use crate::intent::Progress;
use crate::key::{Index, Name};
use crate::layout::{CLASSES, GRANULE, PAGE, Slot, SpanState, class_of, order_of};
use crate::mem::Scratch;
use crate::segment::attachment::{Attachment, Patience};
use crate::segment::batch_list::{Entry, List, Reader};
use crate::segment::change::Stored;
use crate::segment::fill::Filled;
use crate::segment::growth::{is_crowded, is_full};
use crate::segment::publish::{Form, Plan, limit_reached};
use crate::segment::room::Turns;
use crate::segment::table::{Place, record_at};
use crate::segment::writer::Writer;
use crate::slot::{Content, Kind};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

/// `batch`, while every variable is removed.
const CLEAR: u64 = 2;
/// In `batch`: the list in the span at `batch >> 8`.
const LIST: u64 = 1;
/// Slots that a batch looks at for each of its entries, on average. In a table of which 15/16 are used (Knuth 6.4, linear
/// probing) it is 129 for what is missing; a forged one shall not keep who holds the lock busy for hours.
const LOOKS: u64 = 512;

/// What lacks before a batch can begin.
enum Lack {
    Nothing,
    /// Room in the table for so many more.
    Table(u64),
    /// A free block of this class.
    Block(usize),
    /// So much of the limit, of which so much is free.
    Limit(u64, u64),
}

/// What a batch takes, whatever it finds.
struct Needs {
    /// Blocks, by class.
    blocks: [u64; CLASSES.len()],
    /// There is no memory for a larger table.
    crowded: bool,
}

impl Needs {
    fn of(plans: &[Plan<'_>]) -> Self {
        let mut blocks = [0; CLASSES.len()];
        for plan in plans {
            if let Form::Block(class) = plan.form {
                blocks[class] += 1;
            }
        }
        Needs { blocks, crowded: false }
    }
}

impl Attachment {
    /// Stores several values at one instant, or none of them. Of two for one index the last counts.
    pub fn put_many(&self, items: &[(Index<'_>, Stored<'_>)], patience: &dyn Patience) -> Result<()> {
        let mut last = HashMap::with_capacity(items.len());
        for (number, (index, _)) in items.iter().enumerate() {
            index.check()?;
            last.insert(*index, number);
        }
        let mut plans = Vec::with_capacity(last.len());
        for (number, (index, stored)) in items.iter().enumerate() {
            if last[index] == number {
                plans.push(Plan::new(Name { index: *index, lock: false }, *stored, self.identity.hash_key));
            }
        }
        if plans.is_empty() {
            return Ok(());
        }
        // Between taking spans and publishing them this process keeps its number.
        let (mut inside, mut collected) = (Some(self.enter()), false);
        let (mut spans, mut list) = self.fill_spans(&plans, patience)?;
        let (mut needs, mut turns) = (Needs::of(&plans), Turns::default());
        loop {
            turns.next(self)?;
            let mut writer = self.write(patience)?;
            let mut ours = true;
            for filled in &spans {
                ours &= writer.owns(filled.span.granule)?;
            }
            if !ours {
                // A signal handler forked, and this is the child: it begins anew.
                self.step_out(writer, &mut inside);
                (spans, list) = self.fill_spans(&plans, patience)?;
                continue;
            }
            let lack = writer.lack(&plans, &needs)?;
            if let Lack::Nothing = lack {
                let (granule, pages) = spans.last().map_or((0, 0), |filled| (filled.span.granule, filled.pages));
                writer.begin(granule << 8 | LIST)?;
                // From here on it will be made, whoever dies: the spans are the batch's.
                spans.into_iter().for_each(|filled| filled.span.keep());
                let mut entries = list.0.into_iter();
                let outcome = writer.carry_on(pages, || Ok(entries.next()));
                writer.or_drop(outcome)?;
                drop(writer);
                plans.iter().for_each(|plan| self.ring_changed(plan.hash));
                return Ok(());
            }
            self.step_out(writer, &mut inside);
            self.supply(lack, &mut needs, &mut collected, patience)?;
        }
    }

    /// Fills a span for each large value, and one for the list, which is the last.
    fn fill_spans(&self, plans: &[Plan<'_>], patience: &dyn Patience) -> Result<(Vec<Filled<'_>>, List)> {
        let mut spans = Vec::new();
        for plan in plans.iter().filter(|plan| plan.form == Form::Span) {
            spans.push(self.fill(plan.lead(), &plan.prefix, plan.stored.parts, plan.record_len, patience)?);
        }
        let mut filled = spans.iter();
        let entry = |plan: &Plan<'_>| Entry::new(plan, if plan.form == Form::Span { filled.next() } else { None });
        let list = List(plans.iter().map(entry).collect());
        let bytes = list.to_bytes();
        spans.push(self.fill(0, &[], &[&bytes], bytes.len() as u64, patience)?);
        // CRASH: spans that are filling in our name: freed with us, for no batch names the list.
        crash_point!("list-filled");
        Ok((spans, list))
    }

    /// Makes room for a batch, with the lock let go.
    fn supply(&self, lack: Lack, needs: &mut Needs, collected: &mut bool, patience: &dyn Patience) -> Result<()> {
        patience.interrupted()?;
        if !std::mem::replace(collected, true) && self.collect_expired(patience)? {
            return Ok(());
        }
        match lack {
            Lack::Nothing => Ok(()),
            Lack::Table(more) => match self.grow(&self.table()?, more, patience) {
                // No memory for a larger one: it may still do.
                Err(Error::Full { .. }) if !std::mem::replace(&mut needs.crowded, true) => Ok(()),
                other => other,
            },
            Lack::Block(class) => self.refill(class, patience),
            Lack::Limit(needed, free) => Err(limit_reached(needed, free, self.state().limit.load(Ordering::Relaxed))),
        }
    }

    /// Removes every variable, at one instant.
    pub fn clear(&self, patience: &dyn Patience) -> Result<()> {
        let mut writer = self.write(patience)?;
        writer.begin(CLEAR)?;
        let outcome = writer.carry_on_clearing();
        writer.or_drop(outcome)?;
        drop(writer);
        self.ring_all();
        let (state, table) = (self.state(), self.table()?);
        let (fill, count) = (state.fill.load(Ordering::Relaxed), state.count.load(Ordering::Relaxed));
        let slots = table.mask + 1;
        if is_full(fill, slots / 2) && count < slots / 16 {
            // Mostly tombstones: a clean table costs less than passing over them. Without memory for one, they stay.
            let _inside = self.enter();
            match self.grow(&table, 1, patience) {
                Err(Error::Full { .. }) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Writer<'_> {
    /// What lacks? No block is counted on that comes free meanwhile.
    fn lack(&mut self, plans: &[Plan<'_>], needs: &Needs) -> Result<Lack> {
        for (class, needed) in needs.blocks.iter().enumerate().filter(|(_, needed)| **needed > 0) {
            while !self.arena().has_blocks(class, *needed)? {
                if !self.slab_from_free(class)? {
                    return Ok(Lack::Block(class));
                }
            }
        }
        let counters = self.change().counters;
        let slots = self.att.table()?.mask + 1;
        let (mut more, mut old_charge, mut new_charge, mut looks) = (0, 0_u64, 0_u64, slots);
        for plan in plans {
            looks += LOOKS;
            let place = self.place_within(&plan.name, plan.hash, &mut Scratch::new(), &mut looks)?;
            if matches!(place, Place::None) {
                return Ok(Lack::Table(1));
            }
            more += u64::from(place.content().is_none());
            old_charge = old_charge.saturating_add(place.content().map_or(0, |old| old.charge()));
            new_charge = new_charge.saturating_add(plan.charge());
        }
        let others = counters.used.saturating_sub(old_charge);
        let limit = self.att.state().limit.load(Ordering::Relaxed);
        if new_charge > limit.saturating_sub(others) {
            return Ok(Lack::Limit(new_charge, limit.saturating_sub(counters.used)));
        }
        let fill = counters.fill.saturating_add(more);
        if more > 0 && (is_crowded(fill, slots) || (!needs.crowded && is_full(fill, slots))) {
            return Ok(Lack::Table(more));
        }
        Ok(Lack::Nothing)
    }

    /// From here on the batch will be made, whoever dies.
    fn begin(&mut self, batch: u64) -> Result<()> {
        let mut change = self.change();
        let many = self.att.state().many.load(Ordering::Relaxed) | 1;
        change.progress = Some(Progress { many, batch, cursor: 0 });
        self.commit(&change)?;
        crash_point!("batch-begun");
        Ok(())
    }

    /// How far the batch is.
    fn progress(&self) -> Progress {
        let state = self.att.state();
        Progress {
            many: state.many.load(Ordering::Relaxed),
            batch: state.batch.load(Ordering::Relaxed),
            cursor: state.cursor.load(Ordering::Relaxed),
        }
    }

    /// Brings what a dead writer began to its end. Called after the intent was repaired, before anybody is buried.
    #[cold]
    pub fn finish_batch(&mut self) -> Result<()> {
        let outcome = match self.progress().batch {
            CLEAR => self.carry_on_clearing(),
            _ => self.carry_on_from_span(),
        };
        self.att.ring_later.store(true, Ordering::Relaxed);
        self.or_drop(outcome)
    }

    /// How a batch ended. Contents that nobody who keeps to the protocol wrote: it is dropped, so that the next call goes on.
    /// Any other error is this process's own: the next one does it.
    fn or_drop(&mut self, outcome: Result<()>) -> Result<()> {
        if matches!(outcome, Err(Error::Corrupt(_))) && self.progress().batch != 0 {
            self.end(None)?;
        }
        outcome
    }

    /// Makes the entries of a list that another process left.
    fn carry_on_from_span(&mut self) -> Result<()> {
        let damaged = || Error::corrupt("the batch under way is none of ours");
        let Progress { batch, cursor, .. } = self.progress();
        let granule = batch >> 8;
        let span = self.arena().entry(granule)?;
        let fits = self.arena().fits(granule, span.order(), self.arena().zones());
        if batch & 0xff != LIST || span.state() != SpanState::Filling || !fits {
            return Err(damaged());
        }
        let att = self.att;
        let most = GRANULE << span.order();
        let mut reader =
            Reader::new(most, move |at, to: &mut [u8]| att.read_arena(granule, at, to))?.ok_or_else(damaged)?;
        for _ in 0..cursor {
            reader.next()?.ok_or_else(damaged)?;
        }
        self.carry_on(0, || reader.next())
    }

    /// Makes the entries that are not made yet, and ends the batch. `pages` of the list are known to be present.
    fn carry_on(&mut self, pages: u64, mut next: impl FnMut() -> Result<Option<Entry>>) -> Result<()> {
        let (mut emptied, mut looks) = (HashSet::new(), self.att.table()?.mask + 1);
        while let Some(entry) = next()? {
            let cursor = self.progress().cursor.saturating_add(1);
            looks += LOOKS;
            if let Some(old) = self.make(&entry, cursor, &mut looks)?.filter(|old| old.kind() == Kind::Record) {
                emptied.insert(old.granule());
            }
            crash_point!("batch-step");
        }
        self.end(Some((self.progress().batch >> 8, pages)))?;
        // Kept until now: a block that was counted on must not have gone with its slab.
        for granule in emptied {
            let _ = self.release_slab(granule);
        }
        Ok(())
    }

    /// Makes one entry, looking at so many slots at most: what it replaced.
    fn make(&mut self, entry: &Entry, cursor: u64, looks: &mut u64) -> Result<Option<Content>> {
        let content = entry.content;
        let index = match content.is_text() {
            false => Index::Int(content.rest[0] as i64),
            true => Index::Text(std::str::from_utf8(entry.key()).map_err(|_| Error::corrupt("an index of the batch"))?),
        };
        let name = Name { index, lock: false };
        let place = self.place_within(&name, name.hash(self.att.identity.hash_key), &mut Scratch::new(), looks)?;
        let old = place.content();
        let mut change = self.change();
        change.progress = Some(Progress { cursor, ..self.progress() });
        let offset = match place {
            Place::Taken(offset, _) | Place::Tombstone(offset) => offset,
            Place::Fresh(offset) => {
                change.counters.fill = change.counters.fill.saturating_add(1);
                offset
            }
            Place::None => return Err(Error::corrupt("the table has no room for a batch that had begun")),
        };
        let content = match content.kind() {
            Kind::Inline => content,
            Kind::Record => {
                let class = class_of(content.record_len());
                let Some((granule, block)) = self.find_block(class)? else {
                    return Err(Error::corrupt("the slabs have no room for a batch that had begun"));
                };
                let content = Content { rest: [content.rest[0], content.rest[1], granule << 16 | block], ..content };
                let at = record_at(self.att, &content)?;
                self.write_record(at.ok_or_else(|| Error::corrupt("a free block's place"))?, &[], &[&entry.bytes])?;
                change.block(granule, block, true);
                content
            }
            _ => {
                let granule = content.granule();
                let before = self.arena().entry(granule)?;
                let len = content.lead().saturating_add(content.record_len());
                let fits = self.arena().fits(granule, before.order(), self.arena().zones());
                if before.state() != SpanState::Filling || !fits || order_of(len) > before.order() {
                    return Err(Error::corrupt(format_args!("a span of a batch: {before:?}")));
                }
                let pages = before.present().max(len.div_ceil(PAGE));
                self.publish_span(granule, pages, &mut change)?;
                content
            }
        };
        self.replace_only(offset, content, old.as_ref(), &mut change)?;
        Ok(old)
    }

    /// Removes the variables that are not removed yet, and ends the batch.
    fn carry_on_clearing(&mut self) -> Result<()> {
        let table = self.att.table()?;
        loop {
            let progress = self.progress();
            if progress.cursor > table.mask {
                return self.end(None);
            }
            // To the next variable: slots without one need no step of their own.
            let mut number = progress.cursor;
            let found = loop {
                if number > table.mask {
                    break None;
                }
                let offset = table.slot_at(number);
                let slot = self.att.mem.at::<Slot>(offset)?;
                if let Some(content) = slot.copy().filter(Content::is_variable) {
                    break Some((offset, content));
                }
                number += 1;
            };
            let Some((offset, content)) = found else { return self.end(None) };
            self.discard(offset, &content, Some(Progress { cursor: number + 1, ..progress }))?;
            crash_point!("batch-step");
        }
    }

    /// The batch is made, or dropped: its list goes.
    fn end(&mut self, list: Option<(u64, u64)>) -> Result<()> {
        let mut change = self.change();
        let many = self.att.state().many.load(Ordering::Relaxed);
        change.progress = Some(Progress { many: (many | 1).wrapping_add(1), batch: 0, cursor: 0 });
        if let Some((granule, pages)) = list {
            let entry = self.arena().entry(granule)?;
            if entry.state() == SpanState::Filling {
                self.arena().plan_free(granule, entry, entry.order(), entry.present().max(pages), &mut change)?;
            }
        }
        self.commit(&change)?;
        crash_point!("batch-ended");
        Ok(())
    }
}
