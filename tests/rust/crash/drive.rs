//! Rehearses an operation and kills it at each point.

use crate::child::{End, attach, start};
use crate::common::{Fresh, watchdog};
use crate::operations::{Begins, Beside, MEND, Operation};
use crate::survivor::{Snapshot, go_on, in_use, leave_nothing, old_or_new, together};
use crate::told::Told;
use shmvar::{AsCoordination, Blocking, Index, Key, Segment};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// The n-th passage of a point.
pub type Passage = (String, u64);

/// Children at a time. Most of them wait now and then, so there are more than processors.
const WORKERS: usize = 4;
/// How many more bytes an object may take after a death than after none: slabs that stay.
const SLACK: u64 = 128 << 10;

/// What an operation passes and changes when no process dies.
pub struct Rehearsal {
    pub passed: Vec<String>,
    old: Snapshot,
    new: Snapshot,
    /// Bytes that the object takes at the very end.
    resident: u64,
}

/// Does all jobs, a few at a time, and fails at the end if any of them failed.
pub fn work<T: Send, R: Send>(jobs: Vec<T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    watchdog(Duration::from_secs(1_800));
    let jobs: Vec<_> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let (next, done, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let job = job.lock().unwrap().take().unwrap();
                    match catch_unwind(AssertUnwindSafe(|| act(job))) {
                        Ok(result) => done.lock().unwrap().push(result),
                        // The panic has already printed the reason.
                        Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "cases failed, see above");
    done.into_inner().unwrap()
}

/// Where an operation takes place: a segment that already has other variables, or only a key.
struct Scene {
    fresh: Option<Fresh>,
    key: Key,
    perm: u32,
    /// Of this process, which survives, from before the operation.
    told: Option<Mutex<Told>>,
}

impl Scene {
    fn new(operation: &Operation) -> Scene {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("crash-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        if operation.begins == Begins::Nothing {
            let key = Key::text(&format!("test-{}-{name}", std::process::id())).unwrap();
            shmvar::destroy(&key).unwrap();
            return Scene { fresh: None, key, perm: operation.perm, told: None };
        }
        let fresh = Fresh::with(&name, 256 << 20, operation.perm, operation.evict);
        fresh.segment.put(7_000, &7_u64).unwrap();
        fresh.segment.put_bytes(7_001, &[7; 24_000]).unwrap();
        fresh.segment.put_bytes("of nobody here", &[7; 700]).unwrap();
        let told = Some(Mutex::new(Told::from_now(&fresh.segment)));
        Scene { key: fresh.key.clone(), fresh: Some(fresh), perm: operation.perm, told }
    }

    fn read_only(&self) -> Snapshot {
        self.fresh.as_ref().map_or_else(Snapshot::default, |fresh| Snapshot::read_only(&self.key, &fresh.segment))
    }

    /// Runs a child while a thread of this process waits for what the child does.
    fn beside<T>(&self, operation: &Operation, what: &str, act: impl FnOnce() -> T) -> T {
        let Some(Fresh { segment, .. }) = self.fresh.as_ref().filter(|_| operation.beside != Beside::Nothing) else {
            return act();
        };
        let over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            if operation.beside == Beside::WaitsForLock {
                // The child takes the lock first.
                let (tell, told) = std::sync::mpsc::channel::<()>();
                let waiter = scope.spawn(move || {
                    while !segment.attachment().unwrap().coordination().is_locked(&Index::Int(1), &Blocking).unwrap() {
                        if told.recv_timeout(Duration::from_millis(1)) != Err(RecvTimeoutError::Timeout) {
                            return;
                        }
                    }
                    let guard = segment.lock(1, Some(Duration::from_secs(10))).unwrap();
                    assert!(guard.is_some(), "the lock was not handed on");
                });
                let done = act();
                drop(tell);
                waiter.join().unwrap_or_else(|_| panic!("{what}: see above"));
                return done;
            }
            let before = segment.version(1).unwrap();
            let waiter = scope.spawn(move || {
                loop {
                    // Once `over` is set, every change is visible: a wait that begins then sees it.
                    let last = over.load(Ordering::Acquire);
                    let seen = segment.wait(1, Some(before), Some(Duration::from_secs(1))).unwrap();
                    if last || seen.is_some() {
                        return seen;
                    }
                }
            });
            let done = act();
            // Repairs what there is to repair.
            segment.check().unwrap();
            let now = segment.version(1).unwrap();
            over.store(true, Ordering::Release);
            let seen = waiter.join().unwrap_or_else(|_| panic!("{what}: see above"));
            assert_eq!(seen, Some(now).filter(|now| *now != before), "{what}: what was waited for");
            done
        })
    }

    /// What is told to the survivor of all that has changed so far is what is there.
    fn tell(&self, segment: &Segment, what: &str) {
        if let Some(told) = &self.told {
            told.lock().unwrap().catch_up(segment, what);
        }
    }

    /// The survivor reads, repairs, goes on and cleans up. Returns how many bytes the object takes then.
    fn survive(&self, old: &Snapshot, new: &Snapshot, operation: &Operation, what: &str) -> u64 {
        let own = self.fresh.is_none().then(|| attach(&self.key, self.perm));
        let segment = match (&self.fresh, &own) {
            (Some(fresh), _) => &fresh.segment,
            (None, own) => own.as_ref().expect("just attached"),
        };
        if self.fresh.is_some() {
            let whole = operation.one_step && !operation.batch;
            let found = self.read_only();
            let ordered = operation.batch.then(|| new.in_the_order_of(&found, old));
            let new = ordered.as_ref().unwrap_or(new);
            old_or_new(&found, old, new, whole, &format!("{what}, read only"));
            Told::read_only(&self.key, what, operation.one_step, |index| old.version(index), &new.versions());
            if operation.one_step {
                together(&self.key, segment, old, new, what);
            }
        }
        segment.check().unwrap_or_else(|error| panic!("{what}: {error}"));
        if self.fresh.is_some() {
            self.tell(segment, what);
            let found = Snapshot::of(segment);
            let ordered = operation.batch.then(|| new.in_the_order_of(&found, old));
            old_or_new(&found, old, ordered.as_ref().unwrap_or(new), operation.one_step, what);
            assert_eq!(segment.info().unwrap().count, segment.indexes().unwrap().len() as u64, "{what}");
        } else {
            assert!(Snapshot::of(segment).variables.is_empty(), "{what}");
        }
        go_on(segment, what);
        self.tell(segment, what);
        let resident = leave_nothing(segment, what);
        self.tell(segment, what);
        if !segment_is_gone(segment) {
            assert_eq!(in_use(segment), Some(1), "{what}: a dead participant is not reaped");
        }
        // An attach by the key works as always, to this segment or to a new one.
        let again = attach(&self.key, self.perm);
        again.put(1, &1).unwrap();
        again.check().unwrap();
        again.destroy().unwrap();
        resident
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = shmvar::destroy(&self.key);
    }
}

fn segment_is_gone(segment: &Segment) -> bool {
    let options = shmvar::Options { create: Some(false), readonly: true, ..Default::default() };
    Segment::attach(segment.key().clone(), &options).map_or(true, |found| found.id() != segment.id())
}

/// Runs the operation once without killing it.
pub fn rehearse(operation: &Operation) -> Rehearsal {
    let scene = Scene::new(operation);
    let what = format!("{}, rehearsed", operation.name);
    let (old, passed) = scene.beside(operation, &what, || {
        let mut child = start(operation.name, &scene.key, None);
        let old = child.when_ready(|| scene.read_only());
        let (end, passed, said) = child.finish();
        assert_eq!(end, End::Well, "{what}: {said}");
        (old, passed)
    });
    let new = scene.read_only();
    assert!(!operation.changes || old != new, "{what}: it changes nothing");
    let resident = scene.survive(&new, &new, operation, &what);
    Rehearsal { passed, old, new, resident }
}

/// The passages at which to kill: of a point that is passed often, the first two, one in the middle, and the last.
pub fn passages(operation: &Operation, passed: &[String]) -> Vec<Passage> {
    let mut counts = BTreeMap::<&String, u64>::new();
    passed
        .iter()
        .filter(|name| operation.only.iter().any(|only| name.starts_with(only)))
        .for_each(|name| *counts.entry(name).or_default() += 1);
    let chosen = |(name, all): (&String, u64)| {
        let wanted = move |n: &u64| all <= 3 || *n <= 2 || *n == all / 2 || *n == all;
        (1..=all).filter(wanted).map(|n| (name.clone(), n)).collect::<Vec<_>>()
    };
    counts.into_iter().flat_map(chosen).collect()
}

fn die(scene: &Scene, operation: &Operation, (point, passage): &Passage) -> String {
    let what = format!("{}, killed at {point}:{passage}", operation.name);
    let order = format!("{point}:{passage}");
    let (end, _, said) = scene.beside(operation, &what, || start(operation.name, &scene.key, Some(&order)).finish());
    assert!(end == End::Killed || operation.varies, "{what}: it was not passed");
    assert!(end == End::Well || said.contains(&format!("killed at {point}\n")), "{what}: {said}");
    what
}

/// Kills one child, and checks what the survivor finds.
pub fn kill(operation: &Operation, rehearsal: &Rehearsal, passage: &Passage) {
    let scene = Scene::new(operation);
    let what = die(&scene, operation, passage);
    let resident = scene.survive(&rehearsal.old, &rehearsal.new, operation, &what);
    let most = rehearsal.resident + SLACK;
    assert!(resident <= most, "{what}: {resident} bytes are left, {} where nobody died", rehearsal.resident);
}

/// The points that a repairing process passes after that death, until the last dead process is reaped.
pub fn mending(operation: &Operation, first: &Passage) -> Vec<String> {
    let scene = Scene::new(operation);
    let what = die(&scene, operation, first);
    let mut child = start(MEND, &scene.key, None);
    child.when_ready(|| ());
    let (end, mut passed, said) = child.finish();
    assert_eq!(end, End::Well, "{what}, mended: {said}");
    passed.truncate(passed.iter().rposition(|name| name == "reaped").map_or(0, |last| last + 1));
    passed
}

/// The last passage of each point after which a second process is killed, too.
pub fn last(operation: &Operation, passed: &[String]) -> Vec<Passage> {
    let mut counts = BTreeMap::<&String, u64>::new();
    let wanted = |name: &&String| operation.pairs.iter().any(|start| name.starts_with(start));
    passed.iter().filter(wanted).for_each(|name| *counts.entry(name).or_default() += 1);
    counts.into_iter().map(|(name, all)| (name.clone(), all)).collect()
}

/// The first passage of each point.
pub fn once(passed: &[String]) -> Vec<Passage> {
    BTreeSet::from_iter(passed).into_iter().map(|name| (name.clone(), 1)).collect()
}

/// Kills a child, then the process that repairs, then checks a survivor. False: the second one did not come so far.
pub fn kill_twice(operation: &Operation, rehearsal: &Rehearsal, first: &Passage, second: &str) -> bool {
    let scene = Scene::new(operation);
    let what = format!("{}, and then at {second}", die(&scene, operation, first));
    let (end, _, said) = start(MEND, &scene.key, Some(second)).finish();
    let what = format!("{what} ({})", said.trim());
    scene.survive(&rehearsal.old, &rehearsal.new, operation, &what);
    end == End::Killed
}
