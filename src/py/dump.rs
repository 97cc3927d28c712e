//! What `shmvar._dump` needs of the core: writing a dump of a segment, reading one, and loading its variables. The
//! files, the checksum and the last line are Python's.

use crate::codec::buffers;
use crate::codec::value_check::ValueKind;
use crate::coordination::AsCoordination;
use crate::coordination::queue_put::{NewItem, PutOutcome};
use crate::error::{Error, Result};
use crate::py::convert;
use crate::py::create;
use crate::py::errors;
use crate::py::interpreter;
use crate::py::segment::PySegment;
use crate::py::wait::PyWait;
use crate::segment::{DumpPlan, DumpReader, ItemPart};
use crate::variables::dump_log::layout_of;
use crate::variables::stored::{Stored, ValueSource};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cell::RefCell;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How long an item waits for the writer lock.
const LOCK_SECONDS: u32 = 10;

/// What a whole dump says, but for its values.
#[pyclass(frozen, name = "_DumpPlan", module = "shmvar._core")]
pub struct PyDumpPlan {
    plan: DumpPlan,
    len: u64,
}

#[pymethods]
impl PyDumpPlan {
    /// How many variables there are.
    #[getter]
    fn variables(&self) -> u64 {
        self.plan.variables
    }

    /// How many items there are.
    #[getter]
    fn items(&self) -> u64 {
        self.plan.items
    }

    /// The checksum that the last line states.
    #[getter]
    fn sha256(&self) -> &str {
        &self.plan.sha256
    }
}

/// What a Python function raised that the core has called.
#[derive(Default)]
struct Raised(RefCell<Option<PyErr>>);

impl Raised {
    /// Keeps an exception, and ends the call of the core.
    fn keep<T>(&self, result: PyResult<T>) -> Result<T> {
        result.map_err(|error| {
            self.0.replace(Some(error));
            Error::Interrupted
        })
    }

    /// The exception for an error of the core.
    fn or(&self, error: Error, other: impl FnOnce(Error) -> PyErr) -> PyErr {
        match (error, self.0.take()) {
            (Error::Interrupted, Some(raised)) => raised,
            (error, _) => other(error),
        }
    }
}

/// Reads the next bytes of a dump with a function of Python.
fn source<'a>(read: &'a Bound<'_, PyAny>, raised: &'a Raised) -> impl FnMut(&mut [u8]) -> Result<usize> + 'a {
    interpreter::python_code_follows();
    move |to| {
        let bytes = raised.keep(read.call1((to.len(),)).and_then(|bytes| Ok(bytes.cast_into::<PyBytes>()?)))?;
        let bytes = bytes.as_bytes();
        let Some(to) = to.get_mut(..bytes.len()) else { return Err(Error::Invalid("more bytes than wanted".into())) };
        to.copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// Writes a dump, but for its last line, with the function `write`. Returns how many variables and items there are, for
/// how many nanoseconds the writer lock was held, and how many passes over the table there were.
#[pyfunction]
pub fn _dump(segment: &Bound<'_, PySegment>, write: &Bound<'_, PyAny>) -> PyResult<(u64, u64, u64, u32)> {
    let (py, inner, raised) = (segment.py(), segment.get().inner(), Raised::default());
    let policy = PyWait::new(py, inner.key());
    interpreter::python_code_follows();
    let mut hand_over = |bytes: &[u8]| -> Result<()> {
        raised.keep(create::bytes(py, bytes).and_then(|bytes| write.call1((bytes,)))).map(drop)
    };
    let dumped = inner.dump(&mut hand_over, &policy).map_err(|error| raised.or(error, |error| policy.error(error)))?;
    Ok((dumped.variables, dumped.items, dumped.locked.as_nanos() as u64, dumped.passes))
}

/// Reads a dump of `len` bytes to its end with the function `read`, which takes how many bytes are wanted at most.
/// Raises `DumpError` if it is not whole; whether the checksum is right is left to the caller.
#[pyfunction]
pub fn _dump_plan(read: &Bound<'_, PyAny>, len: u64) -> PyResult<PyDumpPlan> {
    let (py, raised) = (read.py(), Raised::default());
    let plan = DumpPlan::read(&mut source(read, &raised), len);
    let other = |error| raised.or(error, |error| errors::to_py(py, error));
    plan.map(|plan| PyDumpPlan { plan, len }).map_err(|error| errors::of_dump(py, error, other))
}

/// Stores the variables of a dump at one instant, or none of them. `verify` is called before that, when all of the dump
/// was read. The items are given to `items`, each with `begin(name, has_buffers, length)` and `write(bytes)`.
#[pyfunction]
pub fn _load_variables(
    segment: &Bound<'_, PySegment>,
    plan: &Bound<'_, PyDumpPlan>,
    read: &Bound<'_, PyAny>,
    items: &Bound<'_, PyAny>,
    verify: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (py, inner, raised) = (segment.py(), segment.get().inner(), Raised::default());
    let (policy, plan) = (PyWait::new(py, inner.key()), plan.get());
    let mut all_read = || raised.keep(verify.call0()).map(drop);
    let mut keep = |part: ItemPart<'_>| {
        let kept = match part {
            ItemPart::Begins(value) => convert::index_object(py, &value.index).and_then(|name| {
                let has_buffers = value.value.kind != ValueKind::Pickle;
                items.call_method1(intern!(py, "begin"), (name, has_buffers, value.value.len))
            }),
            ItemPart::Piece(bytes) => {
                create::bytes(py, bytes).and_then(|bytes| items.call_method1(intern!(py, "write"), (bytes,)))
            }
        };
        raised.keep(kept).map(drop)
    };
    let (mut source, len) = (source(read, &raised), plan.len);
    let loaded = inner.load_variables(&mut source, len, &plan.plan, &mut keep, &mut all_read, &policy);
    loaded.map_err(|error| errors::of_dump(py, error, |error| raised.or(error, |error| policy.error(error))))
}

/// Calls `each` for every value of a dump that counts: index, or name of the queue; whether it is an item; whether it
/// has buffers beside its pickle; its bytes; and the seconds that it has left to live.
#[pyfunction]
pub fn _dump_values(plan: &Bound<'_, PyDumpPlan>, read: &Bound<'_, PyAny>, each: &Bound<'_, PyAny>) -> PyResult<()> {
    let (py, raised, plan) = (read.py(), Raised::default(), plan.get());
    let other = |error| raised.or(error, |error| errors::to_py(py, error));
    let mut source = source(read, &raised);
    let mut give = || {
        let (mut reader, mut bytes) = (DumpReader::new(&mut source, plan.len)?, Vec::new());
        while let Some(value) = reader.next(&plan.plan)? {
            bytes.clear();
            reader.take_value(&mut bytes)?;
            let has_buffers = value.value.kind != ValueKind::Pickle;
            let index = convert::index_object(py, &value.index);
            let given = index.and_then(|index| {
                each.call1((index, value.is_item, has_buffers, create::bytes(py, &bytes)?, value.expires_in))
            });
            raised.keep(given)?;
        }
        Ok(())
    };
    give().map_err(|error| errors::of_dump(py, error, other))
}

/// The pickle of a value with buffers, with the buffers inside.
#[pyfunction]
pub fn _value_in_band<'py>(py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let in_band = || -> Result<Option<Vec<u8>>> {
        let head = value.first_chunk::<16>().and_then(|start| buffers::head_len(*start));
        let Some(head) = head.and_then(|len| value.get(..len as usize)) else { return Ok(None) };
        let Some(table) = buffers::parse(head, value.len() as u64)? else { return Ok(None) };
        let part = |(at, len): (u64, u64)| &value[at as usize..(at + len) as usize];
        let parts = crate::fallible::collect(table.buffers.iter().map(|place| Ok(part(*place))), "a list of buffers")?;
        buffers::in_band(part(table.pickle), &parts)
    };
    match in_band().map_err(|error| errors::to_py(py, error))? {
        Some(pickle) => create::bytes(py, &pickle),
        None => Err(errors::builtin::<PyValueError>("a value whose table of buffers is damaged")),
    }
}

/// Puts the bytes of an item of a dump at the end of a queue, if there is room now.
#[pyfunction]
pub fn _put_item(
    segment: &Bound<'_, PySegment>,
    name: &Bound<'_, PyAny>,
    has_buffers: bool,
    value: &[u8],
) -> PyResult<()> {
    let inner = segment.get().inner();
    let (policy, name) = (PyWait::new(segment.py(), inner.key()), convert::index(name)?);
    let kind = if has_buffers { ValueKind::Buffers } else { ValueKind::Pickle };
    if let Err(why) = crate::codec::value_check::check_value(kind, value) {
        return Err(errors::builtin::<PyValueError>(why));
    }
    // For the writer lock it waits as long as any other change, but not for room.
    for _ in 0..LOCK_SECONDS {
        let stored = Stored { parts: &[value], layout: layout_of(kind), expiry: None };
        let (source, next_collection) = (ValueSource::OwnMemory, &AtomicU64::new(0));
        let item = NewItem { stored, source, most: u64::MAX, next_collection };
        let put = inner
            .for_change()
            .and_then(|att| att.coordination().queue_put(&name, item, Some(Duration::from_secs(1)), &policy))
            .map_err(|error| policy.error(error))?;
        match put {
            PutOutcome::Put => return Ok(()),
            PutOutcome::SegmentFull(error) => {
                return Err(errors::of_queue(segment.py(), inner.key(), &name, error));
            }
            _ => {}
        }
    }
    let text = format!(
        "key {}, queue {name}: another process held the writer lock for {LOCK_SECONDS} s; \
         `shmvar doctor {}` names it",
        inner.key(),
        inner.key()
    );
    Err(errors::raise_text(segment.py(), c"SegmentBusyError", &text))
}
