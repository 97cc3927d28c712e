//! Every call of every kind on a damaged segment: data, or an error of a known type.

use crate::image::{IN_PLACE, INTS, Image, LOCKS, QUEUES, SPAN, TEXTS, pickle};
use shmvar::{
    AsCoordination, AsVariables, Awaited, Changes, Condition, Error, Index, Number, Options, Segment, TableOf,
    WaitPolicy,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Gives up a waiting call after a short time; that it would wait for the documented ten seconds is tested elsewhere.
pub struct Brief {
    began: Cell<Instant>,
    /// How often the call has slept, or has copied something large.
    slept: Cell<u32>,
    gave_up: Cell<bool>,
}

/// A call that waits is given up after so long, and after so many sleeps: on a busy machine, a call that does not wait may take
/// as long, and its answer is wanted.
const SHORT: Duration = Duration::from_millis(60);
const SLEEPS: u32 = 3;
/// A call that goes round without a sleep is given up after so long.
const LONG: Duration = Duration::from_secs(2);

impl Brief {
    pub fn new() -> Self {
        Brief { began: Cell::new(Instant::now()), slept: Cell::new(0), gave_up: Cell::new(false) }
    }

    /// The next call begins.
    fn begin(&self) {
        self.began.set(Instant::now());
        self.slept.set(0);
    }
}

impl WaitPolicy for Brief {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.slept.set(self.slept.get() + 1);
        slow();
    }
    fn interrupted(&self) -> Result<(), Error> {
        // Once one call had to be given up, the others of this case are at once.
        let most = if self.slept.get() < SLEEPS { LONG } else { SHORT };
        if !self.gave_up.get() && self.began.get().elapsed() < most {
            return Ok(());
        }
        self.gave_up.set(true);
        Err(Error::Interrupted)
    }
}

/// How often each kind of answer was given.
pub type Tally = BTreeMap<&'static str, u64>;

/// The calls of one case.
pub struct Calls<'a> {
    pub tally: &'a mut Tally,
    pub brief: Brief,
    /// Errors that damage must not cause.
    pub wrong: Vec<String>,
}

impl<'a> Calls<'a> {
    pub fn new(tally: &'a mut Tally) -> Self {
        Calls { tally, brief: Brief::new(), wrong: Vec::new() }
    }

    /// Counts an answer.
    pub fn saw<T>(&mut self, what: &str, answer: Result<T, Error>) -> Option<T> {
        let kind = match &answer {
            Ok(_) => "data",
            Err(Error::Corrupt(_)) => "corrupt",
            Err(Error::Incompatible(_)) => "incompatible",
            Err(Error::Full { .. }) => "full",
            Err(Error::Busy(_)) => "busy",
            Err(Error::NotFound(_)) => "not found",
            Err(Error::Interrupted) => "waits for a living one",
            Err(Error::Pickle(_)) => "pickle",
            Err(error) => {
                self.wrong.push(format!("{what}: {error:?}"));
                "wrong"
            }
        };
        *self.tally.entry(kind).or_default() += 1;
        self.brief.begin();
        answer.ok()
    }

    /// Opens the segment again, as it now is.
    pub fn attach(&mut self, image: &Image, readonly: bool) -> Option<Segment> {
        let options = Options { create: Some(false), readonly, ..Options::default() };
        let attached = Segment::attach_with(&image.key, &options, &self.brief);
        self.saw("attach", attached)
    }

    /// All calls that read.
    pub fn read(&mut self, segment: &Segment) {
        let ints = INTS.iter().map(|index| Index::Int(*index)).chain([Index::Int(-1)]);
        for index in ints.chain(TEXTS.map(Index::Text)).chain([Index::Text("missing")]) {
            let got = segment.get_pickle(&index, &self.brief);
            if let Some(Some(pickle)) = self.saw("get", got) {
                shmvar::codec::kind::type_name(&pickle).unwrap();
            }
            let Ok(att) = segment.attachment() else { return };
            let has = att.variables().has(&index, &self.brief);
            self.saw("has", has);
            let stat = segment.stat_with(&index, &self.brief);
            self.saw("stat", stat);
        }
        let Ok(att) = segment.attachment() else { return };
        let indexes = att.variables().indexes(&self.brief);
        self.saw("indexes", indexes);
        let many = [1, 3, 4, 8, 9].map(Index::Int).into_iter().chain(TEXTS.map(Index::Text)).collect::<Vec<_>>();
        let seen = att.variables().get_many(&many, &self.brief).map(drop);
        if self.saw("get many", seen).is_some() {
            // What was found is copied, too. (This call waits longer for what is busy, but now nothing is.)
            let pickles = segment.get_many_pickles(&many).map(drop);
            self.saw("get many pickles", pickles);
        }
        for index in [Index::Int(1), Index::Int(8), Index::Text("missing")] {
            let version = att.variables().version(&index, &self.brief);
            self.saw("version", version);
            let waited = att.coordination().wait(&index, None, Some(Duration::ZERO), &self.brief);
            self.saw("wait", waited);
        }
        let mut awaited = [1, 3, 8].map(|number| Awaited { index: Index::Int(number), seen: None });
        let waited = att.coordination().wait_any(&mut awaited, Some(Duration::ZERO), &self.brief);
        self.saw("wait any", waited);
        let changes = Changes::since(att.coordination(), Vec::new(), None);
        if let Some(mut changes) = self.saw("changes", changes) {
            for _ in 0..4 {
                let step = att.coordination().step_changes(&mut changes, true, None, &self.brief).map(drop);
                self.saw("step of changes", step);
            }
        }
        let changes = Changes::from_now(att.coordination(), None, &self.brief).map(drop);
        self.saw("changes from now", changes);
        for name in LOCKS.into_iter().chain([Index::Int(2)]) {
            let locked = att.coordination().is_locked(&name, &self.brief);
            self.saw("is locked", locked);
        }
        let locks = att.coordination().locks(&self.brief);
        self.saw("locks", locks);
        for queue in QUEUES {
            let len = att.coordination().queue_len(&queue, &self.brief);
            self.saw("queue, len", len);
        }
        let queues = att.coordination().queues(&self.brief);
        self.saw("queues", queues);
        let len = segment.len_with(&self.brief);
        self.saw("len", len);
        let info = segment.info_with(&self.brief);
        self.saw("info", info);
        self.saw("size", segment.size());
    }

    /// All calls that change variables.
    pub fn write(&mut self, segment: &Segment) {
        let values = [b"\x80\x05K\x09.".to_vec(), pickle(35), pickle(300), pickle(5_000), pickle(SPAN)];
        for (index, value) in [1, 2, 3, 4, 20, 30, 31, 32, 33].into_iter().zip(values.iter().cycle()) {
            let put = segment.put_pickle(&Index::Int(index), &[value], Condition::Always, &self.brief);
            self.saw("put", put);
        }
        for (text, value) in ["text", "large text", "new", "new, too"].iter().zip(values.iter().skip(1)) {
            let put = segment.put_pickle(&Index::Text(text), &[value], Condition::Always, &self.brief);
            self.saw("put", put);
        }
        let put = segment.put_pickle(&Index::Int(3), &[&values[3]], Condition::Version(1), &self.brief);
        self.saw("put if", put);
        if !self.brief.gave_up.get() {
            self.saw("put bytes", segment.put_bytes(5, &[1; SPAN + 1_000]));
            self.saw("get bytes", segment.get_bytes(5));
            self.saw("put for a while", segment.put_for(8, &"x".repeat(80), Duration::from_secs(60)));
            self.saw("put for an instant", segment.put_for("brief", &1, Duration::from_nanos(1)));
            let many = [(Index::Int(2), &values[4]), (Index::Int(40), &values[0]), (Index::Text("text"), &values[2])];
            self.saw("put many", segment.put_many_pickles(&many.map(|(index, pickle)| (index, &**pickle))));
        }
        // Damage may say of any of them that it is changed in place.
        for index in INTS.map(Index::Int).into_iter().chain(TEXTS.map(Index::Text)).chain([Index::Text("new in place")])
        {
            let opened = segment.shared_bytes_with(&index, IN_PLACE, &self.brief).map(|opened| {
                let first = opened.words().first().map(|word| word.fetch_add(1, Ordering::Relaxed));
                assert_eq!((first.is_some(), opened.bytes().len() as u64), (true, IN_PLACE));
            });
            // A plain variable is refused.
            let opened = if let Err(Error::Invalid(_)) = opened { Ok(()) } else { opened };
            self.saw("bytes in place", opened);
            let Ok(att) = segment.for_change() else { return };
            let touched = att.variables().touch(&index, &self.brief);
            self.saw("touch", touched);
            for ttl in [Some(Duration::from_secs(60)), Some(Duration::from_secs(61)), None] {
                let expired = att.variables().expire(&index, ttl, &self.brief);
                self.saw("expire", expired);
            }
        }
        self.cooperate(segment);
        self.queues(segment);
        let Ok(att) = segment.for_change() else { return };
        for index in [2, 4, 1001, -1].map(Index::Int).into_iter().chain(["buffers", "é", "x"].map(Index::Text)) {
            let removed = att.variables().remove(&index, Condition::Always, &self.brief);
            self.saw("remove", removed);
        }
    }

    /// Counters and locks.
    pub fn cooperate(&mut self, segment: &Segment) {
        let Ok(att) = segment.for_change() else { return };
        for index in [Index::Int(1), Index::Int(8), Index::Text("counter")] {
            let sum = att.variables().add(&index, Number::Int(1), None, &self.brief);
            self.saw("add", sum);
        }
        let waited = att.coordination().wait(&Index::Int(1), None, Some(Duration::from_micros(50)), &self.brief);
        self.saw("wait", waited);
        for lock in [false, true] {
            let marked = att.coordination().mark_watched(&Index::Int(1), lock, &self.brief);
            self.saw("watch", marked);
        }
        let who = segment.thread();
        for name in LOCKS.into_iter().chain([Index::Int(2)]) {
            let taken = segment.attachment().unwrap().coordination().acquire_lock(
                &name,
                who,
                Some(Duration::from_millis(2)),
                &self.brief,
            );
            if self.saw("lock", taken) == Some(true) {
                let released = att.coordination().release_lock(&name, who, &self.brief);
                self.saw("let go", released);
            }
        }
    }

    /// Queues: an item more, one that is got, one that is given back, one that is finished; at last none.
    fn queues(&mut self, segment: &Segment) {
        for (queue, len) in QUEUES.into_iter().zip([3, SPAN]) {
            if self.brief.gave_up.get() {
                return;
            }
            self.saw("queue, put", segment.queue_put(queue, &vec![9; len], Some(Duration::ZERO)));
            for turn in 0..3 {
                let taken = segment.queue_take(queue, Some(Duration::ZERO));
                if let Some(Some(taken)) = self.saw_item("queue, take", taken) {
                    // What is dropped is given back.
                    let ended = if turn == 1 { taken.done() } else { Ok(false) };
                    self.saw("queue, done", ended);
                }
                let got = segment.queue_get(queue, Some(Duration::ZERO));
                self.saw_item("queue, get", got);
            }
            self.saw("queue, clear", segment.queue_clear(queue));
        }
    }

    /// Counts an answer about an item. What others have written need not be bytes.
    fn saw_item<T>(&mut self, what: &str, answer: Result<T, Error>) -> Option<T> {
        if let Err(Error::Invalid(_)) = answer {
            return None;
        }
        self.saw(what, answer)
    }

    /// All calls on the whole segment.
    pub fn tidy(&mut self, segment: &Segment) {
        let Ok(att) = segment.for_change() else { return };
        let check = segment.check_with(&self.brief);
        self.saw("check", check);
        // Leaves grow until they are split; then the variables have room in fewer.
        for (hash, more) in [(0, 1), (1 << 63, 1), (3 << 62, 4_000)] {
            self.grow(segment, hash, TableOf::Variables, more);
        }
        self.grow(segment, 0, TableOf::Names, 300);
        let check = segment.check_with(&self.brief);
        self.saw("check", check);
        let trim = segment.trim(&self.brief);
        self.saw("trim", trim);
        for size in [1 << 24, 1] {
            let resized = segment.resize(size, &self.brief);
            self.saw("resize", resized);
        }
        let resized = segment.resize(1 << 24, &self.brief);
        self.saw("resize", resized);
        let cleared = att.variables().clear(&self.brief);
        self.saw("clear", cleared);
        let put = segment.put_pickle(&Index::Int(1), &[&pickle(400)], Condition::Always, &self.brief);
        self.saw("put", put);
    }

    /// Replaces the leaf of this hash by one with room for so many more.
    pub fn grow(&mut self, segment: &Segment, hash: u64, of: TableOf, more: u64) {
        let Ok(att) = segment.for_change() else { return };
        let leaf = att.variables().leaf_of(hash, of);
        let grown = leaf.and_then(|leaf| att.variables().grow(&leaf, hash, of, more, &self.brief));
        self.saw("grow", grown);
    }

    /// The end.
    pub fn destroy(&mut self, segment: &Segment) {
        let destroyed = segment.destroy_with(&self.brief);
        self.saw("destroy", destroyed);
        segment.detach();
    }
}
