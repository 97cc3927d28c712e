//! What an iterator over changes tells a survivor: after each death the last state of every index, and nothing else.

use crate::survivor::MENDING;
use shmvar::{AsCoordination, Blocking, Changes, IndexBuf, Key, Options, Segment, Step};
use std::collections::BTreeMap;

/// An iterator, and what it has told so far: the version of each index that is there.
pub struct Told {
    changes: Changes,
    view: BTreeMap<IndexBuf, u64>,
}

fn versions(segment: &Segment) -> BTreeMap<IndexBuf, u64> {
    let version = |index: IndexBuf| (index.clone(), segment.version(index.as_index()).unwrap());
    segment.indexes().unwrap().into_iter().map(version).filter(|(_, version)| *version != 0).collect()
}

impl Told {
    /// Begins before anything happens.
    pub fn from_now(segment: &Segment) -> Told {
        let att = segment.attachment().unwrap();
        let changes = Changes::from_now(att.coordination(), None, &Blocking).unwrap();
        Told { changes, view: versions(segment) }
    }

    /// Takes everything that there is to tell.
    fn take_all(&mut self, segment: &Segment, what: &str) {
        let att = segment.attachment().unwrap();
        loop {
            match att.coordination().step_changes(&mut self.changes, true, None, &Blocking) {
                Ok(Step::Change(index, 0)) => drop(self.view.remove(&index)),
                Ok(Step::Change(index, version)) => drop(self.view.insert(index, version)),
                // The segment was destroyed, which is told when nothing else is.
                Ok(_) | Err(shmvar::Error::NotFound(_)) => return,
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }

    /// After that the caller knows what is there.
    pub fn catch_up(&mut self, segment: &Segment, what: &str) {
        self.take_all(segment, what);
        assert_eq!(self.view, versions(segment), "{what}: what was told");
    }

    /// A reader that may not write is told of what is there: of each index the version that it reads itself, or, while
    /// a change is half made, the one before. `old` and `new`: the version of an index before and after the operation. If it
    /// is one step and anything of it is told, all of it is.
    pub fn read_only(
        key: &Key,
        what: &str,
        one_step: bool,
        old: impl Fn(&IndexBuf) -> Option<u64>,
        new: &BTreeMap<IndexBuf, u64>,
    ) {
        let options = Options { readonly: true, create: Some(false), ..Options::default() };
        let Ok(segment) = Segment::attach(key.clone(), &options) else { return };
        let att = segment.attachment().unwrap();
        let changes = Changes::since(att.coordination(), Vec::new(), None).unwrap();
        let mut told = Told { changes, view: BTreeMap::new() };
        told.take_all(&segment, what);
        told.view.remove(&IndexBuf::Int(MENDING));
        let is_new = |(index, version): &(&IndexBuf, &u64)| old(index) != Some(**version);
        for (index, version) in told.view.iter().filter(is_new) {
            assert_eq!(new.get(index), Some(version), "{what}, read only: what was told of {index:?}");
        }
        let missing = new.iter().filter(is_new).find(|(index, version)| told.view.get(index) != Some(version));
        let some = told.view.iter().any(|one| is_new(&one));
        assert!(!one_step || !some || missing.is_none(), "{what}, read only: a part was told, and not {missing:?}");
    }
}
