//! False lengths and loops: a call that believed them would take much time or memory.

use crate::image::{Image, QUEUES, SPAN, pickle, place};
use shmvar::format::{DEPTH_MAX, LEAF_MAX, PAGE, Root, SpanEntry, SpanState, at, granules_of};
use shmvar::{AsVariables, Blocking, Condition, Error, Index, Key, Options, Segment, TableOf};
use shmvar::{format::slot_flags::TEXT, sync::slot::Content};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// Writes an image to its file, and removes the file in any case.
pub struct Laid {
    pub file: File,
    name: String,
}

impl Laid {
    pub fn new(image: &Image) -> Self {
        Laid { file: image.lay(), name: image.name.clone() }
    }

    pub fn attach(&self, image: &Image, readonly: bool) -> Segment {
        let options = Options { create: Some(false), readonly, ..Options::default() };
        Segment::attach(image.key.clone(), &options).unwrap()
    }

    fn grown(&self, image: &Image) -> u64 {
        (self.file.metadata().unwrap().blocks() * 512).saturating_sub(image.bytes())
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(format!("/dev/shm/{}", self.name));
    }
}

pub fn image(name: &str) -> Image {
    crate::watch();
    Image::take(&Key::text(&format!("test-{}-{name}", std::process::id())).unwrap(), 470)
}

/// A directory of 64 million words, each of them a leaf, in a segment that takes less than two mebibytes.
#[test]
fn f28_a_table_that_claims_more_words_than_there_is_memory_is_not_walked() {
    let mut image = image("table");
    let zones = image.geometry.zones_max;
    image.set(place::ZONES, zones);
    let directory = Root(image.word(place::ROOT)).granule();
    image.set(image.entry_at(directory), SpanEntry::new(SpanState::Directory, granules_of(8 << DEPTH_MAX)).0);
    image.set(place::ROOT, Root::new(directory, DEPTH_MAX, 1).0);
    let laid = Laid::new(&image);
    for readonly in [true, false] {
        let segment = laid.attach(&image, readonly);
        for answer in [
            segment.indexes().map(drop),
            segment.has(1).map(drop),
            segment.len().map(drop),
            segment.put(1, &1),
            segment.check().map(drop),
            // The table is searched for what has expired.
            segment.info().map(drop),
            // `clear` replaces the table, and does not follow what it names for long.
            segment.clear(),
        ] {
            assert!(matches!(answer, Err(Error::Corrupt(_) | Error::ReadOnly)), "{answer:?}");
        }
    }
    // `info` looks at one page of each zone that is claimed to be in use, not at all of the zone.
    let bitmaps = zones * 2 * PAGE;
    assert!(laid.grown(&image) < bitmaps + (4 << 20), "{} bytes more", laid.grown(&image));
    let segment = laid.attach(&image, false);
    segment.put(1, &1).unwrap();
    assert_eq!(segment.get::<i64>(1).unwrap(), Some(1));
}

/// Leaves in which every slot has a variable with the same hash: neither a search nor a replacement goes on for ever.
#[test]
fn f30_leaves_in_which_all_variables_have_one_hash_end_a_growth_with_an_answer() {
    crate::watch();
    let fresh = crate::common::Fresh::new("one-hash", 64 << 20);
    let segment = &fresh.segment;
    for index in 0..8_000 {
        segment.put(index, &index).unwrap();
    }
    let name = segment.info().unwrap().name;
    // Each leaf becomes as large as a leaf can be, unless it is split first.
    let att = segment.for_change().unwrap();
    for hash in (0..8_u64).map(|number| number << 61) {
        let leaf = att.variables().leaf_of(hash, TableOf::Variables).unwrap();
        let more = 2_840_u64.saturating_sub(att.variables().counts_of(&leaf).unwrap().entries);
        att.variables().grow(&leaf, hash, TableOf::Variables, more, &Blocking).unwrap();
    }
    segment.check().unwrap();
    let image = Image::read(&name, &fresh.key);
    let words = image.words(place::ROOT);
    let leaves = image.leaves(place::ROOT);
    assert!(leaves.iter().any(|(_, word)| word.size() == LEAF_MAX));
    let file = File::options().read(true).write(true).open(format!("/dev/shm/{name}")).unwrap();
    let write = |offset: u64, value: u64| {
        std::os::unix::fs::FileExt::write_all_at(&file, &value.to_le_bytes(), offset).unwrap();
    };
    let slab = image.spans().into_iter().find(|(_, entry)| entry.state() == SpanState::Slab).map_or(3, |(at, _)| at);
    for (base, word) in leaves {
        let first = words.iter().position(|at| image.word(*at) == word.0).unwrap() as u64;
        let hash = first << (64 - words.len().ilog2());
        let content = Content::record(hash, TEXT, 9, 12, slab, Some(1)).with_version(7);
        for number in 1..=word.slots() {
            for (i, part) in [content.word, content.rest[0], content.rest[1], content.rest[2]].into_iter().enumerate() {
                write(base + number * 32 + i as u64 * 8, part);
            }
        }
        write(base, word.slots() << 32 | word.slots());
    }
    let began = Instant::now();
    for index in 0..20 {
        let answer = segment.put(-1 - index, &1);
        assert!(matches!(answer, Ok(()) | Err(Error::Corrupt(_) | Error::Full { .. } | Error::Busy(_))), "{answer:?}");
    }
    let has = segment.has("elsewhere");
    assert!(matches!(has, Ok(false) | Err(Error::Corrupt(_))), "{has:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

/// The images that the other tests damage are sound.
#[test]
fn f28_what_is_damaged_was_sound_before() {
    let quiet = image("sound");
    for image in [&quiet, &quiet.pending(), &quiet.pending_set(), &quiet.batch(), &quiet.doomed()] {
        let laid = Laid::new(image);
        let segment = laid.attach(image, false);
        segment.check().unwrap();
        segment.put(1, &5).unwrap();
        segment.trim(&Blocking).unwrap();
        segment.clear().unwrap();
        segment.check().unwrap();
    }
}

/// A doomed table is freed: everything that it names, once, beginning at its cursor.
#[test]
fn f1_a_doomed_table_is_taken_apart_by_whoever_needs_room() {
    let image = image("doomed").doomed();
    let laid = Laid::new(&image);
    let segment = laid.attach(&image, false);
    let before = segment.check().unwrap();
    assert!(before.live > 0 && before.blocks > 1 && before.variables == 0);
    segment.trim(&Blocking).unwrap();
    // Queues stay, until their items are got.
    for queue in QUEUES {
        while segment.queue_get(queue, Some(Duration::ZERO)).unwrap().is_some() {}
    }
    let after = segment.check().unwrap();
    // The record of a lock with a text name stays while its owner is not yet reaped.
    assert_eq!((after.live, after.variables, after.retired), (0, 0, 0));
    assert!(after.blocks <= 1 && after.free > before.free);
}

/// Extreme limits and uses: sums of such numbers would overflow.
#[test]
fn f28_a_limit_without_end_overflows_no_sum() {
    let mut image = image("limit");
    for (limit, used) in [(u64::MAX, 0), (u64::MAX, u64::MAX), (0, u64::MAX), (1 << 63, 1), (u64::MAX - 31, 0)] {
        image.set(place::LIMIT, limit);
        image.set(place::USED, used);
        let laid = Laid::new(&image);
        let segment = laid.attach(&image, false);
        let info = segment.info().unwrap();
        let listed = shmvar::segments().unwrap().into_iter().find(|listed| listed.name == info.name).unwrap();
        assert_eq!((info.size, listed.size, info.used), (limit, limit, used));
        assert!(info.largest_put < 1 << 48 && listed.largest_put < 1 << 48);
        match segment.put_pickle(&Index::Int(1), &[&[b'.'; 500]], Condition::Always, &Blocking) {
            Ok(_) | Err(Error::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A lock word with the number of no process, or of a dead one, is taken over; a call waits for a living one, with a bound.
#[test]
fn f28_a_lock_word_that_names_nobody_is_taken_over_and_a_living_one_is_waited_for() {
    let mut image = image("lock");
    for word in [crate::image::DEAD + 1, 900, 1_025, 0x7fff_ffff, 0xffff_ffff, 1 << 31 | 2] {
        image.set(place::LOCK, word);
        let laid = Laid::new(&image);
        let segment = laid.attach(&image, false);
        segment.put(1, &1).unwrap();
        segment.check().unwrap();
    }
    image.set(place::LOCK, 0);
    let laid = Laid::new(&image);
    let segment = laid.attach(&image, false);
    // Our own number: another thread of this process, alive by definition.
    std::os::unix::fs::FileExt::write_all_at(&laid.file, &1_u32.to_le_bytes(), place::LOCK).unwrap();
    let began = std::time::Instant::now();
    assert!(matches!(segment.put(1, &2), Err(Error::Busy(_))));
    assert!(began.elapsed() < std::time::Duration::from_secs(15));
    assert_eq!(segment.get::<i64>(1).unwrap(), Some(1), "a reader does not wait");
    std::os::unix::fs::FileExt::write_all_at(&laid.file, &0_u32.to_le_bytes(), place::LOCK).unwrap();
    segment.put(1, &2).unwrap();
}

/// An intent with more edits than there is room for, or with edits where there can be none.
#[test]
fn f28_an_intent_that_nobody_could_have_written_is_dropped_and_the_next_call_goes_on() {
    let quiet = image("intent");
    for (word, value) in [
        (2, !31),
        (2, place::LOCK),
        (7, u64::MAX),
        (7, quiet.words(place::ROOT)[0]),
        (9, u64::MAX),
        (10, u64::MAX),
        (11, u64::MAX),
        (11, 0),
        (17, u64::MAX),
        (22, u64::MAX),
        (24, u64::MAX),
        (24, place::ROOT),
        (25, u64::MAX),
        (25, 1 << 61),
        (26, u64::MAX),
        (27, 0),
        (32, u64::MAX),
        (34, u64::MAX),
    ] {
        let mut image = quiet.pending();
        image.set(at::INTENT + word * 8, value);
        let laid = Laid::new(&image);
        let options = Options { create: Some(false), ..Options::default() };
        let first =
            Segment::attach(image.key.clone(), &options).and_then(|segment| segment.put(1, &1).map(|()| segment));
        if let Err(error) = first {
            assert!(matches!(error, Error::Corrupt(_)), "{error}");
        }
        let segment = laid.attach(&image, false);
        segment.put(1, &1).unwrap();
        assert_eq!(segment.get::<i64>(1).unwrap(), Some(1));
    }
}

/// A small batch whose intent nobody could have written is dropped, and nobody waits for its end.
#[test]
fn f28_a_set_that_nobody_could_have_written_is_dropped_and_get_many_goes_on() {
    let quiet = image("set");
    let (intent, many) = (at::INTENT, quiet.word(place::MANY));
    let leaf = quiet.words(place::ROOT)[0];
    for (offset, value) in [
        (place::SET, !31),
        (place::SET, place::LOCK),
        (place::SET, 0),
        (place::SET + 56, u64::MAX),
        (place::SET + 8, u64::MAX),
        (place::SET + 40, u64::MAX),
        (place::SET + 40, 0),
        (place::SET + 40, leaf),
        (place::SET_BLOCKS, u64::MAX),
        (place::SET_BLOCKS, 0),
        // A slot, a leaf, a batch, a number of `many` that no set has; more slots and blocks than there is room for.
        (intent + 2 * 8, quiet.slot_of(2)),
        (intent + 16 * 8, 1 << 63 | 2 << 40),
        (intent + 16 * 8, 0xff << 40),
        (intent + 16 * 8, 2 << 40 | 0xff << 48),
        (intent + 19 * 8, 8),
    ] {
        let mut image = quiet.pending_set();
        image.set(offset, value);
        let laid = Laid::new(&image);
        let options = Options { create: Some(false), ..Options::default() };
        let first = Segment::attach(image.key.clone(), &options)
            .and_then(|segment| segment.put(1, &1).map(|()| segment))
            .map(drop);
        // Attaching may have met it already.
        assert!(matches!(first, Ok(()) | Err(Error::Corrupt(_))), "{offset} {value:x}: {first:?}");
        let segment = laid.attach(&image, false);
        segment.put(1, &1).unwrap();
        // The slot that was busy stays so, and may stand in the way of another index.
        let began = Instant::now();
        let values = segment.get_many_pickles(&[Index::Int(1), Index::Int(1000)]);
        assert!(matches!(&values, Ok(values) if values.len() == 2) || matches!(values, Err(Error::Corrupt(_))));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let now = std::os::unix::fs::FileExt::read_at;
        let mut bytes = [0; 8];
        now(&laid.file, &mut bytes, place::MANY).unwrap();
        assert!(u64::from_le_bytes(bytes) > many && bytes[0] % 2 == 0);
    }
}

/// An intent that stores into a directory of half a gibibyte, of which one page exists.
#[test]
fn f28_an_intent_of_more_directory_words_than_there_is_memory_is_dropped() {
    let mut image = image("words").pending();
    let zones = image.geometry.zones_max;
    let word = |image: &mut Image, number: u64, value| image.set(at::INTENT + number * 8, value);
    let root = Root::new(Root(image.word(place::ROOT)).granule(), DEPTH_MAX, 1).0;
    word(&mut image, 9, root);
    word(&mut image, 11, zones);
    word(&mut image, 25, 1 << DEPTH_MAX);
    let laid = Laid::new(&image);
    let options = Options { create: Some(false), ..Options::default() };
    let first = Segment::attach(image.key.clone(), &options).and_then(|segment| segment.put(1, &1));
    assert!(matches!(first, Ok(()) | Err(Error::Corrupt(_))), "{first:?}");
    let segment = laid.attach(&image, false);
    segment.put(1, &1).unwrap();
    assert!(laid.grown(&image) < 4 << 20, "{} bytes more", laid.grown(&image));
}

/// The batch that the other tests damage is sound: the next process finishes it.
#[test]
fn f1_the_batch_of_somebody_dead_is_brought_to_its_end() {
    let image = image("batch").batch();
    let laid = Laid::new(&image);
    let segment = laid.attach(&image, false);
    let indexes = [1, 2, 20].map(Index::Int);
    let lens = segment.get_many_pickles(&indexes).unwrap().into_iter().map(|pickle| pickle.map(|pickle| pickle.len()));
    // The first entry counts as made: 1 is as it was.
    assert_eq!(lens.collect::<Vec<_>>(), [Some(5), Some(32), Some(pickle(SPAN).len())]);
    let report = segment.check().unwrap();
    assert_eq!((report.busy, report.dead, report.locks), (0, 0, 0));
}
