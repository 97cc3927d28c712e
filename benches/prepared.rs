//! What the benches work on, and the prelude of each: none of it is counted.

use shmvar::codec::scalar;
use shmvar::format::identity::{Identity, Unverified};
use shmvar::format::{IDENTITY_LEN, Slot};
use shmvar::sync::slot::{Content, Seqlock};
use shmvar::{Blocking, Condition, Index, Options, Segment};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;

/// How often each bench does its work.
pub const TIMES: i64 = 1000;

/// A segment that is destroyed at the end.
pub struct Fresh(pub Segment);

impl Fresh {
    /// Without variables, and with the same hash key in every run: a random one decides how far each search goes, and
    /// with it on more than the change of one part in a hundred that shall be seen.
    fn empty() -> Segment {
        let key = i64::from(std::process::id()) << 32 | 0x6265_6e63;
        let options = Options { size: Some(1 << 30), ..Options::default() };
        let segment = Segment::attach(key, &options).unwrap();
        let name = segment.info().unwrap().name;
        segment.detach();
        let file = OpenOptions::new().read(true).write(true).open(format!("/dev/shm/{name}")).unwrap();
        let mut bytes = [0; IDENTITY_LEN];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let identity = Unverified::new(&bytes).finalize(&name, file.metadata().unwrap().len()).unwrap();
        let identity = Identity { hash_key: [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321], ..identity };
        file.write_all_at(&identity.to_bytes(), 0).unwrap();
        Segment::attach(key, &options).unwrap()
    }

    /// With so many ints.
    pub fn with_ints(count: i64) -> Self {
        let segment = Self::empty();
        for number in 0..count {
            put(&segment, number, scalar::int(number).as_slice());
        }
        Fresh(segment)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.0.destroy().unwrap();
    }
}

/// Stores a pickle.
pub fn put(segment: &Segment, index: i64, pickle: &[u8]) {
    segment.put_pickle(&Index::from(index), &[pickle], Condition::Always, &Blocking).unwrap();
}

/// Indices in an order that no prefetcher knows.
pub fn scattered(count: i64) -> impl Iterator<Item = i64> {
    (0..TIMES).map(move |turn| turn.wrapping_mul(7_919) % count)
}

/// A slot that holds an int.
pub fn slot() -> Box<Slot> {
    let word = || AtomicU64::new(0);
    let slot = Box::new(Slot { word: word(), rest: [word(), word(), word()] });
    slot.write(&Content::inline(7, 0, scalar::int(7).as_slice()).with_version(2));
    slot
}

/// A thousand records of so many bytes.
pub fn records(len: usize) -> Fresh {
    let fresh = Fresh::with_ints(0);
    for index in 0..TIMES {
        fresh.0.put_bytes(index, &vec![7; len]).unwrap();
    }
    fresh
}
