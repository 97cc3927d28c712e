//! Objects over the memory of a value in place: an array, or a `memoryview`. The protocol is "Values in place" in
//! `docs/protocol.md`.

use super::failure::{ValueOf, refused};
use super::large::LargeRead;
use super::value::decode_over;
use crate::codec::buffers::{self, OneBuffer};
use crate::error::Error;
use crate::key::Index;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::py::buffer_views::memory_in_place;
use crate::py::create;
use crate::py::data_only;
use crate::py::numpy::{ArrayMaker, is_array};
use crate::py::read_mode::ReadMode;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::large::{LargeValue, SHORT_HEAD};
use crate::variables::read::FoundValue;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

/// What there is under an index.
pub enum InPlace {
    /// Nothing.
    Missing,
    /// A variable that is not changed in place.
    Plain,
    /// A value in place: an array or a `memoryview`.
    Opened(Py<PyAny>),
    /// An array in place, where only a buffer was asked for.
    NoBuffer,
}

/// Opens a value in place: for writing, or, through a handle that may not write, as a read-only copy.
/// `buffers_only`: an array is not made, which needs numpy.
pub fn open(
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    index: &Index<'_>,
    buffers_only: bool,
) -> PyResult<InPlace> {
    let mut backoff = Backoff::default();
    loop {
        let mut scratch = Scratch::new();
        let att = segment.attachment().map_err(|error| policy.error(error))?;
        let got = att.variables().get(index, &mut scratch, policy).map_err(|error| policy.error(error))?;
        let large = match got {
            None => return Ok(InPlace::Missing),
            Some(FoundValue::Large(large)) if large.is_in_place() => large,
            Some(_) => return Ok(InPlace::Plain),
        };
        let read = LargeRead { py, policy, segment, of: index.into(), mode: ReadMode::View };
        let large = if segment.trusted() { large.trusting() } else { large };
        if buffers_only {
            let stream = large.stream(policy).map_err(|error| policy.error_at(index, error))?;
            if stream.is_some_and(|(stream, _)| stream != buffers::MEMORYVIEW) {
                return Ok(InPlace::NoBuffer);
            }
        }
        let (value, obstacle) = match att.mem.writable() {
            true => (read.over_memory(large, false)?, Obstacle::Changed),
            false => (read.read(large)?, Obstacle::Replaced),
        };
        if let Some(value) = value {
            return Ok(InPlace::Opened(value));
        }
        backoff.again(obstacle, &att, policy).map_err(|error| policy.error(error))?;
    }
}

impl LargeRead<'_, '_> {
    /// Makes an object over the memory of a value in place. `None` if the value is not pinned because it has changed.
    pub fn over_memory(&self, large: LargeValue<'_>, readonly: bool) -> PyResult<Option<Py<PyAny>>> {
        let (py, trusted) = (self.py, self.segment.trusted());
        let failed = |error| match self.of {
            ValueOf::Variable(index) => self.policy.error_at(index, error),
            ValueOf::Item(_) => self.policy.error(error),
        };
        if !large.check_memory(!trusted, self.policy).map_err(failed)? {
            return Ok(None);
        }
        let mut head = [0; SHORT_HEAD];
        let short = if trusted { large.one_buffer(&mut head).map_err(failed)? } else { None };
        let (stream, buffer) = match short {
            Some(OneBuffer { pickle, buffer }) => (std::borrow::Cow::Borrowed(&head[pickle]), buffer),
            None => {
                let damaged = || failed(Error::corrupt("the buffers of a value in place"));
                let Some(parsed) = large.parse(self.policy).map_err(failed)? else { return Ok(None) };
                let [buffer] = parsed.buffers[..] else { return Err(damaged()) };
                let Some(stream) = large.read_part(parsed.pickle, self.policy).map_err(failed)? else {
                    return Ok(None);
                };
                (std::borrow::Cow::Owned(stream), buffer)
            }
        };
        let memory = memory_in_place(py, self.segment, large, buffer, readonly)?;
        if *stream == *buffers::MEMORYVIEW {
            return Ok(Some(PyMemoryView::from(&memory)?.into_any().unbind()));
        }
        let array = match trusted {
            true => match ArrayMaker::of(py, &stream, buffer.1)? {
                Some(maker) => maker.over(&memory)?.unbind(),
                None => decode_over(py, self.of, &stream, &memory)?,
            },
            false => {
                let memory = PyMemoryView::from(&memory)?.into_any();
                let decoded = data_only::decode_in_place(py, &stream, memory);
                decoded.map_err(|error| refused(py, error, self.of, stream.len()))?
            }
        };
        match is_array(array.bind(py))? {
            true => Ok(Some(array)),
            false => Err(failed(Error::corrupt("the pickle of a value in place"))),
        }
    }
}

/// Fails if the pickle of an array of no items is one that is refused in place in a segment that is not trusted.
pub fn refuse_in_place(py: Python<'_>, index: &Index<'_>, stream: &[u8]) -> PyResult<()> {
    let memory = PyMemoryView::from(create::bytes(py, &[])?.as_any())?.into_any();
    let decoded = data_only::decode_in_place(py, stream, memory);
    decoded.map(drop).map_err(|error| refused(py, error, index.into(), stream.len()))
}
