//! Segments of the kernel: attaching, and the calls of a handle.

use crate::error::Error;
use crate::os::sysv_shm;
use crate::php::segment::Segment;
use std::sync::atomic::{AtomicI32, Ordering};

/// A key that is this test's alone. Its segment is removed at the end, however the test ends.
struct Key(i32);

impl Key {
    fn new() -> Self {
        static NEXT: AtomicI32 = AtomicI32::new(1);
        Key(0x5040_0000 | (std::process::id() as i32 & 0xfff) << 8 | NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = sysv_shm::find(self.0).and_then(sysv_shm::remove);
    }
}

fn text(segment: &Segment, index: i64) -> Option<Vec<u8>> {
    segment.read(index, |text, _| text.to_vec()).unwrap()
}

#[test]
fn a_handle_creates_stores_reads_and_removes() {
    let key = Key::new();
    assert!(matches!(Segment::attach(key.0, 10_000, 0o600, Some(false)), Err(Error::NotFound(_))));
    assert!(matches!(Segment::attach(key.0, 39, 0o600, None), Err(Error::Invalid(_))));
    let segment = Segment::attach(key.0, 10_000, 0o600, None).unwrap();
    assert!(segment.created() && segment.size() == 10_000);
    assert!(matches!(Segment::attach(key.0, 10_000, 0o600, Some(true)), Err(Error::Exists(_))));
    for index in 0..249 {
        segment.put(index, format!("i:{index};").as_bytes(), false).unwrap();
    }
    assert!(matches!(segment.put(249, b"i:1;", false), Err(Error::Full { needed: 40, free: 0, .. })));
    let other = Segment::attach(key.0, 1, 0o600, None).unwrap();
    assert!(!other.created());
    assert_eq!(other.indexes().unwrap(), (0..249).collect::<Vec<_>>());
    assert_eq!(text(&other, 248).unwrap(), b"i:248;");
    assert!(other.remove(7).unwrap() && !other.remove(7).unwrap() && !segment.has(7).unwrap());
    segment.put(249, b"i:1;", false).unwrap();
    for round in 0..100 {
        segment.put(3, format!("s:4:\"{round:04}\";").as_bytes(), round % 2 == 0).unwrap_err();
        segment.put(3, format!("i:{round};").as_bytes(), round % 2 == 0).unwrap();
    }
    let info = other.info().unwrap();
    assert_eq!((info.count, info.free, info.used, info.attached), (249, 0, 9_960, 2));
    segment.clear().unwrap();
    assert_eq!((other.indexes().unwrap(), other.info().unwrap().free), (vec![], 9_960));
    for round in 0..100 {
        segment.put(3, format!("i:{round};").as_bytes(), false).unwrap();
        assert_eq!(text(&other, 3).unwrap(), format!("i:{round};").as_bytes());
    }
    other.destroy().unwrap();
    other.destroy().unwrap();
    segment.detach().unwrap();
    assert!(matches!(segment.put(1, b"N;", false), Err(Error::Detached)) && segment.is_detached());
    // What was the room of gaps is still theirs: a handle that is detached stores nothing.
    let info = other.info().unwrap();
    assert!(info.count == 1 && info.attached == 1 && info.free >= 9_960 - 40 - 10_000 / 32, "{info:?}");
}

#[test]
fn one_of_many_who_attach_first_creates_the_segment() {
    for _ in 0..20 {
        let key = Key::new();
        let number = key.0;
        let attach = move |index: i64| {
            let segment = Segment::attach(number, 10_000, 0o600, None).unwrap();
            (segment.created(), segment.has(index).unwrap())
        };
        let created: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|index| scope.spawn(move || attach(index))).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap().0)).sum()
        });
        assert_eq!(created, 1);
    }
}

#[test]
fn a_segment_of_others_is_never_formatted() {
    // Its creator lives, and formats it no more.
    let key = Key::new();
    sysv_shm::create(key.0, 4_096, 0o600).unwrap();
    assert!(matches!(Segment::attach(key.0, 4_096, 0o600, None), Err(Error::Incompatible(_))));
    let map = sysv_shm::Mapping::new(sysv_shm::find(key.0).unwrap()).unwrap();
    assert_eq!(map.load(0).unwrap(), 0);
    // A process of this package was killed before it stored the magic: the header alone is not believed.
    for (offset, number) in [(8, 40), (16, 40), (24, 4_056), (32, 4_096)] {
        map.store(offset, number).unwrap();
    }
    assert!(matches!(Segment::attach(key.0, 4_096, 0o600, None), Err(Error::Incompatible(_))));
    assert_eq!(map.load(0).unwrap(), 0);
    map.store(0, 0x1234).unwrap();
    assert!(matches!(Segment::attach(key.0, 4_096, 0o600, Some(false)), Err(Error::Incompatible(_))));
    assert_eq!(map.load(0).unwrap(), 0x1234);
    let short = Key::new();
    sysv_shm::create(short.0, 8, 0o600).unwrap();
    assert!(matches!(Segment::attach(short.0, 8, 0o600, None), Err(Error::Incompatible(_))));
}
