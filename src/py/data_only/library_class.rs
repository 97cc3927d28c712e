//! Classes of the standard library and of numpy. They are imported by fixed names, never by a name from the pickle.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::decoder::Decoder;
use super::error::{DataOnlyError, DataOnlyResult};
use super::object_size;

/// A class of the standard library or of numpy, which is imported when it is needed first.
pub(super) struct LibraryClass {
    class: PyOnceLock<Py<PyType>>,
    module: &'static str,
    name: &'static str,
}

impl LibraryClass {
    /// The class of this name.
    pub(super) const fn new(module: &'static str, name: &'static str) -> Self {
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
        let fetched = class.class.import(py, class.module, class.name).cloned();
        self.budget.forgive(before);
        fetched.map_err(|error| match self.or_damaged::<()>(Err(error), "") {
            Err(DataOnlyError::Damaged { .. }) => DataOnlyError::Missing { module: class.module },
            Err(error) => error,
            Ok(()) => DataOnlyError::Missing { module: class.module },
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
