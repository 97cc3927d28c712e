//! Looking at every slot, or at one until it stands still.

use crate::error::{Error, Result};
use crate::intent::Change;
use crate::layout::{Root, Slot};
use crate::segment::attachment::{Attachment, PATIENCE, Patience};
use crate::segment::table::{Found, Token};
use crate::slot::{BUSY, Content};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

impl Attachment {
    /// What `see` makes of every variable and lock, found in one pass over one table: as of one moment or nearly, what was
    /// there throughout is in it.
    pub fn scan<T: Default>(
        &self,
        mut see: impl FnMut(&mut T, Found) -> Result<()>,
        patience: &dyn Patience,
    ) -> Result<T> {
        let mut stuck = Stuck::default();
        loop {
            let mut seen = T::default();
            if self.pass(|found| see(&mut seen, found), patience)? {
                return Ok(seen);
            }
            patience.interrupted()?;
            stuck.again(self, patience)?;
        }
    }

    /// One pass. False: the table was replaced meanwhile.
    fn pass(&self, mut each: impl FnMut(Found) -> Result<()>, patience: &dyn Patience) -> Result<bool> {
        let table = self.table()?;
        let mut stuck = Stuck::default();
        for number in 0..=table.mask {
            let slot = self.slot_of(table.slot_at(number), table.root, &mut stuck, patience)?;
            let Some(found) = slot else { return Ok(false) };
            if found.content.is_entry() {
                each(found)?;
            }
        }
        fence(Ordering::Acquire);
        Ok(self.state().root.load(Ordering::Relaxed) == table.root.0)
    }

    /// What a slot says once it stands still, or what the change under way makes of it. `None`: the table was replaced.
    fn slot_of(&self, offset: u64, root: Root, stuck: &mut Stuck, patience: &dyn Patience) -> Result<Option<Found>> {
        let slot = self.mem.at::<Slot>(offset)?;
        loop {
            let word = slot.begin();
            let pending = if word & BUSY == 1 { Change::pending(self.mem.intent(), offset) } else { None };
            let (content, token) = match pending {
                Some((serial, content)) => (content, Token::Pending(serial)),
                None => (Content { word, rest: slot.rest() }, Token::Stable),
            };
            let found = Found { offset, content, root, word, token };
            if (word & BUSY == 0 || pending.is_some()) && self.still(&found)? {
                return Ok(Some(found));
            }
            if self.state().root.load(Ordering::Acquire) != root.0 {
                return Ok(None);
            }
            if word & BUSY == 1 && pending.is_none() {
                self.settle(offset, word, root, stuck, patience)?;
            }
            stuck.again(self, patience)?;
        }
    }

    /// The slot of what was found and changed meanwhile, as it is now.
    pub fn seen_again(&self, found: &Found, stuck: &mut Stuck, patience: &dyn Patience) -> Result<Option<Found>> {
        stuck.again(self, patience)?;
        self.slot_of(found.offset, found.root, stuck, patience)
    }
}

/// A call that cannot go on: it finds what it looks at changed each time, or half changed and may not repair it.
#[derive(Default)]
pub struct Stuck {
    began: Option<Instant>,
    turns: u32,
}

impl Stuck {
    /// Once more: at no cost for a while, then until the caller is interrupted or 10 s have gone by. Those who keep to the
    /// protocol let every reader through within a few turns.
    pub fn again(&mut self, att: &Attachment, patience: &dyn Patience) -> Result<()> {
        self.turns = self.turns.wrapping_add(1);
        if !self.turns.is_multiple_of(256) {
            return Ok(());
        }
        patience.interrupted()?;
        if self.began.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "{}: what was looked at was changed each time, for {} s",
            att.name,
            PATIENCE.as_secs()
        )))
    }

    /// A little later, for a reader who can repair nothing.
    pub(super) fn pause(&mut self, att: &Attachment, patience: &dyn Patience) -> Result<()> {
        let began = *self.began.get_or_insert_with(Instant::now);
        if began.elapsed() > PATIENCE {
            return Err(Error::Busy(format!(
                "{}: a variable has been half changed for {} s and its writer does not go on",
                att.name,
                PATIENCE.as_secs()
            )));
        }
        patience.outside(&mut || std::thread::sleep(Duration::from_micros(200)));
        patience.interrupted()
    }
}
