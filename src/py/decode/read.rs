//! Reads one variable. A value that is copied out of the segment is decoded while no lock and no pin is held.

use super::large::LargeRead;
use super::value::decode;
use crate::key::Index;
use crate::os::mem::Scratch;
use crate::process::backoff::{Backoff, Obstacle};
use crate::py::read_mode::ReadMode;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::AsVariables;
use crate::variables::read::FoundValue;
use pyo3::prelude::*;

/// A variable's value and version. `None` if the variable is missing.
#[inline]
pub fn read(
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    index: &Index<'_>,
    mode: ReadMode,
) -> PyResult<Option<(Py<PyAny>, u64)>> {
    let trusted = segment.trusted();
    let mut backoff = Backoff::default();
    loop {
        let mut scratch = Scratch::new();
        let att = segment.attachment().map_err(|error| policy.error(error))?;
        let got = att.variables().get(index, &mut scratch, policy).map_err(|error| policy.error(error))?;
        return match got {
            None => Ok(None),
            Some(FoundValue::Inline { bytes, len, version }) => {
                Ok(Some((decode(py, index, &bytes[2..2 + len], trusted, mode)?, version)))
            }
            Some(FoundValue::Record { prefix, version, .. }) => {
                Ok(Some((decode(py, index, &scratch.bytes()[prefix..], trusted, mode)?, version)))
            }
            Some(FoundValue::Large(large)) => {
                let version = large.version();
                match (LargeRead { py, policy, segment, index, mode }).read(large)? {
                    Some(value) => Ok(Some((value, version))),
                    None => {
                        segment
                            .attachment()
                            .and_then(|att| backoff.again(Obstacle::Replaced, &att, policy))
                            .map_err(|error| policy.error(error))?;
                        continue;
                    }
                }
            }
        };
    }
}
