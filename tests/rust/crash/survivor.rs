//! What a survivor finds after a death, first through a read-only handle, then as a writer; and that nothing is left behind.

use crate::child::value;
use shmvar::format::SET_SLOTS;
use shmvar::{AsVariables, Blocking, Error, Index, IndexBuf, Key, Options, Segment, WaitPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The index that a repairing process uses; no operation uses it.
pub const MENDING: i64 = -1;

/// The contents of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub limit: u64,
    pub variables: BTreeMap<IndexBuf, Variable>,
    /// Of each queue: how many items it has, waiting or held, and what it is charged.
    pub queues: BTreeMap<IndexBuf, (u64, u64)>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    version: u64,
    size: u64,
    /// In how many tenths of an hour it expires, rounded.
    expires: Option<u64>,
    /// `None` for very large values: reading them would take more time than everything else.
    pickle: Option<Vec<u8>>,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tail = self.pickle.as_ref().map(|pickle| &pickle[pickle.len().saturating_sub(9)..]);
        write!(f, "version {}, {} bytes, ..{tail:?}", self.version, self.size)
    }
}

impl Snapshot {
    pub fn of(segment: &Segment) -> Snapshot {
        let mut variables = BTreeMap::new();
        for owned in segment.indexes().unwrap() {
            let index = owned.as_index();
            if index == Index::Int(MENDING) {
                continue;
            }
            let stat = segment.stat(index).unwrap().expect("nobody removes it");
            let read = || segment.get_pickle(&index, &Blocking).unwrap().expect("nobody removes it");
            let pickle = (stat.size < 1 << 20).then(read);
            let expires = stat.expires_in.map(|left| (left + 180_000_000_000) / 360_000_000_000);
            variables.insert(owned.clone(), Variable { version: stat.version, size: stat.size, expires, pickle });
        }
        let queues = segment.queues().unwrap().into_iter();
        let queues = queues.map(|queue| (queue.name, (queue.waiting + queue.held, queue.used))).collect();
        Snapshot { limit: segment.size().unwrap(), variables, queues }
    }

    /// The version of a variable, if it is there.
    pub fn version(&self, index: &IndexBuf) -> Option<u64> {
        self.variables.get(index).map(|variable| variable.version)
    }

    /// This state, which a batch has made in another segment, as it is where the versions were given in the order of
    /// `found`. A batch of more than a set goes by the hashes, and each segment has hashes of its own; a smaller one goes
    /// by the caller's order, and nothing is different.
    pub fn in_the_order_of(&self, found: &Snapshot, old: &Snapshot) -> Snapshot {
        let is_new = |(index, variable): &(&IndexBuf, &Variable)| old.version(index) != Some(variable.version);
        let mut given: BTreeSet<u64> = self.variables.iter().filter(is_new).map(|(_, new)| new.version).collect();
        let mut new = self.clone();
        if given.len() <= SET_SLOTS {
            return new;
        }
        for (index, variable) in &mut new.variables {
            // Each version is given once.
            if let Some(version) = found.version(index).filter(|version| given.remove(version)) {
                variable.version = version;
            }
        }
        new
    }

    /// The versions of all variables.
    pub fn versions(&self) -> BTreeMap<IndexBuf, u64> {
        self.variables.iter().map(|(index, variable)| (index.clone(), variable.version)).collect()
    }

    /// A reader that may not write cannot repair, but must be able to read. A destroyed segment is read through `left`.
    pub fn read_only(key: &Key, left: &Segment) -> Snapshot {
        let options = Options { readonly: true, ..Options::default() };
        match Segment::attach(key.clone(), &options) {
            Ok(reader) if reader.id() == left.id() => Snapshot::of(&reader),
            Ok(_) | Err(Error::NotFound(_)) => Snapshot::of(left),
            Err(error) => panic!("read only: {error}"),
        }
    }
}

/// Each variable is old or new; if the operation is one step, all of them are old or all are new.
pub fn old_or_new(found: &Snapshot, old: &Snapshot, new: &Snapshot, one_step: bool, what: &str) {
    assert!(
        [old.limit, new.limit].contains(&found.limit),
        "{what}: limit {}, {} and {}",
        found.limit,
        old.limit,
        new.limit
    );
    let indexes = old.variables.keys().chain(new.variables.keys()).chain(found.variables.keys());
    for index in indexes {
        let (now, before, after) = (found.variables.get(index), old.variables.get(index), new.variables.get(index));
        assert!(now == before || now == after, "{what}: {index:?} is {now:?}, was {before:?}, becomes {after:?}");
    }
    let queues = [&old.queues, &new.queues].contains(&&found.queues);
    assert!(!one_step || queues, "{what}: {:?}, were {:?}, become {:?}", found.queues, old.queues, new.queues);
    assert!(
        !one_step || found.variables == old.variables || found.variables == new.variables,
        "{what}: a part of it was made"
    );
}

/// Waits only a short time for what a dead process has left unfinished.
struct Brief(Instant);

impl WaitPolicy for Brief {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        slow();
    }
    fn interrupted(&self) -> Result<(), Error> {
        if self.0.elapsed() < Duration::from_millis(10) { Ok(()) } else { Err(Error::Interrupted) }
    }
}

/// Reads all variables as of one instant, first as a reader that cannot repair, then as a writer: all are old, or all new. The
/// reader may have to wait for a repair.
pub fn together(key: &Key, segment: &Segment, old: &Snapshot, new: &Snapshot, what: &str) {
    let both = old.variables.iter().chain(&new.variables);
    let large: BTreeSet<_> = both.clone().filter(|(_, v)| v.pickle.is_none()).map(|(index, _)| index).collect();
    let indexes: BTreeSet<_> = both.map(|(index, _)| index).filter(|index| !large.contains(index)).collect();
    let asked: Vec<Index<'_>> = indexes.iter().map(|index| index.as_index()).collect();
    let of = |snapshot: &Snapshot| -> Vec<Option<Vec<u8>>> {
        indexes.iter().map(|index| snapshot.variables.get(*index).and_then(|v| v.pickle.clone())).collect()
    };
    let (before, after) = (of(old), of(new));
    let look = |segment: &Segment, who: &str| {
        let seen = segment.get_many_pickles(&asked).unwrap_or_else(|error| panic!("{what}, {who}: {error}"));
        assert!(seen == before || seen == after, "{what}, {who}: of what is read together a part is new");
    };
    let options = Options { readonly: true, create: Some(false), ..Options::default() };
    if let Some(reader) = Segment::attach(key.clone(), &options).ok().filter(|reader| reader.id() == segment.id()) {
        match reader.attachment().unwrap().variables().get_many(&asked, &Brief(Instant::now())).map(drop) {
            Err(Error::Interrupted) => {}
            Err(error) => panic!("{what}: {error}"),
            Ok(()) => look(&reader, "read only"),
        }
    }
    look(segment, "mending");
}

/// Every call of a survivor still works, with the indexes of the operation, too.
pub fn go_on(segment: &Segment, what: &str) {
    for (round, len) in [8, 400, 24_000, 5_000, 3].into_iter().enumerate() {
        let value = value(round as u64, len);
        for index in [Index::Int(1), Index::Text("one")] {
            segment.put_bytes(index, &value).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(segment.get_bytes(index).unwrap().as_ref(), Some(&value), "{what}");
        }
    }
    assert!(segment.remove(1).unwrap());
    // A lock that a dead process held, or that was reserved for it, is taken over.
    for name in [Index::Int(1), Index::Text("one")] {
        let guard = segment.lock(name, Some(Duration::from_secs(5))).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(guard.is_some(), "{what}: the lock {name} is not to be had");
    }
    drain(segment, what);
    segment.check().unwrap_or_else(|error| panic!("{what}, gone on: {error}"));
}

/// The items of the operations' queues come out whole and in order, those that a dead process held, too; and a queue goes
/// on.
fn drain(segment: &Segment, what: &str) {
    for queue in segment.queues().unwrap() {
        let (name, items) = (queue.name.as_index(), queue.waiting + queue.held);
        segment.queue_put(name, &value(1_000, 8), Some(Duration::from_secs(5))).unwrap();
        let mut last = 0;
        for number in 0..=items {
            let item = segment.queue_get(name, Some(Duration::from_secs(5)));
            let item = item.unwrap_or_else(|error| panic!("{what}: {error}"));
            let item = item.unwrap_or_else(|| panic!("{what}: item {number} of {items} does not come"));
            let round = u64::from_le_bytes(item[..8].try_into().unwrap());
            assert!(round > last && item == value(round, item.len()), "{what}: item {round} after {last}");
            last = round;
        }
        assert!(segment.queue_get(name, Some(Duration::ZERO)).unwrap().is_none(), "{what}: an item too many");
    }
}

/// Removes everything, which reaps the dead. Returns how many bytes the object still takes.
pub fn leave_nothing(segment: &Segment, what: &str) -> u64 {
    // First what a dead process has retired: the new table should not come to lie behind that, in a zone that then stays.
    segment.trim(&Blocking).unwrap();
    segment.clear().unwrap();
    // A program that inspects a dying process (ps, a profiler) keeps its address space, and so its byte lock, a moment longer.
    let began = Instant::now();
    loop {
        segment.trim(&Blocking).unwrap();
        if segment.info().unwrap().attached == 1 || began.elapsed() > Duration::from_secs(5) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    segment.trim(&Blocking).unwrap();
    let report = segment.check().unwrap();
    let left = (report.variables, report.used, report.live, report.busy, report.retired, report.locks);
    assert_eq!(left, (0, 0, 0, 0, 0, 0), "{what}: something is left");
    let info = segment.info().unwrap();
    assert_eq!((info.count, info.used, info.attached), (0, 0, 1), "{what}: the dead count");
    info.resident
}

/// The number of participants in use, dead or alive, by docs/format.md.
pub fn in_use(segment: &Segment) -> Option<usize> {
    let file = std::fs::File::open(format!("/dev/shm/{}", segment.info().unwrap().name)).ok()?;
    let word = |offset: u64| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, offset).unwrap();
        u32::from_le_bytes(bytes)
    };
    let top = u64::from(word(4_192));
    Some((0..top).filter(|number| word(16_384 + number * 64) == 1).count())
}
