//! Moving large values together, where the reserve of addresses is used up and what is free lies in pieces.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{GRANULE, Slot, SpanEntry, SpanState};
use crate::heap::reserve::ReservedSpan;
use crate::os::object;
use crate::process::access::MappedAccess;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::Seqlock;
use crate::sync::slot::{Content, Kind};
use crate::variables::AsVariables;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::{Variables, VariablesWriter};

/// Longer spans stay where they are: copying one takes longer than what it gains is worth.
const LONGEST: u64 = (64 << 20) / GRANULE;
/// Bytes that are copied at once.
const PIECE: u64 = 1 << 20;

/// A large value: its hash, and its slot as it was found.
struct LargeVariable {
    hash: u64,
    content: Content,
}

impl Variables {
    /// Moves large values that lie at a granule or behind it to the lowest places where they fit, the last ones first: what is
    /// free comes together behind them.
    pub fn defragment(&self, from: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let mut spans = self.large_values(policy)?;
        spans.retain(|moving| moving.content.granule() >= from);
        // In place: an order of equals does not matter, and no memory is needed for it.
        spans.sort_unstable_by_key(|moving| std::cmp::Reverse(moving.content.granule()));
        for moving in spans {
            policy.interrupted()?;
            self.move_span(&moving, policy)?;
        }
        Ok(())
    }

    fn large_values(&self, policy: &dyn WaitPolicy) -> Result<Vec<LargeVariable>> {
        let mut all = Vec::new();
        let mut hash = Some(0);
        while let Some(from) = hash {
            let writer = self.write(policy)?;
            let leaf = self.leaf_of(from, TableOf::Variables)?;
            if !self.leaf_is_sound(&leaf, MappedAccess)? {
                return Err(Error::corrupt(format_args!("the leaf {:#x} that a directory names", leaf.word.0)));
            }
            for number in 1..=leaf.slots {
                let content = self.mem.at::<Slot>(leaf.slot_at(number))?.copy();
                if let Some(content) = content.filter(|content| content.kind() == Kind::Span) {
                    let moving = LargeVariable { hash: self.hash_of(&content), content };
                    fallible::push(&mut all, moving, "a list of large values")?;
                }
            }
            hash = leaf.end(from);
            drop(writer);
        }
        Ok(all)
    }

    /// Moves one value to a lower place, if there is one and nobody changes it meanwhile.
    fn move_span(&self, moving: &LargeVariable, policy: &dyn WaitPolicy) -> Result<()> {
        let from = moving.content.granule();
        let Some(to) = self.reserve_below(from, policy)? else { return Ok(()) };
        match self.copy_span(from, &to, policy) {
            Ok(()) => {}
            // No memory for a second one: it stays.
            Err(Error::Full { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut writer = self.write(policy)?;
        // Looked up anew: its leaf may have been replaced, the variable changed, all of them removed.
        let Some((leaf, offset)) = writer.slot_of_unchanged(moving)? else { return Ok(()) };
        if !writer.owns(to.granule)? {
            return Ok(());
        }
        let mut change = writer.change();
        change.span(to.granule, writer.arena().entry(to.granule)?, SpanEntry::new(SpanState::Live, to.len));
        writer.plan_retire(&moving.content, &mut change)?;
        change.leaf = Some((leaf.base, None));
        change.slot = Some((offset, moving.content.moved_to(to.granule, 0)));
        writer.commit(&change)?;
        to.published();
        // CRASH: the value is at its new place, the old one is retired: a sweep frees it.
        crash_point!("span-moved");
        let _ = writer.free_retired(from);
        Ok(())
    }

    /// The lowest run of free granules as long as the span at `granule`, if it is below that: ours to fill.
    fn reserve_below(&self, granule: u64, policy: &dyn WaitPolicy) -> Result<Option<ReservedSpan<'_>>> {
        let mut writer = self.write(policy)?;
        let entry = writer.arena().entry(granule)?;
        if entry.state() != SpanState::Live || entry.len() > LONGEST {
            return Ok(None);
        }
        self.deferred.reserve()?;
        let mut change = writer.change();
        let filling = SpanEntry::new(SpanState::Filling, entry.len()).with_owner(writer.me);
        match writer.arena().plan_take(entry.len(), filling, &mut change)? {
            Some(lower) if lower < granule => {
                writer.mark_spans();
                writer.commit(&change)?;
                Ok(Some(ReservedSpan::new(self, lower, entry.len())))
            }
            _ => Ok(None),
        }
    }

    /// By calls of the system: whatever happens to the source meanwhile, it is no signal, and the slot tells afterwards.
    fn copy_span(&self, from: u64, to: &ReservedSpan<'_>, policy: &dyn WaitPolicy) -> Result<()> {
        let geometry = &self.identity.geometry;
        let (from, at, len) = (geometry.granule_at(from), geometry.granule_at(to.granule), to.len * GRANULE);
        let mut bytes = fallible::zeros(PIECE.min(len) as usize, "moving a value")?;
        for (offset, len) in crate::bit_runs::pieces(0, len, PIECE) {
            let piece = &mut bytes[..len as usize];
            let mut copied = Ok(Ok(()));
            policy.allow_threads(&mut || {
                copied = self.with_file(|fd| {
                    object::read_at(fd, piece, from + offset)?;
                    object::write_at(fd, piece, at + offset)
                });
            });
            copied?.map_err(|errno| match errno {
                rustix::io::Errno::NOSPC | rustix::io::Errno::NOMEM | rustix::io::Errno::DQUOT => {
                    crate::process::pages::file_system_full(len)
                }
                rustix::io::Errno::FBIG => crate::process::pages::beyond_file_limit(len, geometry.length),
                other => Error::system("moving a value", other),
            })?;
        }
        Ok(())
    }
}

impl VariablesWriter<'_> {
    /// The slot of a value that is still as it was found.
    fn slot_of_unchanged(&self, moving: &LargeVariable) -> Result<Option<(Leaf, u64)>> {
        let leaf = self.att.variables().leaf_of(moving.hash, TableOf::Variables)?;
        for number in 1..=leaf.slots {
            let offset = leaf.slot_at(number);
            if self.att.mem.at::<Slot>(offset)?.copy() == Some(moving.content) {
                return Ok(Some((leaf, offset)));
            }
        }
        Ok(None)
    }
}
