//! The operations. A new one is one entry here; `name`, what stands before, what is done:
//!
//! ```text
//! op("put, record, new", |_| {}, |s| s.put(1, 2, 400)),
//! ```
//!
//! The child is attached already, unless the entry `.begins(..)` otherwise. What it changes is found by a rehearsal; that
//! the change is one step or none is checked unless it says `.in_steps()`, that there is one unless it `.changes_nothing()`.
//! `.with_pairs()`: after a death at each of its points, whoever mends is killed at each point that he passes.

use crate::child::{Stage, attach, report, value};
use crate::common::existing;
use crate::survivor::MENDING;
use shmvar::{Error, Options, Plain, Segment, crash};
use std::os::unix::fs::FileExt;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// The child is attached.
    Attached,
    /// It is not, but there is a segment.
    Detached,
    /// There is none.
    Nothing,
}

pub struct Operation {
    pub name: &'static str,
    pub begins: Begins,
    /// Of the segment.
    pub perm: u32,
    pub setup: fn(&mut Stage),
    pub act: fn(&mut Stage),
    pub one_step: bool,
    pub changes: bool,
    pub pairs: bool,
    /// Killed at points that begin so only.
    pub only: &'static str,
}

const fn op(name: &'static str, setup: fn(&mut Stage), act: fn(&mut Stage)) -> Operation {
    let (begins, perm, one_step, changes) = (Begins::Attached, 0o600, true, true);
    Operation { name, begins, perm, setup, act, one_step, changes, pairs: false, only: "" }
}

impl Operation {
    const fn begins(self, begins: Begins) -> Self {
        Operation { begins, ..self }
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
        Operation { pairs: true, ..self }
    }
    const fn only(self, only: &'static str) -> Self {
        Operation { only, ..self }
    }
}

/// One that the tests of second deaths name.
pub const MEND: &str = "mend";

/// Lengths of values: in the slot, in a block, in a span.
const INLINE: usize = 8;
const RECORD: usize = 400;
const SPAN: usize = 17_000;

pub static OPERATIONS: &[Operation] = &[
    // Coming and going.
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
        "attach, burying",
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
    op("put, span, new, in a new zone", |_| {}, |s| s.put(1, 2, 9 << 20)),
    op("put, span, new, text", |_| {}, |s| s.put("one", 2, SPAN)),
    // Put: replace.
    op("put, inline by inline", |s| s.put(1, 1, INLINE), |s| s.put(1, 2, INLINE)),
    op("put, inline by record", |s| s.put(1, 1, INLINE), |s| s.put(1, 2, RECORD)),
    op("put, record by record", |s| s.put(1, 1, RECORD), |s| s.put(1, 2, RECORD)),
    op("put, record by record of another class", |s| s.put(1, 1, RECORD), |s| s.put(1, 2, 5_000)),
    op("put, record by span", |s| s.put(1, 1, RECORD), |s| s.put(1, 2, SPAN)),
    op("put, span by span", |s| s.put(1, 1, SPAN), |s| s.put(1, 2, SPAN + 1)).with_pairs(),
    op("put, span by record", |s| s.put(1, 1, SPAN), |s| s.put(1, 2, RECORD)),
    op("put, span by inline", |s| s.put(1, 1, SPAN), |s| s.put(1, 2, INLINE)),
    op("put, span by inline, in somebody's view", in_a_view, |s| s.put(1, 2, INLINE)),
    op("put, text by text", |s| s.put("one", 1, RECORD), |s| s.put("one", 2, SPAN)),
    // Put: the table grows; the memory file system is full.
    op("put, the table grows", fill_the_table, |s| s.put(1, 2, INLINE)),
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
    op("clear", some_of_each, |s| s.segment().clear().unwrap()).in_steps(),
    op("clear, a table of tombstones", fill_the_table, |s| s.segment().clear().unwrap()).in_steps(),
    op("resize, up", |_| {}, |s| s.segment().resize(400 << 20, &Plain).unwrap()),
    op("resize, down", |_| {}, |s| s.segment().resize(1 << 20, &Plain).unwrap()),
    op("trim", warm_spans, |s| s.segment().trim(&Plain).unwrap()).changes_nothing(),
    // Reading what is large; views.
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
    op("fork, with views, a writer stands still", in_a_view_and_a_writer_stands, fork).in_steps().only("child-"),
    // Mending what others left, by an operation that meets it.
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
        "bury, a span half filled and pins",
        |s| s.another_dies("drop the last view of a span that was replaced", "unpinned:1"),
        |s| {
            s.segment().trim(&Plain).unwrap();
        },
    )
    .changes_nothing()
    .with_pairs(),
    op("bury, a span half given back", |s| s.another_dies("trim", "punched:1"), |s| s.segment().trim(&Plain).unwrap())
        .changes_nothing(),
    op(MEND, |_| {}, mend).begins(Begins::Detached).changes_nothing(),
];

/// What whoever comes next does, of his own: attaches, meets the lock, looks after the dead.
fn mend(s: &mut Stage) {
    let segment = attach(&s.key, 0o600);
    segment.put_bytes(MENDING, &value(1, SPAN)).unwrap();
    segment.remove(MENDING).unwrap();
    segment.trim(&Plain).unwrap();
    segment.detach();
}

/// Every number is used by somebody dead, the first of them with spans; the lock is that of `owner`.
fn no_number_is_free(s: &mut Stage, owner: u32) {
    let name = existing(&s.key).info().unwrap().name;
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm/{name}")).unwrap();
    for number in 0..1024 {
        file.write_all_at(&1_u32.to_ne_bytes(), 16_384 + number * 64).unwrap();
    }
    file.write_all_at(&1_u64.to_ne_bytes(), 16_384 + 64 + 24).unwrap();
    file.write_all_at(&1_024_u32.to_ne_bytes(), 4_184).unwrap();
    file.write_all_at(&owner.to_ne_bytes(), 4_096).unwrap();
}

/// Leaves a free granule whose pages are present.
fn slab_given_back(s: &mut Stage) {
    slab_nearly_empty(s);
    s.remove(3);
}

/// Two slabs of two blocks each with one record in each; when 3 is removed, its slab goes back.
fn slab_nearly_empty(s: &mut Stage) {
    [11, 12, 3].into_iter().for_each(|index| s.put(index, 1, 8_000));
    s.remove(11);
}

fn span_given_back(s: &mut Stage) {
    (1..4).for_each(|round| s.put(1, round, SPAN));
    s.remove(1);
}

/// Free spans with their pages, between others.
fn warm_spans(s: &mut Stage) {
    (1..=4).for_each(|index| s.put(index + 10, 1, SPAN));
    s.remove(11);
    s.remove(13);
}

fn some_of_each(s: &mut Stage) {
    for (index, len) in [INLINE, INLINE, RECORD, RECORD, 8_000, SPAN].into_iter().enumerate() {
        s.put(index as i64, 1, len);
    }
    s.put("one", 1, RECORD);
    s.put("two", 1, SPAN);
}

/// One more fills it: 448 of 512 slots are taken, some by variables of others.
fn fill_the_table(s: &mut Stage) {
    let count = s.segment().len().unwrap();
    (count..448).for_each(|index| s.put(100 + index as i64, 1, INLINE));
}

fn in_a_view(s: &mut Stage) {
    s.put(1, 1, SPAN);
    s.held.extend(s.segment().hold(1).unwrap());
    assert_eq!(s.held.len(), 1);
}

/// A thread that stands with the lock for longer than a fork waits.
fn in_a_view_and_a_writer_stands(s: &mut Stage) {
    in_a_view(s);
    crash::pause("lock-taken", Duration::from_secs(2));
    let segment = existing(&s.key);
    s.thread = Some(std::thread::spawn(move || segment.put_bytes(5, &value(1, INLINE)).unwrap()));
    std::thread::sleep(Duration::from_millis(100));
}

/// The child of the child reads what it inherited, replaces it, and ends. Killed there, it leaves a parent that goes on.
fn fork(s: &mut Stage) {
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
