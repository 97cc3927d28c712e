//! What is prepared before an operation, and steps that several operations share.

use crate::child::{Stage, attach, report, value};
use crate::common::existing;
use crate::survivor::MENDING;
use shmvar::crash_point as crash;
use shmvar::format::{Geometry, ZONE};
use shmvar::{AsCoordination, Blocking, Condition, DumpPlan, Index, ItemPart, LockGuard, Number, Segment};
use std::os::unix::fs::FileExt;
use std::time::Duration;

pub const HOUR: Duration = Duration::from_secs(3_600);
pub const YEAR: Duration = Duration::from_secs(31_557_600);
pub const SOON: Duration = Duration::from_millis(300);
/// A time to live that is over at once.
pub const INSTANT: Duration = Duration::from_nanos(1);

/// Lengths of values: in the slot, in a block, in a span.
pub const INLINE: usize = 8;
pub const RECORD: usize = 400;
pub const SPAN: usize = 24_000;

/// What the next process does: it attaches, meets the lock, and reaps the dead.
pub fn mend(s: &mut Stage) {
    let segment = attach(&s.key, 0o600);
    segment.put_bytes(MENDING, &value(1, SPAN)).unwrap();
    segment.remove(MENDING).unwrap();
    segment.trim(&Blocking).unwrap();
    segment.detach();
}

/// Every participant number belongs to a dead process, the first of which has spans; `owner` holds the lock.
pub fn no_number_is_free(s: &mut Stage, owner: u32) {
    let name = existing(&s.key).info().unwrap().name;
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm/{name}")).unwrap();
    for number in 0..1024 {
        // In use, with a pid; claimed once.
        file.write_all_at(&(1_u64 | 77_777 << 32).to_ne_bytes(), 16_384 + number * 64).unwrap();
        file.write_all_at(&1_u64.to_ne_bytes(), 16_384 + number * 64 + 8).unwrap();
    }
    file.write_all_at(&1_u64.to_ne_bytes(), 16_384 + 64 + 24).unwrap();
    file.write_all_at(&1_024_u32.to_ne_bytes(), 4_192).unwrap();
    file.write_all_at(&owner.to_ne_bytes(), 4_096).unwrap();
}

/// Leaves free granules whose pages are present.
pub fn slab_given_back(s: &mut Stage) {
    slab_nearly_empty(s);
    s.remove(3);
}

/// Two slabs of eight blocks each, the second with one record: removing 3 gives it back.
pub fn slab_nearly_empty(s: &mut Stage) {
    (11..19).chain([3]).for_each(|index| s.put(index, 1, 8_000));
    s.remove(11);
}

/// Two slabs of 38 blocks each; all their records would fit one.
pub fn slabs_half_empty(s: &mut Stage) {
    (200..260).for_each(|index| s.put(index, 1, RECORD));
    (210..250).for_each(|index| s.remove(index));
}

/// Makes the file end where the zones in use end.
pub fn file_as_short_as_may_be(s: &mut Stage) {
    let name = s.segment().info().unwrap().name;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(format!("/dev/shm/{name}")).unwrap();
    let word = |offset| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset).unwrap();
        u64::from_ne_bytes(bytes)
    };
    let (granules, zones) = (word(56), word(4_176));
    file.set_len(Geometry::new(granules).unwrap().granule_at(zones * ZONE)).unwrap();
}

/// Stores and removes a value that reached into a second zone.
pub fn a_zone_left_empty(s: &mut Stage) {
    s.put(1, 1, 17 << 20);
    s.remove(1);
}

pub fn span_given_back(s: &mut Stage) {
    (1..4).for_each(|round| s.put(1, round, SPAN));
    s.remove(1);
}

/// A value in a span, and a free span behind it that this process has filled before.
pub fn span_to_write_again(s: &mut Stage) {
    (1..=3).for_each(|round| s.put_text(1, round, SPAN));
    s.put_text(1, 1, SPAN);
}

/// Free spans with their pages, between others.
pub fn warm_spans(s: &mut Stage) {
    (1..=4).for_each(|index| s.put(index + 10, 1, SPAN));
    s.remove(11);
    s.remove(13);
}

pub fn some_of_each(s: &mut Stage) {
    for (index, len) in [INLINE, INLINE, RECORD, RECORD, 8_000, SPAN].into_iter().enumerate() {
        s.put(index as i64, 1, len);
    }
    s.put("one", 1, RECORD);
    s.put("two", 1, SPAN);
}

/// One more fills the table: 112 of the 127 slots of its only leaf are taken, some by the variables of the scene.
pub fn fill_the_table(s: &mut Stage) {
    fill(s, 112);
}

/// One more does not fit the only leaf, which is the largest: 3,584 of its 4,095 slots are taken.
pub fn fill_the_largest_leaf(s: &mut Stage) {
    fill(s, 3_584);
}

/// A table of several leaves.
pub fn fill_the_largest_leaf_and_split(s: &mut Stage) {
    fill(s, 3_590);
}

/// Another process died in `clear`.
pub fn a_table_half_taken_apart(s: &mut Stage) {
    s.another_dies("clear", "doomed-freed:2");
}

/// A table of several leaves; most of its variables were removed.
pub fn leaves_nearly_empty(s: &mut Stage) {
    fill(s, 3_600);
    let first = s.segment().len().unwrap() as i64 - 3_600;
    (first + 40..3_590).for_each(|number| drop(s.segment().remove(100 + number)));
}

fn fill(s: &mut Stage, entries: i64) {
    let count = s.segment().len().unwrap() as i64;
    (count..entries).for_each(|index| s.put(100 + index, 1, INLINE));
}

pub fn in_a_view(s: &mut Stage) {
    s.put(1, 1, SPAN);
    s.held.extend(s.segment().hold(1).unwrap());
    assert_eq!(s.held.len(), 1);
}

/// A thread holds the lock for longer than a fork waits.
pub fn in_a_view_and_a_writer_stands(s: &mut Stage) {
    in_a_view(s);
    crash::pause("lock-taken", Duration::from_secs(2));
    let segment = existing(&s.key);
    s.thread = Some(std::thread::spawn(move || segment.put_bytes(5, &value(1, INLINE)).unwrap()));
    std::thread::sleep(Duration::from_millis(100));
}

/// A forked child reads the view that it inherited, replaces the value, and ends. If it is killed, its parent goes on.
pub fn fork(s: &mut Stage) {
    let kept = s.held[0].bytes().unwrap();
    // SAFETY: the threads of this process hold nothing that the child needs.
    let child = unsafe { libc::fork() };
    if child == 0 {
        assert!(s.held[0].bytes().unwrap() == kept);
        if s.thread.is_none() {
            s.put(1, 2, SPAN);
            assert!(s.held[0].bytes().unwrap() == kept, "a pin of the parent's is the child's, too");
        }
        s.held.clear();
        s.segment().detach();
        crash::arm("");
        report();
        // SAFETY: ends this process without the handlers of its parent.
        unsafe { libc::_exit(0) };
    }
    crash::arm("");
    crash::passed();
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    if let Some(thread) = s.thread.take() {
        thread.join().unwrap();
    }
    if libc::WIFSIGNALED(status) {
        assert_eq!(libc::WTERMSIG(status), 9);
        assert!(s.held[0].bytes().unwrap() == kept, "the child's death takes nothing of the parent's view");
        s.segment().put_bytes(MENDING, &value(1, SPAN)).unwrap();
        assert!(s.held[0].bytes().unwrap() == kept);
        s.segment().check().unwrap();
        std::process::exit(crate::child::OUTLIVED);
    }
    assert_eq!(status, 0);
}

pub fn add<'a>(s: &Stage, index: impl Into<Index<'a>>) {
    assert!(s.segment().add(index, Number::Int(1_000)).unwrap().is_some());
}

pub fn compare_and_put(s: &mut Stage) {
    let version = Condition::Version(s.segment().version(1).unwrap());
    let put = s.segment().put_pickle(&Index::Int(1), &[b"\x80\x05K\x05."], version, &Blocking).unwrap();
    assert!(put.is_some());
}

pub fn put_for<'a>(s: &Stage, index: impl Into<Index<'a>>, len: usize, ttl: Duration) {
    s.segment().put_for(index, &"x".repeat(len), ttl).unwrap();
}

/// A number that would be in its slot if it did not expire.
pub fn small_for(s: &mut Stage, index: i64) {
    s.segment().put_for(index, &5_u8, HOUR).unwrap();
}

pub fn expire<'a>(s: &Stage, index: impl Into<Index<'a>>, ttl: Option<Duration>) {
    assert!(s.segment().expire(index, ttl).unwrap());
}

pub fn in_place_for_an_hour(s: &mut Stage) {
    s.in_place("one", 40_000);
    expire(s, "one", Some(HOUR));
}

/// Expired variables use most of the limit.
pub fn nearly_full(s: &mut Stage) {
    // They expire only after all are stored, because each put frees some that have expired.
    (1..=4).for_each(|index| put_for(s, index, RECORD, SOON));
    put_for(s, 5, 200_000, SOON);
    std::thread::sleep(SOON);
    let used = s.segment().info().unwrap().used;
    s.segment().resize(used + 1_000, &Blocking).unwrap();
}

/// As full as `fill_the_table` leaves it.
pub fn fill_the_table_with_expired(s: &mut Stage) {
    fill_the_table(s);
    (1..=3).for_each(|index| put_for(s, 100 + 100 - index, RECORD, SOON));
    std::thread::sleep(SOON);
}

pub fn pickle(len: usize) -> Vec<u8> {
    let text = "y".repeat(len);
    [&b"\x80\x05X"[..], &(len as u32).to_le_bytes(), text.as_bytes(), b"."].concat()
}

pub fn put_many(s: &Stage, items: &[(i64, usize)]) {
    let pickles: Vec<_> =
        items.iter().map(|(_, len)| if *len == INLINE { b"\x80\x05K\x06.".to_vec() } else { pickle(*len) }).collect();
    let items: Vec<_> =
        items.iter().zip(&pickles).map(|((index, _), pickle)| (Index::Int(*index), &**pickle)).collect();
    s.segment().put_many_pickles(&items).unwrap();
}

/// New variables, and replacements of those of `some_of_each`: in another form, in the same, under a text index.
pub fn put_some_of_each(s: &mut Stage) {
    let (short, record, long) = (&b"\x80\x05K\x06."[..], pickle(RECORD), pickle(SPAN));
    let items = [
        (Index::Int(0), &*record),
        (Index::Int(2), short),
        (Index::Int(5), &*long),
        (Index::Int(9), &*long),
        (Index::Text("one"), &*record),
        (Index::Text("three"), short),
    ];
    s.segment().put_many_pickles(&items).unwrap();
}

/// New variables, and replacements of those of `some_of_each`, none of which needs a span or a slab of large blocks.
pub fn put_a_few_small(s: &mut Stage) {
    let (short, record) = (&b"\x80\x05K\x06."[..], pickle(RECORD));
    let items = [
        (Index::Int(0), &*record),
        (Index::Int(1), short),
        (Index::Int(2), short),
        (Index::Int(3), &*record),
        (Index::Int(50), short),
        (Index::Int(51), &*record),
        (Index::Text("one"), short),
        (Index::Text("three"), &*record),
    ];
    s.segment().put_many_pickles(&items).unwrap();
}

/// One more than fits a set.
pub fn put_many_small(s: &mut Stage) {
    let items: Vec<_> = (1..=17).map(|index| (index, INLINE)).collect();
    put_many(s, &items);
}

/// The process has mapped the granules of a list: the list of the next batch is written under the lock.
pub fn put_many_small_before(s: &mut Stage) {
    let items: Vec<_> = (11..=27).map(|index| (index, INLINE)).collect();
    put_many(s, &items);
    // One by one, so that each has the same version in every segment.
    (11..=27).for_each(|index| s.put(index, 1, INLINE));
}

pub fn trim(s: &mut Stage) {
    s.segment().trim(&Blocking).unwrap();
}

pub fn lock<'a>(segment: &Segment, name: impl Into<Index<'a>>) -> LockGuard {
    segment.lock(name, Some(Duration::from_secs(10))).unwrap().expect("in time")
}

pub fn take<'a>(s: &mut Stage, name: impl Into<Index<'a>>) {
    s.locks.push(lock(s.segment.as_ref().unwrap(), name));
}

/// Another thread takes the lock 1, if it is free, and releases it when `until` returns.
pub fn a_thread_holds(s: &mut Stage, until: fn(&Segment)) {
    let (segment, (tell, told)) = (existing(&s.key), std::sync::mpsc::channel());
    s.thread = Some(std::thread::spawn(move || {
        let guard = segment.lock(1, Some(Duration::ZERO)).unwrap();
        tell.send(()).unwrap();
        if guard.is_some() {
            until(&segment);
        }
        drop(guard);
    }));
    told.recv().unwrap();
}

/// Reads bytes of the segment's file.
fn bytes_at(segment: &Segment, offset: u64, len: usize) -> Vec<u8> {
    let file = std::fs::File::open(format!("/dev/shm/{}", segment.info().unwrap().name)).unwrap();
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

fn until(mut come: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if come() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nobody came");
}

/// Waits until some lock with an integer name has a `next` (docs/format.md, "Slot").
pub fn until_somebody_is_next(segment: &Segment) {
    let word = |offset| u64::from_le_bytes(bytes_at(segment, offset, 8).try_into().unwrap());
    let geometry = shmvar::format::Geometry::new(word(56)).unwrap();
    let next = |slot: &[u8]| slot[16] & 0x47 == 0x42 && slot[22..26] != [0xff; 4];
    until(|| {
        // So few names have one leaf.
        let root = shmvar::format::Root(word(4_168));
        let leaf = shmvar::format::LeafWord(word(geometry.granule_at(root.granule())));
        let slots = bytes_at(segment, geometry.granule_at(leaf.granule()), leaf.size() as usize * 4_096);
        slots.chunks(32).skip(1).any(next)
    });
}

/// Waits until the next one also sleeps.
pub fn until_somebody_next_sleeps(segment: &Segment) {
    until_somebody_is_next(segment);
    std::thread::sleep(Duration::from_millis(100));
}

/// Waits longer than the one that waits in vain.
pub fn until_the_end(_: &Segment) {
    std::thread::sleep(Duration::from_secs(50));
}

/// Waits until some wake word says that a process sleeps until a variable changes.
pub fn until_somebody_waits(s: &mut Stage) {
    until(|| bytes_at(s.segment(), 12_288, 4_096).chunks(16).any(|word| word[4] & 1 == 1));
}

pub fn watch(s: &mut Stage) {
    s.segment().attachment().unwrap().coordination().mark_watched(&Index::Int(1), false, &Blocking).unwrap();
}

/// Puts an item that tells its own number.
pub fn enqueue<'a>(s: &mut Stage, queue: impl Into<Index<'a>>, round: u64, len: usize) {
    assert!(s.segment().queue_put(queue, &value(round, len), None).unwrap());
}

/// Puts three small items.
pub fn enqueue_some<'a>(s: &mut Stage, queue: impl Into<Index<'a>> + Copy) {
    for (round, len) in [(1, RECORD), (2, 8), (3, RECORD)] {
        enqueue(s, queue, round, len);
    }
}

/// Gets the first item.
pub fn dequeue<'a>(s: &mut Stage, queue: impl Into<Index<'a>>) {
    let item = s.segment().queue_get(queue, None).unwrap().expect("an item");
    assert_eq!(item, value(1, item.len()));
}
/// No more fits, and four variables may be evicted: those that expire. The last one is large, for the process that goes
/// on afterwards.
pub fn at_the_limit(s: &mut Stage) {
    (20..23_u64).for_each(|index| put_for(s, index as i64, 1_000, Duration::from_secs(1_000 * index)));
    put_for(s, 23, 100_000, Duration::from_secs(1_000_000));
    let used = s.segment().info().unwrap().used;
    s.segment().resize(used, &Blocking).unwrap();
}

/// A batch for which all three of them have to go.
pub fn put_several(s: &Stage) {
    let pickle = [b"\x80\x04X\x84\x03\0\0".as_slice(), &[b'x'; 900], b"."].concat();
    let items: Vec<(Index<'_>, &[u8])> = (1..=3).map(|index| (Index::Int(index), pickle.as_slice())).collect();
    s.segment().put_many_pickles(&items).unwrap();
}

/// Stores small variables until there are so many.
pub fn fill_to(s: &Stage, entries: i64) {
    let count = s.segment().len().unwrap() as i64;
    (count..entries).for_each(|index| s.put(10_000 + index, 1, INLINE));
}

/// Removes most of what `fill_to` has stored.
pub fn leave_few(s: &Stage) {
    let indexes = s.segment().indexes().unwrap();
    for index in indexes.iter().filter(|index| matches!(index.as_index(), Index::Int(10_040..))) {
        s.segment().remove(index.as_index()).unwrap();
    }
}

/// Dumps everything.
pub fn dump(s: &mut Stage) {
    let mut len = 0;
    let mut write = |bytes: &[u8]| {
        len += bytes.len();
        Ok(())
    };
    let dumped = s.segment().dump(&mut write, &Blocking).unwrap();
    assert!(dumped.variables > 0 && len > 0);
}

/// Loads a dump with such variables, and with a text index.
pub fn load(s: &Stage, items: &[(i64, usize)]) {
    let mut dump = b"shmvar dump 2\n".to_vec();
    for (index, len) in items.iter().chain(&[(-1, SPAN)]) {
        let pickle = if *len == INLINE { b"\x80\x05K\x06.".to_vec() } else { pickle(*len) };
        let index = if *index < 0 { "\"two\"".to_string() } else { index.to_string() };
        dump.extend(format!("{{\"index\": {index}, \"length\": {}}}\n", pickle.len()).bytes());
        dump.extend(pickle);
        dump.push(b'\n');
    }
    dump.extend(format!("{{\"variables\": {}, \"items\": 0, \"sha256\": \"\"}}\n", items.len() + 1).bytes());
    let read = |at: &mut usize, to: &mut [u8]| {
        let some = to.len().min(dump.len() - *at);
        to[..some].copy_from_slice(&dump[*at..*at + some]);
        *at += some;
        Ok(some)
    };
    let (len, mut first, mut second) = (dump.len() as u64, 0, 0);
    let plan = DumpPlan::read(&mut |to| read(&mut first, to), len).unwrap();
    let (mut source, mut keep, mut all_read) =
        (|to: &mut [u8]| read(&mut second, to), |_: ItemPart<'_>| Ok(()), || Ok(()));
    let loaded = s.segment().load_variables(&mut source, len, &plan, &mut keep, &mut all_read, &Blocking);
    loaded.unwrap();
}
