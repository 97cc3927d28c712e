//! Lengths and loops that would take long, or much, if they were believed.

use crate::image::{Image, pickle, place};
use shmvar::layout::{Entry, SpanState, at};
use shmvar::slot::{Content, TEXT};
use shmvar::{Condition, Error, Index, Key, Options, Plain, Segment};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Lays an image down, and takes it away again whatever happens.
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

/// 64 GiB of slots, in a segment that takes less than a mebibyte.
#[test]
fn f28_a_table_that_claims_more_slots_than_there_is_memory_is_not_walked() {
    let mut image = image("table");
    let zones = image.geometry.zones_max;
    image.set(place::ZONES, zones);
    let order = zones.ilog2() + 10;
    image.set(image.entry_at(0), Entry::new(SpanState::Table, order).with_present(1 << 30).with_sticky().0);
    image.set(place::ROOT, u64::from(order + 9) << 24 | 1);
    let laid = Laid::new(&image);
    for readonly in [true, false] {
        let segment = laid.attach(&image, readonly);
        for answer in [
            segment.indexes().map(drop),
            segment.has(1).map(drop),
            segment.len().map(drop),
            segment.clear(),
            segment.put(1, &1),
            segment.check().map(drop),
            // Its locks and what has expired are looked for in the table.
            segment.info().map(drop),
        ] {
            assert!(matches!(answer, Err(Error::Corrupt(_) | Error::ReadOnly)), "{answer:?}");
        }
    }
    assert!(laid.grown(&image) < 4 << 20, "{} bytes more", laid.grown(&image));
}

/// A larger table is filled by looking for a free slot for each variable: not for ever where all have one hash.
#[test]
fn f30_a_table_in_which_all_variables_have_one_hash_ends_a_growth_with_an_error() {
    crate::watch();
    let fresh = crate::common::Fresh::new("one-hash", 64 << 20);
    let segment = &fresh.segment;
    for index in 0..30_000 {
        segment.put(index, &index).unwrap();
    }
    let report = segment.check().unwrap();
    assert_eq!(report.slots, 131_072);
    let file =
        File::options().read(true).write(true).open(format!("/dev/shm/{}", segment.info().unwrap().name)).unwrap();
    let word = |offset: u64| {
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, offset).unwrap();
        u64::from_le_bytes(bytes)
    };
    let write = |offset: u64, value: u64| {
        std::os::unix::fs::FileExt::write_all_at(&file, &value.to_le_bytes(), offset).unwrap();
    };
    let geometry = shmvar::layout::Geometry::new(word(56)).unwrap();
    let base = geometry.granule_at(word(place::ROOT) >> 32);
    let content = Content::record(0, TEXT, 9, 12, 3, Some(1)).with_version(7);
    for slot in 0..report.slots {
        for (i, part) in [content.word, content.rest[0], content.rest[1], content.rest[2]].into_iter().enumerate() {
            write(base + slot * 32 + i as u64 * 8, part);
        }
    }
    let answer = segment.put(-1, &1);
    assert!(matches!(answer, Err(Error::Corrupt(_) | Error::Full { .. })), "{answer:?}");
    assert!(!segment.has("elsewhere").unwrap());
}

/// Whoever says that without end may be stored, and that nothing is: sums of such numbers overflow.
#[test]
fn f28_a_limit_without_end_overflows_no_sum() {
    let mut image = image("limit");
    for (limit, used) in [(u64::MAX, 0), (u64::MAX, u64::MAX), (0, u64::MAX), (1 << 63, 1), (u64::MAX - 31, 0)] {
        image.set(place::ZONES + 8, limit);
        image.set(place::USED, used);
        let laid = Laid::new(&image);
        let segment = laid.attach(&image, false);
        let info = segment.info().unwrap();
        let listed = shmvar::segments().into_iter().find(|listed| listed.name == info.name).unwrap();
        assert_eq!((info.size, listed.size, info.used), (limit, limit, used));
        assert!(info.largest_put < 1 << 48 && listed.largest_put < 1 << 48);
        match segment.put_pickle(&Index::Int(1), &[&[b'.'; 500]], Condition::Always, &Plain) {
            Ok(_) | Err(Error::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A lock that names a number which nobody has, or a dead one, is taken over; a living one is waited for, within the bound.
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
    // Our own number: another thread of ours, by definition alive.
    std::os::unix::fs::FileExt::write_all_at(&laid.file, &1_u32.to_le_bytes(), place::LOCK).unwrap();
    let began = std::time::Instant::now();
    assert!(matches!(segment.put(1, &2), Err(Error::Busy(_))));
    assert!(began.elapsed() < std::time::Duration::from_secs(15));
    assert_eq!(segment.get::<i64>(1).unwrap(), Some(1), "a reader does not wait");
    std::os::unix::fs::FileExt::write_all_at(&laid.file, &0_u32.to_le_bytes(), place::LOCK).unwrap();
    segment.put(1, &2).unwrap();
}

/// An intent of more edits than there is room for, in a place where none can be.
#[test]
fn f28_an_intent_that_nobody_could_have_written_is_dropped_and_the_next_call_goes_on() {
    let quiet = image("intent");
    for (word, value) in [(2, !31), (7, u64::MAX), (8, u64::MAX), (13, u64::MAX), (16, u64::MAX), (18, u64::MAX)] {
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

/// What every damaged batch is made of is one that whoever comes brings to its end.
#[test]
fn f1_the_batch_of_somebody_dead_is_brought_to_its_end() {
    let image = image("batch").batch();
    let laid = Laid::new(&image);
    let segment = laid.attach(&image, false);
    let indexes = [1, 2, 20].map(Index::Int);
    let lens = segment.get_many_pickles(&indexes).unwrap().into_iter().map(|pickle| pickle.map(|pickle| pickle.len()));
    // The first entry counts as made: 1 is as it was.
    assert_eq!(lens.collect::<Vec<_>>(), [Some(5), Some(32), Some(pickle(17_000).len())]);
    let report = segment.check().unwrap();
    assert_eq!((report.busy, report.dead, report.locks), (0, 0, 0));
}
