//! Reads a value that has a span of its own. It may have buffers beside its pickle. If it could not be pinned, it may
//! change while it is copied; then the caller reads again.

use super::failure::{ValueOf, explain};
use super::one_buffer::{UsualValue, read_usual};
use super::value::{array_items, decode_data_only_buffers, decode_object};
use crate::codec::buffers;
use crate::os::mem::CopyTarget;
use crate::py::buffer_views::{self, BufferAccess};
use crate::py::calls;
use crate::py::create;
use crate::py::pickle::loads;
use crate::py::read_mode::ReadMode;
use crate::py::read_only;
use crate::py::wait::PyWait;
use crate::segment::Segment;
use crate::variables::large::LargeValue;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

/// What one read of such a value needs.
pub struct LargeRead<'a, 'py> {
    pub py: Python<'py>,
    pub policy: &'a PyWait<'py>,
    pub segment: &'a Segment,
    pub of: ValueOf<'a>,
    pub mode: ReadMode,
}

impl<'py> LargeRead<'_, 'py> {
    /// Reads the value. `None` if it changed while it was copied.
    pub fn read(&self, large: LargeValue<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (py, segment) = (self.py, self.segment);
        let large = if segment.trusted() { large.trusting() } else { large };
        if large.is_in_place() && self.mode == ReadMode::View && segment.trusted() && large.attachment().mem.writable()
        {
            return self.over_memory(large, true);
        }
        if large.has_buffers() {
            return match read_usual(self.policy, py, segment, self.mode, large)? {
                UsualValue::Read(value) => Ok(Some(value)),
                UsualValue::Other(large) => self.read_buffers(large),
            };
        }
        let Some(pickle) = self.copy(&large, (0, large.len()))? else { return Ok(None) };
        // User code runs next, and no pin is held while it runs.
        drop(large);
        decode_object(py, self.of, pickle, segment.trusted(), self.mode).map(Some)
    }

    /// Copies a place of the value into an object that `make` creates. `make` gets the length, and a function that
    /// fills the object's memory. `None` if the value changed meanwhile.
    fn copied<T>(
        &self,
        large: &LargeValue<'_>,
        (at, len): (u64, u64),
        make: impl FnOnce(usize, &mut dyn FnMut(&mut CopyTarget<'_>) -> PyResult<()>) -> PyResult<T>,
    ) -> PyResult<Option<T>> {
        let policy = self.policy;
        if !large.check_resident(at, len).map_err(|error| policy.error(error))? {
            return Ok(None);
        }
        let mut unchanged = true;
        let object = make(len as usize, &mut |to| {
            unchanged = large.fill(at, to, policy).map_err(|error| policy.error(error))?;
            Ok(())
        })?;
        Ok(unchanged.then_some(object))
    }

    /// Copies a place of the value into a `bytes`.
    fn copy(&self, large: &LargeValue<'_>, place: (u64, u64)) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.copied(large, place, |len, fill| create::bytes_with(self.py, len, fill))
    }

    /// Copies a place of the value into a `bytearray`.
    fn copy_writable(&self, large: &LargeValue<'_>, place: (u64, u64)) -> PyResult<Option<Bound<'py, PyByteArray>>> {
        self.copied(large, place, |len, fill| create::bytearray_with(self.py, len, fill))
    }

    /// Reads a value that has buffers beside its pickle.
    fn read_buffers(&self, large: LargeValue<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (py, policy, mode) = (self.py, self.policy, self.mode);
        let failed = |error| policy.error(error);
        let Some(parsed) = large.parse(policy).map_err(failed)? else { return Ok(None) };
        let Some(stream) = large.read_part(parsed.pickle, policy).map_err(failed)? else { return Ok(None) };
        if stream == buffers::BYTES && parsed.buffers.len() == 1 && (mode == ReadMode::Own || !large.pinned()) {
            let copied = self.copy(&large, parsed.buffers[0])?.map(|bytes| bytes.into_any().unbind());
            return copied.map(|bytes| read_only::in_mode(py, bytes, mode)).transpose();
        }
        if !self.segment.trusted() {
            let mut copies = create::collect(std::iter::empty())?;
            for place in &parsed.buffers {
                let Some(copied) = self.copy_writable(&large, *place)? else { return Ok(None) };
                create::push(&mut copies, copied)?;
            }
            drop(large);
            if let (ReadMode::View, Some(code), [buffer]) = (mode, buffers::array_code(&stream), &copies[..]) {
                return array_items(buffer, code)?.call_method0("toreadonly").map(|view| Some(view.unbind()));
            }
            let value = decode_data_only_buffers(py, self.of, &stream, copies, mode)?;
            return read_only::in_mode(py, value, mode).map(Some);
        }
        let total: u64 = parsed.buffers.iter().map(|(_, len)| len).sum();
        let objects = match buffer_views::views_of(py, self.segment, large, &parsed.buffers, mode, total)? {
            BufferAccess::Views(objects) => objects,
            BufferAccess::Copy(large) => {
                let mut copies = create::collect(std::iter::empty())?;
                for place in &parsed.buffers {
                    let copied = match mode {
                        ReadMode::View => self.copy(&large, *place)?.map(Bound::into_any),
                        ReadMode::Own => self.copy_writable(&large, *place)?.map(Bound::into_any),
                    };
                    let Some(copied) = copied else { return Ok(None) };
                    // A class must be rebuilt from the same kind of object, whether its buffers are long or short.
                    create::push(&mut copies, PyMemoryView::from(&copied)?.into_any())?;
                }
                copies
            }
        };
        let bare = stream == buffers::BYTES || stream == buffers::MEMORYVIEW || stream == buffers::BYTEARRAY;
        if let (true, [buffer]) = (bare, &objects[..]) {
            if mode == ReadMode::View || stream == buffers::MEMORYVIEW {
                return Ok(Some(buffer.clone().unbind()));
            }
        }
        if let (ReadMode::View, Some(code), [buffer]) = (mode, buffers::array_code(&stream), &objects[..]) {
            // Rebuilding the `array.array` would copy, so the view is a memoryview of its items.
            return Ok(Some(array_items(buffer, code)?.unbind()));
        }
        let named = create::dict(py)?;
        named.set_item(create::text(py, "buffers")?, create::list(py, objects.into_iter().map(Ok))?)?;
        let pickle = create::bytes(py, &stream)?;
        let value = match mode {
            ReadMode::Own => calls::call(loads(py)?, [pickle.into_any()], Some(&named)),
            ReadMode::View => read_only::unpickle(pickle, Some(&named)),
        };
        match value {
            Ok(value) => Ok(Some(value.unbind())),
            Err(error) => Err(explain(py, error, self.of, &stream)),
        }
    }
}
