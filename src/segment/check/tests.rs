//! Checks whose every slice is one step, with changes by others between the steps. Damage by kinds is in
//! `test_check.py` and `test_check_structures.py`. Protocol: docs/protocol.md, "Check".

use super::report::Report;
use super::slices::check_in_slices;
use crate::coordination::AsCoordination;
use crate::error::Result;
use crate::format::SpanEntry;
use crate::key::{Index, Key};
use crate::process::attachment::Attachment;
use crate::process::held_locks::LockOwner;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::leaf::TableOf;
use crate::variables::stored::{Layout, Stored};
use crate::{Options, Segment};
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A wait policy that does something between two slices, while nobody holds the writer lock.
struct BetweenSlices<F>(RefCell<F>);

impl<F: FnMut() -> Result<()>> WaitPolicy for BetweenSlices<F> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        slow();
    }
    fn interrupted(&self) -> Result<()> {
        (self.0.borrow_mut())()
    }
}

fn segment(name: &str) -> Segment {
    let key = format!("check-rs-{}-{name}", crate::os::pid());
    Segment::attach(Key::text(&key).unwrap(), &Options::default()).unwrap()
}

/// Random numbers from a seed, by xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }
}

fn put(att: &Attachment, index: &Index<'_>, len: u64, expiry: Option<u64>) -> Result<()> {
    let bytes = vec![b'x'; len as usize];
    let (head, tail) = crate::codec::scalar::bytes_frame(bytes.len());
    let parts = [head.as_slice(), &bytes, &tail];
    att.variables()
        .put(index, Stored { parts: &parts, layout: Layout::Pickle, expiry }, Condition::Always, &Blocking)
        .map(drop)
}

/// Lengths of values of every form: in the slot, in blocks of several size classes, in spans.
const LENGTHS: [u64; 8] = [3, 20, 60, 200, 700, 3_000, 22_000, 50_000];

fn fill(att: &Attachment, variables: u64) {
    for number in 0..variables {
        let form = number % 97;
        let len = LENGTHS[if form < 8 { form } else { form % 4 } as usize];
        put(att, &Index::Int(number as i64), len, None).unwrap();
        if number % 5 == 0 {
            put(att, &Index::Text(&format!("text {number}")), len.min(700), None).unwrap();
        }
    }
}

fn check_by_steps(att: &Attachment, act: impl FnMut() -> Result<()>) -> Result<(Report, u64)> {
    check_in_slices(att, Duration::ZERO, &BetweenSlices(RefCell::new(act)))
}

#[test]
#[cfg_attr(miri, ignore = "files and futexes")]
fn f28_whatever_others_do_between_two_slices_is_no_damage() {
    for seed in 1..=24_u64 {
        let segment = segment("others");
        let (lent, mut chance) = (segment.attachment().unwrap(), Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let att = &*lent;
        fill(att, 4_000);
        let mut held = Vec::new();
        let mut act = || -> Result<()> {
            for _ in 0..chance.below(40) {
                let number = chance.below(6_000) as i64;
                let text = format!("text {number}");
                let index = if number % 3 == 0 { Index::Text(&text) } else { Index::Int(number) };
                match chance.below(1_000) {
                    0 => att.variables().clear(&Blocking)?,
                    1 => segment.trim(&Blocking)?,
                    2 => att.variables().defragment(0, &Blocking)?,
                    3 => fill(att, 2_000),
                    4 => att.variables().compact(&Blocking)?,
                    5 => att.variables().shrink_table(TableOf::Variables, &Blocking)?,
                    6 => drop(att.variables().collect_expired(&Blocking)?),
                    7..40 => put(att, &index, 100, Some(crate::os::boottime_ns() + 1_000))?,
                    40..60 => {
                        if att.coordination().acquire_lock(
                            &index,
                            LockOwner::task(1, 1),
                            Some(Duration::ZERO),
                            &Blocking,
                        )? {
                            held.push((number, matches!(index, Index::Text(_))));
                        }
                    }
                    60..80 => {
                        if let Some((number, is_text)) = held.pop() {
                            let text = format!("text {number}");
                            let name = if is_text { Index::Text(&text) } else { Index::Int(number) };
                            att.coordination().release_lock(&name, LockOwner::task(1, 1), &Blocking)?;
                        }
                    }
                    80..400 => drop(att.variables().remove(&index, Condition::Always, &Blocking)?),
                    _ => put(att, &index, LENGTHS[chance.below(8) as usize], None)?,
                }
            }
            Ok(())
        };
        let (report, holds) = check_by_steps(att, &mut act).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(holds > 20 && report.slots > 0, "{holds} {report:?}");
        let quiet = segment.check().unwrap();
        assert_eq!((quiet.undecided, quiet.variables), (0, att.state().count.load(Ordering::Relaxed)));
        segment.destroy().unwrap();
    }
}

#[test]
#[cfg_attr(miri, ignore = "files and futexes")]
fn a_slice_is_as_long_for_a_large_segment_as_for_a_small_one() {
    let segment = segment("slices");
    let att = &*segment.attachment().unwrap();
    let mut most = Vec::new();
    for variables in [20_000_u64, 60_000] {
        for number in 0..variables {
            put(att, &Index::Int(number as i64), 3, None).unwrap();
        }
        let mut free = 0;
        let (report, holds) = check_by_steps(att, || {
            free += u64::from(att.state().lock.load(Ordering::Relaxed) == 0);
            Ok(())
        })
        .unwrap();
        assert_eq!((report.variables, free), (variables, holds - 1), "the lock was free after each slice");
        most.push(report.slots / holds);
    }
    assert!(most.iter().all(|slots| *slots <= 2_047), "slots in one slice: {most:?}");
    segment.destroy().unwrap();
}

/// The other writers pause after this many steps. The sums are then compared for the second time.
const PAUSED: u64 = 24;

/// Damages something, checks by steps while others write during the first `turns` of them, and takes the damage back.
fn found_beside_writers(name: &str, turns: u64, damage: impl Fn(&Attachment) -> Vec<(u64, u64)>) -> Result<Report> {
    let segment = segment(name);
    let att = &*segment.attachment().unwrap();
    fill(att, 3_000);
    // What the other writers store has its slots before something is damaged: a leaf that grew would take a copy of the
    // damage along, which is not taken back.
    let written = |turn: u64| Index::Int(10_000 + turn as i64 % 50);
    (0..50).for_each(|turn| put(att, &written(turn), 3, None).unwrap());
    let edits = damage(att);
    let word = |offset| att.mem.at::<std::sync::atomic::AtomicU64>(offset).unwrap();
    let before: Vec<u64> = edits.iter().map(|(offset, to)| word(*offset).swap(*to, Ordering::SeqCst)).collect();
    let mut turn: u64 = 0;
    let found = check_by_steps(att, || {
        turn += 1;
        // The values are inline, so these writes leave the damaged blocks and spans alone.
        if turn < turns {
            put(att, &written(turn), 3, None)?;
        }
        Ok(())
    });
    for ((offset, to), before) in edits.iter().zip(before) {
        // Writers may have changed other bits of the same word.
        word(*offset).fetch_xor(to ^ before, Ordering::SeqCst);
    }
    segment.check().unwrap();
    segment.destroy().unwrap();
    found.map(|(report, _)| report)
}

fn slot_of(att: &Attachment, number: i64) -> (u64, [u64; 3]) {
    let found = att.variables().scan(TableOf::Variables, |_, found| Ok(Some(found)), &Blocking).unwrap();
    let found = found.iter().find(|found| !found.content.is_text() && found.content.rest[0] == number as u64).unwrap();
    (found.offset, found.content.rest)
}

fn says(found: Result<Report>, text: &str) {
    let error = found.expect_err(text).to_string();
    assert!(error.contains(text), "{error}");
}

/// An edit that marks a block as in use that no slot names, in a slab of a class that the other writers do not use.
fn leaked(att: &Attachment) -> Vec<(u64, u64)> {
    for span in att.arena().spans() {
        let (granule, entry) = span.unwrap();
        if entry.state() != crate::format::SpanState::Slab {
            continue;
        }
        let blocks = crate::format::blocks_of(entry.class()).min(64);
        let used = att.arena().used_words(granule).unwrap()[0];
        let free = !used & (u64::MAX >> (64 - blocks));
        // Two free blocks, so that the slab still has a free one.
        if free.count_ones() > 1 {
            return vec![(att.identity.geometry.granule_at(granule), used | 1 << (63 - free.leading_zeros()))];
        }
    }
    panic!("no slab has room");
}

#[test]
#[cfg_attr(miri, ignore = "files and futexes")]
fn f28_damage_is_found_although_others_write_meanwhile() {
    // A block that two slots name.
    says(
        found_beside_writers("twice", u64::MAX, |att| {
            let ((_, [_, tag, at]), (other, _)) = (slot_of(att, 4), slot_of(att, 101));
            vec![(other + 16, tag), (other + 24, at)]
        }),
        "named twice",
    );
    // A block that a slot names and that is marked free.
    says(
        found_beside_writers("free", u64::MAX, |att| {
            let (_, [_, _, at]) = slot_of(att, 4);
            let offset = att.identity.geometry.granule_at(at >> 16) + (at & 0xffff) / 64 * 8;
            let word = att.mem.at::<std::sync::atomic::AtomicU64>(offset).unwrap().load(Ordering::SeqCst);
            vec![(offset, word & !(1 << (at % 64)))]
        }),
        "in use false, named true",
    );
    // A directory in the span map that no root names.
    says(
        found_beside_writers("directory", u64::MAX, |att| {
            let last = att.arena().zones() * crate::format::ZONE - 1;
            let zone = att.identity.geometry.zone_at(last / crate::format::ZONE);
            let free = zone + 32_768 + 504;
            let word = att.mem.at::<std::sync::atomic::AtomicU64>(free).unwrap().load(Ordering::SeqCst);
            let entry = SpanEntry::new(crate::format::SpanState::Directory, 1);
            vec![(zone + last % crate::format::ZONE * 8, entry.0), (free, word & !(1 << 63))]
        }),
        "no root names the directory",
    );
    // A block that nobody names is found only by a pass during which the writers pause.
    says(found_beside_writers("leak", PAUSED, leaked), "in use true, named false");
}

#[test]
#[cfg_attr(miri, ignore = "files and futexes")]
fn f28_a_wrong_sum_is_found_although_others_write_meanwhile() {
    let segment = segment("sums");
    let att = &*segment.attachment().unwrap();
    fill(att, 3_000);
    let state = att.state();
    // `used` and `expiring` are found by a pass during which the writers pause; what one hold can count is found in any
    // case.
    let cases = [
        ("count is", &state.count, u64::MAX),
        ("used is", &state.used, PAUSED),
        ("expiring is", &state.expiring, PAUSED),
    ];
    for (text, sum, turns) in cases.into_iter().chain([("granules are retired", &state.retired, u64::MAX)]) {
        sum.fetch_add(1, Ordering::SeqCst);
        let mut turn = 0;
        let found = check_by_steps(att, || {
            turn += 1;
            if turn < turns { put(att, &Index::Int(turn as i64 % 50), 3, None) } else { Ok(()) }
        });
        sum.fetch_sub(1, Ordering::SeqCst);
        says(found.map(|(report, _)| report), text);
    }
    segment.check().unwrap();
    segment.destroy().unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "files and futexes")]
fn what_could_not_be_told_is_counted() {
    let report = found_beside_writers("undecided", u64::MAX, leaked).unwrap();
    assert!(report.undecided >= 3, "`used`, `expiring` and a block: {report:?}");
}
