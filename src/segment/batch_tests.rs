//! Small batches and `get_many` in what only the crate itself can arrange.

use crate::error::Result;
use crate::format::Slot;
use crate::key::{Index, Key};
use crate::os::mem::Scratch;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::segment::{Options, Segment};
use crate::variables::AsVariables;
use crate::variables::change::Condition;
use crate::variables::leaf::{TableOf, is_full};
use crate::variables::place::Spot;
use crate::variables::stored::{Layout, Stored};
use std::cell::Cell;
use std::sync::atomic::Ordering;

fn fresh(name: &str) -> (Segment, Key) {
    let key = Key::text(&format!("batch-tests-{}-{name}", std::process::id())).unwrap();
    let options = Options { size: Some(64 << 20), create: Some(true), ..Options::default() };
    (Segment::attach(key.clone(), &options).unwrap(), key)
}

fn existing(key: &Key) -> Segment {
    Segment::attach(key.clone(), &Options { create: Some(false), ..Options::default() }).unwrap()
}

/// While the call lets other threads run, one of them detaches the last handle, and then the process attaches again.
struct Detaches<'a> {
    handle: &'a Segment,
    key: &'a Key,
    done: Cell<bool>,
}

impl WaitPolicy for Detaches<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        slow();
        if !self.done.replace(true) {
            self.handle.detach();
            let again = existing(self.key);
            again.put(-5, &1).unwrap();
            again.check().unwrap();
        }
    }

    fn interrupted(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn f13_a_handle_detached_in_the_middle_of_a_small_batch_loses_nothing() {
    let (segment, key) = fresh("detach");
    let att = segment.attachment().unwrap();
    // Up to a full leaf: the batch has to make a larger one, which the system is asked for while other threads run.
    for index in 0.. {
        let leaf = att.variables().leaf_of(0, TableOf::Variables).unwrap();
        if is_full(att.variables().counts_of(&leaf).unwrap().fill + 1, leaf.slots) {
            break;
        }
        segment.put(index, &1).unwrap();
    }
    let policy = Detaches { handle: &segment, key: &key, done: Cell::new(false) };
    let stored = Stored { parts: &[b"\x80\x05K\x01."], layout: Layout::Pickle, expiry: None };
    let items: Vec<_> = (0..4).map(|number| (Index::Int(1_000_000 + number), stored)).collect();
    att.variables().put_many(&items, &policy).unwrap();
    assert!(policy.done.get(), "no thread was let in");
    drop(att);
    let again = existing(&key);
    assert_eq!(again.check().unwrap().busy, 0);
    assert_eq!(again.get::<i64>(1_000_003).unwrap(), Some(1));
    again.destroy().unwrap();
}

#[test]
fn f28_a_record_without_a_length_is_read_by_get_many_as_by_get() {
    let (segment, _) = fresh("length");
    for len in [3, 100, 300] {
        let index = Index::Int(len as i64);
        segment.put_pickle(&index, &[&vec![b'x'; len]], Condition::Always, &Blocking).unwrap();
        let att = segment.attachment().unwrap();
        let place = att.variables().write(&Blocking).unwrap().find_place(&(&index).into(), &mut Scratch::new());
        let Spot::Occupied(offset, content) = place.unwrap().spot else { panic!("nothing is there") };
        // The kind of a record, and nothing else: no length, no flags.
        att.mem.at::<Slot>(offset).unwrap().rest[1].store(3, Ordering::SeqCst);
        let one = segment.get_pickle(&index, &Blocking);
        let many = segment.get_many_pickles(&[index]);
        match (one, many) {
            (Ok(one), Ok(many)) => assert_eq!(vec![one], many),
            (one, many) => assert!(one.is_err() && many.is_err(), "{one:?} {many:?}"),
        }
        att.mem.at::<Slot>(offset).unwrap().rest[1].store(content.rest[1], Ordering::SeqCst);
    }
    segment.destroy().unwrap();
}
