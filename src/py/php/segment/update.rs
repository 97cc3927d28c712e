//! `update`: stores several variables. All values are serialized first; then it is made sure that all fit, before one
//! is stored.

use super::handle::PySegment;
use super::index::index_of;
use super::mapping;
use super::variable::{copy_of, store_held};
use crate::error::{Error, Lack};
use crate::php::{is_reserved, own_size};
use crate::py::create;
use crate::py::php::dumps::{self, DumpOptions};
use crate::py::segment::items;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;

/// A variable that is to be stored.
struct Entry {
    index: i64,
    text: Vec<u8>,
    /// By how much it makes the segment fuller, compared with what is there now.
    grows: i128,
}

/// `update`.
pub fn update(
    segment: &PySegment,
    py: Python<'_>,
    other: Option<&Bound<'_, PyAny>>,
    named: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let mut pairs = match other {
        None => Vec::new(),
        // What vanishes while it is read is left out, which `keys` and `[]` would not do.
        Some(other) => match other.cast::<PySegment>() {
            Ok(other) => items(mapping::copy(other.get(), py)?.as_any())?,
            Err(_) => items(other)?,
        },
    };
    for (name, value) in named.into_iter().flatten() {
        create::push(&mut pairs, (name, value))?;
    }
    let mut entries = entries(&pairs)?;
    let _held = segment.hold(py)?;
    arrange(segment, &mut entries).map_err(|error| segment.error(py, error))?;
    entries.iter().try_for_each(|entry| store_held(segment, py, entry.index, &entry.text))
}

/// The texts of the values. Of an index that comes twice the last one counts; its place is that of the first one, as in
/// a `dict`.
fn entries(pairs: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)]) -> PyResult<Vec<Entry>> {
    let (mut entries, mut places) = (Vec::<Entry>::new(), HashMap::<i64, usize>::new());
    create::reserve(&mut entries, pairs.len())?;
    places.try_reserve(pairs.len()).map_err(|_| create::no_memory())?;
    for (index, value) in pairs {
        let (index, text) = (index_of(index)?, text_of(value)?);
        match places.get(&index) {
            Some(&place) => entries[place].text = text,
            None => {
                places.insert(index, entries.len());
                create::push(&mut entries, Entry { index, text, grows: 0 })?;
            }
        }
    }
    Ok(entries)
}

/// The text of a value.
fn text_of(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    dumps::with_text(value, &DumpOptions::default(), |text| copy_of(text).ok_or_else(create::no_memory))?
}

/// Makes sure that all fit. If one of them would have no room before others have made some, those come first.
fn arrange(segment: &PySegment, entries: &mut [Entry]) -> Result<(), Error> {
    if entries.len() < 2 {
        return segment.inner().has(0).map(drop); // a handle that is detached says so
    }
    let inner = segment.inner();
    if let Some(entry) = entries.iter().find(|entry| is_reserved(entry.index)) {
        // The core refuses it, and nothing was stored yet.
        return inner.put(entry.index, &entry.text, true);
    }
    inner.check_header()?;
    let lengths = inner.lengths()?;
    let mut there = HashMap::<i64, u64>::new();
    let no_memory = |_| Error::Memory { asked: 16 * lengths.len() as u64, what: "a list of indexes" };
    there.try_reserve(lengths.len()).map_err(no_memory)?;
    there.extend(lengths.iter().copied());
    for entry in entries.iter_mut() {
        let old = there.get(&entry.index).map_or(0, |&length| own_size(length));
        entry.grows = i128::from(own_size(entry.text.len() as u64)) - i128::from(old);
    }
    let info = inner.info()?;
    let (needed, mut free) = (entries.iter().map(|entry| entry.grows).sum::<i128>(), i128::from(info.free));
    if needed > free {
        free += gaps(&lengths, info.used);
    }
    if needed > free {
        return Err(Error::Full {
            needed: needed as u64,
            free: free as u64,
            size: info.total,
            remedy:
                "nothing was stored; remove variables, or store the same in a larger segment, which needs a key of \
                     its own or the removal of this one (destroy)"
                    .into(),
            lack: Lack::Other,
        });
    }
    let mut grown = 0;
    let fits = entries.iter().all(|entry| {
        grown += entry.grows;
        grown <= free
    });
    if !fits {
        entries.sort_by_key(|entry| entry.grows);
    }
    Ok(())
}

/// The bytes between the variables: room that the core uses where it needs it, and that is not counted as free.
#[cold]
fn gaps(lengths: &[(i64, u64)], used: u64) -> i128 {
    let taken: u64 = lengths.iter().map(|&(_, length)| own_size(length)).sum();
    (i128::from(used) - i128::from(taken)).max(0)
}
