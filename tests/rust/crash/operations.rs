//! The table of operations. A new one is one entry: its name, what is prepared, and what is done.
//!
//! ```text
//! op("put, record, new", |_| {}, |s| s.put(1, 2, 400)),
//! ```
//!
//! The child is already attached, unless `.begins(..)` says otherwise. A rehearsal finds what the operation changes.
//!
//! - `.in_steps()`: the change is not one step; without it, a change is made as a whole or not at all.
//! - `.changes_nothing()`: there is no change; without it, there must be one.
//! - `.varies()`: it may pass a point less often than in the rehearsal.
//! - `.with_pairs()`: after a death at each of its points, the process that repairs is also killed, at each point that it
//!   passes; `.with_pairs_after(..)`: only after deaths at those points.
//! - `.batch()`: a read-only process that reads the variables one by one may find any state; together they are old or new.
//! - `.beside(..)`: a living process waits for what the child does.

use crate::child::{Stage, attach, value};
use crate::common::existing;
use crate::stages::*;
use shmvar::{AsVariables, Blocking, Error, Eviction, Index, Options, Segment, crash_point as crash};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// The child is attached.
    Attached,
    /// The child is not attached, but the segment exists.
    Detached,
    /// There is no segment.
    Nothing,
}

pub struct Operation {
    pub name: &'static str,
    pub begins: Begins,
    /// The mode of the segment.
    pub perm: u32,
    /// What the segment evicts.
    pub evict: Option<Eviction>,
    pub setup: fn(&mut Stage),
    pub act: fn(&mut Stage),
    pub one_step: bool,
    pub changes: bool,
    /// It makes several changes as of one instant, in steps that a reader of one variable sees.
    pub batch: bool,
    /// After a death at points whose names begin so, the process that repairs is killed, too.
    pub pairs: &'static [&'static str],
    /// It is killed only at points whose names begin so.
    pub only: &'static [&'static str],
    pub beside: Beside,
    /// How often it passes points depends on the hashes.
    pub varies: bool,
}

/// What the surviving process does meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    Nothing,
    /// Asks for the lock 1 and gets it.
    WaitsForLock,
    /// Waits for variable 1 to change.
    WaitsForChange,
}

const fn op(name: &'static str, setup: fn(&mut Stage), act: fn(&mut Stage)) -> Operation {
    let (begins, perm, one_step, changes) = (Begins::Attached, 0o600, true, true);
    let (pairs, only, beside): (_, &[&str], _) = (&[], &[""], Beside::Nothing);
    Operation {
        name,
        begins,
        perm,
        evict: None,
        setup,
        act,
        one_step,
        changes,
        batch: false,
        pairs,
        only,
        beside,
        varies: false,
    }
}

impl Operation {
    const fn begins(self, begins: Begins) -> Self {
        Operation { begins, ..self }
    }
    const fn evicts(self, evict: Eviction) -> Self {
        Operation { evict: Some(evict), ..self }
    }
    const fn perm(self, perm: u32) -> Self {
        Operation { perm, ..self }
    }
    const fn in_steps(self) -> Self {
        Operation { one_step: false, ..self }
    }
    const fn changes_nothing(self) -> Self {
        Operation { changes: false, ..self }
    }
    const fn with_pairs(self) -> Self {
        self.with_pairs_after(&[""])
    }
    const fn with_pairs_after(self, pairs: &'static [&'static str]) -> Self {
        Operation { pairs, ..self }
    }
    const fn only(self, only: &'static [&'static str]) -> Self {
        Operation { only, ..self }
    }
    const fn batch(self) -> Self {
        Operation { batch: true, ..self }
    }
    const fn varies(self) -> Self {
        Operation { varies: true, ..self }
    }
    const fn beside(self, beside: Beside) -> Self {
        Operation { beside, ..self }
    }
}

/// The operation that the tests of second deaths use.
pub const MEND: &str = "mend";

/// Points of named locks. Which other points a call passes depends on how long it waits.
const LOCKS: &[&str] = &["lock-stored", "lock-changed", "lock-reserved", "lock-freed", "locks-"];
/// The same and all points of a change: no process waits in these operations.
const LOCKS_AND_CHANGES: &[&str] = &["lock-", "locks-", "intent-", "slot-", "mark-", "notified"];

/// The points that distinguish changes which otherwise pass the same ones.
const CHANGES: &[&str] = &["expiring-", "intent-", "slot-", "block-", "record-"];
const EVICTING: &[&str] = &["evicted", "victim-", "stamps-"];
const COLLECTING: &[&str] = &["expired-", "intent-valid", "slot-whole"];
const TABLE: &[&str] = &[
    "leaf-",
    "slot-copied",
    "directory-",
    "word-",
    "root-",
    "intent-",
    "span-",
    "sticky-",
    "present-",
    "free-",
    "summary-",
];
/// The points of a load, which is a batch whose spans are filled piece by piece.
const LOADING: &[&str] = &["batch-", "cursor-", "many-", "list-", "warm-list-", "record-", "span-"];
const BATCH: &[&str] = &[
    "batch-",
    "cursor-",
    "many-",
    "list-",
    "warm-list-",
    "record-",
    "block-applied",
    "span-applied",
    "root-",
    "slot-w",
];
/// The same and the points of a reaping.
const BURYING: &[&str] = &["lock-", "locks-", "taken-over", "intent-", "slot-", "reaped"];

pub static OPERATIONS: &[Operation] = &[
    // Attaching and detaching.
    op("attach, first", |_| {}, |s| s.segment = Some(attach(&s.key, 0o600))).begins(Begins::Nothing).changes_nothing(),
    op("attach, first, with a second object", |_| {}, |s| s.segment = Some(attach(&s.key, 0o644)))
        .begins(Begins::Nothing)
        .perm(0o644)
        .changes_nothing(),
    op("attach, later", |_| {}, |s| s.segment = Some(existing(&s.key))).begins(Begins::Detached).changes_nothing(),
    op(
        "attach, later, with a larger size",
        |_| {},
        |s| {
            let options = Options { size: Some(300 << 20), ..Options::default() };
            s.segment = Some(Segment::attach(s.key.clone(), &options).unwrap());
        },
    )
    .begins(Begins::Detached),
    op(
        "attach, reaping",
        |s| s.another_dies("put, span, new", "span-filled:1"),
        |s| {
            s.segment = Some(existing(&s.key));
        },
    )
    .begins(Begins::Detached)
    .changes_nothing()
    .with_pairs(),
    op("attach, as heir", |s| no_number_is_free(s, 0), |s| s.segment = Some(existing(&s.key)))
        .begins(Begins::Detached)
        .changes_nothing(),
    op("attach, as heir of the lock", |s| no_number_is_free(s, 2), |s| s.segment = Some(existing(&s.key)))
        .begins(Begins::Detached)
        .changes_nothing(),
    op("detach", |s| s.put(1, 1, SPAN), |s| s.segment().detach()).changes_nothing(),
    op("destroy", |_| {}, |s| s.segment().destroy().unwrap()).changes_nothing(),
    op("destroy, with a second object", |_| {}, |s| s.segment().destroy().unwrap()).perm(0o644).changes_nothing(),
    op("destroy, by key", |_| {}, |s| assert!(shmvar::destroy(&s.key).unwrap()))
        .begins(Begins::Detached)
        .changes_nothing(),
    // Put: new.
    op("put, inline, new", |_| {}, |s| s.put(1, 2, INLINE)),
    op("put, record, new, the slab has room", |s| s.put(2, 1, RECORD), |s| s.put(1, 2, RECORD)),
    op("put, record, new, no slab", |_| {}, |s| s.put(1, 2, RECORD)).with_pairs(),
    op("put, record, new, no slab, pages obtained", slab_given_back, |s| s.put(1, 2, RECORD)),
    op("put, record, new, slabs in a batch", |s| s.put(2, 1, 1_100_000), |s| s.put(1, 2, RECORD)),
    op("put, text, new", |s| s.put("two", 1, RECORD), |s| s.put("one", 2, RECORD)),
    op("put, span, new", |_| {}, |s| s.put(1, 2, SPAN)),
    op("put, span, new, its pages mapped", span_given_back, |s| s.put(1, 2, SPAN)),
    op("put, span, new, in a new zone", |_| {}, |s| s.put(1, 2, 17 << 20)),
    op("put, span, new, in a new zone that the file has not", file_as_short_as_may_be, |s| s.put(1, 2, 17 << 20)),
    op("put, span, new, text", |_| {}, |s| s.put("one", 2, SPAN)),
    // Values in place; a new version for what is there.
    op("array, in place, new", |_| {}, |s| s.in_place(1, 40_000)).with_pairs_after(&["creation-", "slot-w"]),
    op("array, in place, new, text", |_| {}, |s| s.in_place("one", 8)),
    op("array, in place, opened", |s| s.in_place(1, 40_000), |s| s.in_place(1, 40_000)).changes_nothing(),
    op("put, over an array in place that is held", |s| s.in_place(1, 40_000), |s| s.put(1, 2, RECORD)),
    op("remove, an array in place that is held", |s| s.in_place(1, 40_000), |s| s.remove(1)),
    op("touch, inline", |s| s.put(1, 1, INLINE), |s| s.touch(1)),
    op("touch, text", |s| s.put("one", 1, RECORD), |s| s.touch("one")),
    op("touch, in place", |s| s.in_place(1, 40_000), |s| s.touch(1)).with_pairs_after(&["intent-", "slot-"]),
    // Put: replace.
    op("put, inline by inline", |s| s.put(1, 1, INLINE), |s| s.put(1, 2, INLINE)),
    op("put, inline by record", |s| s.put(1, 1, INLINE), |s| s.put(1, 2, RECORD)),
    op("put, record by record", |s| s.put(1, 1, RECORD), |s| s.put(1, 2, RECORD)),
    op("put, record by record of another class", |s| s.put(1, 1, RECORD), |s| s.put(1, 2, 5_000)),
    op("put, record by span", |s| s.put(1, 1, RECORD), |s| s.put(1, 2, SPAN)),
    op("put, span by span", |s| s.put(1, 1, SPAN), |s| s.put(1, 2, SPAN + 1)).with_pairs(),
    op("put, span by span, copied under the lock", span_to_write_again, |s| s.put_text(1, 2, SPAN)).with_pairs(),
    op("put, span by record", |s| s.put(1, 1, SPAN), |s| s.put(1, 2, RECORD)),
    op("put, span by inline", |s| s.put(1, 1, SPAN), |s| s.put(1, 2, INLINE)),
    op("put, span by inline, in somebody's view", in_a_view, |s| s.put(1, 2, INLINE)),
    op("put, text by text", |s| s.put("one", 1, RECORD), |s| s.put("one", 2, SPAN)),
    // Put: the table grows; the memory file system is full.
    op("put, the table grows", fill_the_table, |s| s.put(1, 2, INLINE)),
    op("put, the leaf is split", fill_the_largest_leaf, |s| s.put(1, 2, INLINE))
        .only(TABLE)
        .varies()
        .with_pairs_after(&["word-stored", "directory-copied"]),
    op("put, there is no memory for a larger table", fill_the_table, |s| {
        crash::refuse_pages(4);
        s.put(1, 2, INLINE);
    }),
    op("put, no memory until free spans are given back", warm_spans, |s| {
        crash::refuse_pages(1);
        s.put(1, 2, 3 * SPAN);
    }),
    op("put, no memory", warm_spans, |s| {
        crash::refuse_pages(2);
        let put = s.segment().put_bytes(1, &value(2, 3 * SPAN));
        assert!(matches!(put, Err(Error::Full { .. })), "{put:?}");
    })
    .changes_nothing(),
    // Remove, clear, resize, trim.
    op("remove, inline", |s| s.put(1, 1, INLINE), |s| s.remove(1)),
    op("remove, record", |s| s.put(1, 1, RECORD), |s| s.remove(1)),
    op("remove, record, the slab goes back", slab_nearly_empty, |s| s.remove(3)),
    op("remove, span", |s| s.put(1, 1, SPAN), |s| s.remove(1)),
    op("remove, span, free pages are given back", |s| s.put(1, 1, 80 << 20), |s| s.remove(1)),
    op("clear", some_of_each, |s| s.segment().clear().unwrap()).with_pairs_after(&[
        "table-",
        "doomed-",
        "leaf-dismantled",
    ]),
    op("clear, several leaves", fill_the_largest_leaf_and_split, |s| s.segment().clear().unwrap()).varies().only(&[
        "table-",
        "doomed-",
        "leaf-dismantled",
        "intent-valid",
    ]),
    op("clear, there is no memory for another table", some_of_each, |s| {
        crash::refuse_pages(4);
        s.segment().clear().unwrap();
    })
    .in_steps(),
    op("put, after a table was half taken apart", a_table_half_taken_apart, |s| s.put(1, 2, SPAN))
        .varies()
        .with_pairs_after(&["doomed-freed"]),
    op("resize, up", |_| {}, |s| s.segment().resize(400 << 20, &Blocking).unwrap()),
    op("resize, down", |_| {}, |s| s.segment().resize(1 << 20, &Blocking).unwrap()),
    op("trim", warm_spans, trim).changes_nothing(),
    op("trim, records are moved", slabs_half_empty, trim).changes_nothing().with_pairs_after(&["record-"]),
    op("move large values together", warm_spans, |s| {
        s.segment().for_change().unwrap().variables().defragment(0, &Blocking).unwrap()
    })
    .changes_nothing()
    .with_pairs_after(&["span-moved", "slot-w"]),
    op("trim, a zone goes", a_zone_left_empty, trim).changes_nothing().only(&["zones-", "trim-", "fresh-", "punched"]),
    op("trim, leaves are joined", leaves_nearly_empty, trim)
        .changes_nothing()
        .varies()
        .only(TABLE)
        .with_pairs_after(&["word-stored", "directory-copied"]),
    // Adding, storing what expires, storing many.
    op("add, inline", |s| add(s, 1), |s| add(s, 1)),
    op("add, text", |s| add(s, "one"), |s| add(s, "one")).only(CHANGES),
    op("add, missing", |_| {}, |s| add(s, 1)),
    op("compare and put", |s| s.put(1, 1, INLINE), compare_and_put),
    op("put, with a time to live, new", |_| {}, |s| put_for(s, 1, RECORD, HOUR)).only(CHANGES),
    op("put, with a time to live, by one", |s| put_for(s, 1, RECORD, HOUR), |s| put_for(s, 1, SPAN, HOUR))
        .only(CHANGES),
    op("put, over one that expired", |s| put_for(s, 1, RECORD, INSTANT), |s| s.put(1, 2, RECORD)).only(CHANGES),
    op("put, full until what expired is collected", nearly_full, |s| s.put(1, 2, 30_000)).only(COLLECTING),
    op("put, the table is full of what expired", fill_the_table_with_expired, |s| s.put(1, 2, INLINE))
        .only(&["expired-"]),
    op("expire, inline", |s| s.put(1, 1, INLINE), |s| expire(s, 1, Some(HOUR))),
    op("expire, record", |s| s.put("one", 1, RECORD), |s| expire(s, "one", Some(HOUR))),
    op("expire, record that expires", |s| put_for(s, "one", RECORD, HOUR), |s| expire(s, "one", Some(YEAR)))
        .with_pairs_after(&["intent-", "slot-", "expiry-"]),
    op("expire, record, for good", |s| put_for(s, 1, RECORD, HOUR), |s| expire(s, 1, None)),
    op("expire, record, for good, into the slot", |s| small_for(s, 1), |s| expire(s, 1, None)),
    op("expire, the longest record", |s| s.put_text(1, 1, 21_824), |s| expire(s, 1, Some(HOUR))),
    op("expire, span", |s| s.put(1, 1, SPAN), |s| expire(s, 1, Some(HOUR))),
    op("expire, span, text", |s| s.put("one", 1, SPAN), |s| expire(s, "one", Some(HOUR)))
        .with_pairs_after(&["intent-", "slot-", "expiry-"]),
    op("expire, span that expires", |s| put_for(s, "one", SPAN, HOUR), |s| expire(s, "one", Some(YEAR))),
    op("expire, span, for good", |s| put_for(s, 1, SPAN, HOUR), |s| expire(s, 1, None)),
    op("expire, in place", |s| s.in_place("one", 40_000), |s| expire(s, "one", Some(HOUR))),
    op("expire, in place, again", in_place_for_an_hour, |s| expire(s, "one", Some(YEAR))),
    op("expire, in place, for good", in_place_for_an_hour, |s| expire(s, "one", None)),
    op("expire, missing", |_| {}, |s| assert!(!s.segment().expire(1, Some(HOUR)).unwrap())).changes_nothing(),
    op("put, many, inline", |s| s.put(2, 1, INLINE), |s| put_many(s, &[(1, INLINE), (2, INLINE), (3, INLINE)])).batch(),
    op("put, many, records", |s| s.put(2, 1, RECORD), |s| put_many(s, &[(1, RECORD), (2, RECORD), (3, 5_000)]))
        .batch()
        .only(BATCH),
    op("put, many, spans", |s| s.put(2, 1, SPAN), |s| put_many(s, &[(1, SPAN), (2, SPAN + 1)])).batch().only(BATCH),
    op(
        "put, many, spans over spans",
        |s| [1, 2, 3].into_iter().for_each(|index| s.put(index, 1, SPAN)),
        |s| put_many(s, &[(1, SPAN + 1), (2, SPAN + 2), (3, SPAN)]),
    )
    .batch()
    .only(&["intent-", "span-applied", "cursor-", "batch-step"]),
    op("put, many, some of each", some_of_each, put_some_of_each).batch().with_pairs_after(&[
        "list-filled",
        "batch-",
        "cursor-stored",
        "many-stored",
    ]),
    op("put, many, few and small", some_of_each, put_a_few_small)
        .batch()
        .with_pairs_after(&["intent-", "set-", "block-", "counts-", "slot-", "record-"]),
    op("put, many, small, more than a set", |s| s.put(2, 1, INLINE), put_many_small).batch().only(BATCH),
    op("put, many, small, more than a set, again", put_many_small_before, put_many_small)
        .batch()
        .with_pairs_after(&["warm-list-", "batch-begun", "batch-ended"])
        .only(BATCH),
    op("dump", some_of_each, dump).changes_nothing(),
    op("load", some_of_each, |s| load(s, &[(1, SPAN), (2, RECORD), (5, INLINE), (7, RECORD), (8, SPAN)]))
        .batch()
        .with_pairs_after(&["batch-begun", "span-filled"])
        .only(LOADING),
    op("put, many, the table grows", fill_the_table, |s| put_many(s, &[(1, INLINE), (2, INLINE)])).batch().only(BATCH),
    op("get, many", some_of_each, |s| {
        let got = s.segment().get_many_pickles(&[0, 2, 5, 99].map(Index::Int)).unwrap();
        assert_eq!(got.iter().filter(|got| got.is_some()).count(), 3);
    })
    .changes_nothing(),
    // Named locks.
    op("lock, take", |_| {}, |s| take(s, 1)).changes_nothing().with_pairs_after(&["lock-stored"]),
    op("lock, take, text", |_| {}, |s| take(s, "one")).changes_nothing().only(LOCKS_AND_CHANGES),
    op(
        "lock, take two",
        |_| {},
        |s| {
            take(s, 2);
            take(s, "two");
        },
    )
    .changes_nothing()
    .only(LOCKS),
    op("lock, take where it was let go", |s| drop(lock(s.segment(), 1)), |s| take(s, 1)).changes_nothing(),
    op("lock, let go", |s| take(s, 1), |s| s.locks.clear()).changes_nothing(),
    op("lock, let go, text", |s| take(s, "one"), |s| s.locks.clear()).changes_nothing(),
    op(
        "lock, let go, somebody is next",
        |s| {
            take(s, 1);
            until_somebody_is_next(s.segment());
        },
        |s| s.locks.clear(),
    )
    .changes_nothing()
    .beside(Beside::WaitsForLock)
    .only(LOCKS_AND_CHANGES),
    op("lock, wait, and be handed it", |s| a_thread_holds(s, until_somebody_next_sleeps), |s| take(s, 1))
        .changes_nothing()
        .only(LOCKS),
    op(
        "lock, wait in vain",
        |s| a_thread_holds(s, until_the_end),
        |s| {
            // Long enough to come as far as the wait, on a busy machine too.
            assert!(s.segment().lock(1, Some(Duration::from_millis(400))).unwrap().is_none());
        },
    )
    .changes_nothing()
    .only(LOCKS),
    op("lock, take over", |s| s.another_dies("lock, take", "lock-released:1"), |s| take(s, 1))
        .changes_nothing()
        .only(LOCKS),
    op("lock, take over, text", |s| s.another_dies("lock, take two", "lock-released:4"), |s| take(s, "two"))
        .changes_nothing()
        .only(LOCKS),
    op("reap, the owner of locks", |s| s.another_dies("lock, take two", "lock-stored:2"), trim)
        .changes_nothing()
        .with_pairs_after(&["lock-freed", "locks-unmarked"])
        .only(BURYING),
    op(
        "reap, the next owner of a lock",
        |s| {
            take(s, 1);
            s.another_dies("lock, wait, and be handed it", "lock-changed:1");
        },
        trim,
    )
    .changes_nothing()
    .only(BURYING),
    op(
        "reap, a process with a lock reserved for it",
        |s| s.another_dies("lock, wait, and be handed it", "lock-reserved:1"),
        trim,
    )
    .changes_nothing()
    .only(BURYING),
    // Queues. Rounds tell the order of the items.
    op("queue, put, the first", |_| {}, |s| enqueue(s, 1, 1, RECORD))
        .with_pairs_after(&["queue-", "intent-", "counts-"]),
    op("queue, put, one more", |s| enqueue(s, "one", 1, INLINE), |s| enqueue(s, "one", 2, INLINE))
        .with_pairs_after(&["queue-", "intent-", "slot-", "block-"]),
    op("queue, put, large", |s| enqueue(s, 1, 1, RECORD), |s| enqueue(s, 1, 2, SPAN)),
    op("queue, get", |s| enqueue_some(s, 1), |s| dequeue(s, 1)).with_pairs_after(&["queue-", "intent-", "slot-"]),
    op("queue, get, the last", |s| enqueue(s, 1, 1, RECORD), |s| dequeue(s, 1)).with_pairs_after(&["queue-", "slot-"]),
    op("queue, get, large", |s| enqueue(s, 1, 1, SPAN), |s| dequeue(s, 1)),
    op(
        "queue, take and give back",
        |s| enqueue_some(s, "one"),
        |s| {
            drop(s.segment().queue_take("one", None).unwrap().unwrap());
        },
    )
    .changes_nothing()
    .with_pairs_after(&["queue-", "intent-", "slot-"]),
    op(
        "queue, take two and finish the second",
        |s| enqueue_some(s, 1),
        |s| {
            let first = s.segment().queue_take(1, None).unwrap().unwrap();
            assert!(s.segment().queue_take(1, None).unwrap().unwrap().done().unwrap());
            drop(first);
        },
    )
    .with_pairs_after(&["queue-"]),
    op(
        "queue, take what a dead process held",
        |s| {
            enqueue_some(s, 1);
            s.another_dies("queue, take and die", "queue-taken:1");
        },
        |s| {
            let taken = s.segment().queue_take(1, None).unwrap().unwrap();
            assert_eq!((taken.attempts, taken.bytes[0]), (2, 1));
            taken.done().unwrap();
        },
    )
    .with_pairs_after(&["queue-"]),
    op(
        "queue, take and die",
        |s| {
            if s.segment().queues().unwrap().is_empty() {
                enqueue_some(s, 1);
            }
        },
        |s| drop(s.segment().queue_take(1, None).unwrap()),
    )
    .changes_nothing(),
    op(
        "queue, clear",
        |s| {
            enqueue_some(s, 1);
            enqueue(s, 1, 8, SPAN);
        },
        |s| assert_eq!(s.segment().queue_clear(1).unwrap(), 4),
    )
    .with_pairs_after(&["queue-", "slot-"]),
    op(
        "queue, clear, many",
        |s| {
            for round in 1..=20 {
                enqueue(s, 1, round, INLINE);
            }
        },
        |s| assert_eq!(s.segment().queue_clear(1).unwrap(), 20),
    )
    .in_steps()
    .only(&["queue-", "intent-", "slot-w"]),
    // Evicting.
    op("evict", at_the_limit, |s| s.put(2, 2, 2_000)).evicts(Eviction::Ttl).in_steps(),
    op("evict, for several", at_the_limit, |s| put_several(s)).evicts(Eviction::Ttl).in_steps().only(EVICTING),
    op("stamps, a larger table", |s| fill_to(s, 2_048), |s| s.put(1, 2, INLINE)).evicts(Eviction::Lru).only(EVICTING),
    op(
        "stamps, a smaller table",
        |s| {
            fill_to(s, 8_300);
            leave_few(s);
        },
        trim,
    )
    .evicts(Eviction::Lru)
    .changes_nothing()
    .only(EVICTING),
    // Waking.
    op("put, somebody waits", until_somebody_waits, |s| s.put(1, 2, INLINE)).beside(Beside::WaitsForChange),
    op("put, somebody watches", watch, |s| s.put(1, 2, INLINE)).only(&["mark-", "notified", "watch-"]),
    op(
        "wait",
        |_| {},
        |s| {
            assert!(s.segment().wait(7_000, Some(0), None).unwrap().is_some());
        },
    )
    .changes_nothing(),
    // Reads of large values; views.
    op("get, span", |s| s.put(1, 1, SPAN), |s| drop(s.segment().get_bytes(1).unwrap())).changes_nothing(),
    op(
        "drop the last view of a span that was replaced",
        |s| {
            in_a_view(s);
            s.put(1, 2, INLINE);
        },
        |s| s.held.clear(),
    )
    .changes_nothing(),
    op("fork, with views", in_a_view, fork).in_steps(),
    op("fork, with views, a writer stands still", in_a_view_and_a_writer_stands, fork).in_steps().only(&["child-"]),
    // Repairs of what another process left, by the operation that meets it.
    op(
        "repair, a record half put",
        |s| s.another_dies("put, record by record", "block-stored:2"),
        |s| {
            s.put(3, 3, RECORD);
        },
    )
    .in_steps(),
    op("repair, a span half replaced", |s| s.another_dies("put, span by span", "slot-word:2"), |s| s.put(3, 3, SPAN))
        .in_steps(),
    op(
        "repair, a table half replaced",
        |s| s.another_dies("put, the table grows", "version-stored:2"),
        |s| {
            s.put(3, 3, INLINE);
        },
    )
    .in_steps(),
    op(
        "reap, a span half filled and pins",
        |s| s.another_dies("drop the last view of a span that was replaced", "unpinned:1"),
        trim,
    )
    .changes_nothing()
    .with_pairs(),
    op("reap, a span half given back", |s| s.another_dies("trim", "punched:1"), trim).changes_nothing(),
    op(MEND, |_| {}, mend).begins(Begins::Detached).changes_nothing(),
];
