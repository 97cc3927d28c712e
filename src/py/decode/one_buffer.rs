//! The usual large values, one `bytes` and one array, of a segment that is trusted: they are made without the
//! unpickler.

use crate::codec::buffers::{self, OneBuffer};
use crate::py::buffer_views::{self, BufferAccess, MAP_FROM};
use crate::py::create;
use crate::py::numpy::ArrayMaker;
use crate::py::read_mode::ReadMode;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::large::{LargeValue, SHORT_HEAD};
use pyo3::prelude::*;

/// What reading a value as one of the usual ones came to.
pub enum UsualValue<'a> {
    /// It is one of them.
    Read(Py<PyAny>),
    /// It is another one, and is to be read by its pickle.
    Other(LargeValue<'a>),
}

/// Reads the value if it is one `bytes` or one array, and is pinned and trusted.
pub fn read_usual<'a>(
    policy: &PyWait<'_>,
    py: Python<'_>,
    segment: &Segment,
    mode: ReadMode,
    large: LargeValue<'a>,
) -> PyResult<UsualValue<'a>> {
    let failed = |error| policy.error(error);
    let mut head = [0; SHORT_HEAD];
    let Some(OneBuffer { pickle, buffer }) = large.one_buffer(&mut head).map_err(failed)? else {
        return Ok(UsualValue::Other(large));
    };
    let (stream, (at, len)) = (&head[pickle], buffer);
    if stream == buffers::BYTES && mode == ReadMode::Own {
        // The value is pinned, so it does not change.
        large.check_resident(at, len).map_err(failed)?;
        let bytes = create::bytes_with(py, len as usize, |to| large.fill(at, to, policy).map(drop).map_err(failed))?;
        return Ok(UsualValue::Read(bytes.into_any().unbind()));
    }
    let Some(array) = ArrayMaker::of(py, stream, len)? else { return Ok(UsualValue::Other(large)) };
    let access = match mode {
        // A private map of what others change would show their changes.
        ReadMode::Own if len < MAP_FROM || large.is_in_place() => BufferAccess::Copy(large),
        _ => buffer_views::memory_for_array(py, segment, large, buffer, mode)?,
    };
    let array = match access {
        BufferAccess::Views(memory) => array.over(&memory)?,
        BufferAccess::Copy(large) => {
            large.check_resident(at, len).map_err(failed)?;
            array.filled(|to| large.fill(at, to, policy).map(drop).map_err(failed))?
        }
    };
    Ok(UsualValue::Read(array.unbind()))
}
