//! Classes of the standard library and of numpy. They are imported by fixed names, never by a name from the pickle.

use crate::py::calls;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use std::ffi::CStr;

use super::decoder::Decoder;
use super::error::{DataOnlyError, DataOnlyResult};
use super::object_size;

/// A class of the standard library or of numpy, which is imported when it is needed first.
pub(super) struct LibraryClass {
    class: PyOnceLock<Py<PyType>>,
    module: &'static CStr,
    name: &'static CStr,
}

impl LibraryClass {
    /// The class of this name.
    pub(super) const fn new(module: &'static CStr, name: &'static CStr) -> Self {
        LibraryClass { class: PyOnceLock::new(), module, name }
    }
}

impl<'py> Decoder<'_, 'py> {
    /// The class itself. The time of the import is not charged to the pickle.
    pub(super) fn library_class(&mut self, class: &'static LibraryClass) -> DataOnlyResult<Bound<'py, PyType>> {
        let py = self.py;
        if let Some(class) = class.class.get(py) {
            return Ok(class.bind(py).clone());
        }
        let before = crate::os::thread_cpu_ns();
        let fetch = || Ok(calls::attribute(py, class.module, class.name)?.cast_into::<PyType>()?.unbind());
        let fetched = calls::once(py, &class.class, fetch).map(|class| class.bind(py).clone());
        self.budget.forgive(before);
        let module = class.module.to_str().unwrap_or_default();
        fetched.map_err(|error| match self.or_damaged::<()>(Err(error), "") {
            Err(DataOnlyError::Damaged { .. }) | Ok(()) => DataOnlyError::Missing { module },
            Err(error) => error,
        })
    }

    /// Calls a class with arguments that were checked.
    pub(super) fn construct(
        &mut self,
        class: &'static LibraryClass,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> DataOnlyResult<Bound<'py, PyAny>> {
        self.budget.look()?;
        self.budget.memory(object_size::OBJECT)?;
        let class = self.library_class(class)?;
        let made = class.call1(arguments);
        self.or_damaged(made, "arguments that their class does not accept")
    }
}
