//! Moving large values to lower places, so that the free granules between them come together.
//!
//! This is done where all addresses of the reserve are used and the free granules lie in pieces. The states of a span
//! are in "Zone metadata" of docs/format.md; a value is moved by one commit, as in "A change" of docs/protocol.md.
//! Records in slabs are moved in `compact.rs`.

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
use crate::variables::publish::count_round;
use crate::variables::{Variables, VariablesWriter};

/// Granules of the longest span that is moved. Copying a longer one takes longer than the gain is worth.
const LONGEST: u64 = (64 << 20) / GRANULE;
/// Bytes of one copy.
const PIECE: u64 = 1 << 20;

/// Private to the process: a variable with a large value: its hash, and its slot as it was found.
struct LargeVariable {
    hash: u64,
    content: Content,
}

impl Variables {
    /// Moves the large values that lie at granule `from` or behind it to the lowest places where they fit, the last
    /// values first.
    pub fn defragment(&self, from: u64, policy: &dyn WaitPolicy) -> Result<()> {
        let mut spans = self.large_values(policy)?;
        spans.retain(|moving| moving.content.granule() >= from);
        // The sort is in place: the order of equal elements does not matter, and no memory is needed.
        spans.sort_unstable_by_key(|moving| std::cmp::Reverse(moving.content.granule()));
        for moving in spans {
            policy.interrupted()?;
            self.move_span(&moving, policy)?;
        }
        Ok(())
    }

    /// Lists the variables with a large value that may be moved. A value in place may not: who holds its memory would
    /// go on storing into the old one.
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
                if let Some(content) = content.filter(|content| content.kind() == Kind::Span && !content.is_in_place())
                {
                    let moving = LargeVariable { hash: self.hash_of(&content), content };
                    fallible::push(&mut all, moving, "a list of large values")?;
                }
            }
            hash = leaf.end(from);
            drop(writer);
        }
        Ok(all)
    }

    /// Moves one value to a lower place, if there is one and the variable does not change meanwhile.
    fn move_span(&self, moving: &LargeVariable, policy: &dyn WaitPolicy) -> Result<()> {
        let from = moving.content.granule();
        let Some(to) = self.reserve_below(from, policy)? else { return Ok(()) };
        match self.copy_span(from, &to, policy) {
            Ok(()) => {}
            // There is no memory for a second copy: the value stays where it is.
            Err(Error::Full { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut writer = self.write(policy)?;
        // The slot is looked up anew: its leaf may have been replaced, the variable changed, or all variables removed.
        let Some((leaf, offset)) = writer.slot_of_unchanged(moving)? else { return Ok(()) };
        if !writer.owns(to.granule)? {
            return Ok(());
        }
        let mut change = writer.change();
        change.edit_span(to.granule, writer.arena().entry(to.granule)?, SpanEntry::new(SpanState::Live, to.len));
        writer.plan_retire(&moving.content, &mut change)?;
        change.leaf = Some((leaf.base, None));
        let moved = moving.content.moved_to(to.granule, 0);
        change.slot = Some((offset, moved));
        count_round(&moved, &mut change);
        writer.commit(&change)?;
        to.published();
        // CRASH: the value is at its new place, the old span is retired, and a sweep frees it.
        crash_point!("span-moved");
        let _ = writer.free_retired(from);
        Ok(())
    }

    /// Reserves the lowest run of free granules that is as long as the span at `granule`. `None`: there is none below
    /// that span.
    fn reserve_below(&self, granule: u64, policy: &dyn WaitPolicy) -> Result<Option<ReservedSpan<'_>>> {
        let mut writer = self.write(policy)?;
        let entry = writer.arena().entry(granule)?;
        if entry.state() != SpanState::Live || entry.len() > LONGEST {
            return Ok(None);
        }
        self.deferred.reserve()?;
        let mut change = writer.change();
        let filling = SpanEntry::new(SpanState::Filling, entry.len()).with_owner(writer.number);
        match writer.arena().plan_reserve(entry.len(), filling, &mut change)? {
            Some(lower) if lower < granule => {
                writer.mark_spans();
                writer.commit(&change)?;
                Ok(Some(ReservedSpan::new(self, lower, entry.len())))
            }
            _ => Ok(None),
        }
    }

    /// Copies the span through the kernel. Whatever happens to the source meanwhile, the copy raises no signal, and the
    /// slot tells afterwards.
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
                    self.file_system_full(len)
                }
                rustix::io::Errno::FBIG => crate::process::pages::beyond_file_limit(len, geometry.length),
                other => Error::system("moving a value", other),
            })?;
        }
        Ok(())
    }
}

impl VariablesWriter<'_> {
    /// Finds the slot of a value that is still as it was found. `None`: it is not.
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
