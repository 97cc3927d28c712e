//! Reads one variable. A value that is copied out of the segment is decoded while no lock and no pin is held.

use super::failure::of_version;
use super::large::LargeRead;
use super::value::decode;
use crate::key::Index;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::py::read_mode::ReadMode;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::read::{FoundValue, Purpose};
use pyo3::prelude::*;

/// What one attempt to read found.
enum ReadAttempt {
    /// The value and the version. `None` if the variable is missing.
    Read(Option<(Py<PyAny>, u64)>),
    /// A large value was replaced while it was being copied.
    Replaced,
}

/// A variable's value and version, which are used. `None` if the variable is missing.
#[inline]
pub fn read(
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    index: &Index<'_>,
    mode: ReadMode,
) -> PyResult<Option<(Py<PyAny>, u64)>> {
    match attempt(Purpose::Use, policy, py, segment, index, mode)? {
        ReadAttempt::Read(read) => Ok(read),
        ReadAttempt::Replaced => read_again(policy, py, segment, index, mode),
    }
}

/// A variable's value and version, for a look at all variables: that is no use. `None` if the variable is missing.
pub fn look(
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    index: &Index<'_>,
) -> PyResult<Option<(Py<PyAny>, u64)>> {
    match attempt(Purpose::Look, policy, py, segment, index, ReadMode::Own)? {
        ReadAttempt::Read(read) => Ok(read),
        ReadAttempt::Replaced => read_again(policy, py, segment, index, ReadMode::Own),
    }
}

/// Reads until nobody replaces the value while it is being copied, or the backoff gives up.
#[cold]
fn read_again(
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    index: &Index<'_>,
    mode: ReadMode,
) -> PyResult<Option<(Py<PyAny>, u64)>> {
    let mut backoff = Backoff::default();
    loop {
        segment
            .attachment()
            .and_then(|att| backoff.again(Obstacle::Replaced, &att, policy))
            .map_err(|error| policy.error(error))?;
        if let ReadAttempt::Read(read) = attempt(Purpose::Look, policy, py, segment, index, mode)? {
            return Ok(read);
        }
    }
}

#[inline(always)]
fn attempt(
    purpose: Purpose,
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    index: &Index<'_>,
    mode: ReadMode,
) -> PyResult<ReadAttempt> {
    let trusted = segment.trusted();
    let mut scratch = Scratch::new();
    let att = segment.attachment().map_err(|error| policy.error(error))?;
    let got = att.variables().get_as(purpose, index, &mut scratch, policy).map_err(|error| policy.error(error))?;
    let read = match got {
        None => None,
        Some(FoundValue::Inline { bytes, len, version }) => {
            let value = decode(py, index, &bytes[2..2 + len], trusted, mode);
            Some((value.map_err(|error| of_version(py, error, version))?, version))
        }
        Some(FoundValue::Record { prefix, version, .. }) => {
            let value = decode(py, index, &scratch.bytes()[prefix..], trusted, mode);
            Some((value.map_err(|error| of_version(py, error, version))?, version))
        }
        Some(FoundValue::Large(large)) => {
            let version = large.version();
            let read = LargeRead { py, policy, segment, of: index.into(), mode }.read(large);
            match read.map_err(|error| of_version(py, error, version))? {
                Some(value) => Some((value, version)),
                None => return Ok(ReadAttempt::Replaced),
            }
        }
    };
    Ok(ReadAttempt::Read(read))
}
