//! The package's classes for what only PHP has, and the names of their attributes.

use crate::py::calls;
use crate::py::create;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use std::ffi::CStr;

/// `PhpObject`, `PhpEnum` and `PhpCustom`, and the names of their attributes.
pub struct Classes {
    pub object: Py<PyAny>,
    pub enum_case: Py<PyAny>,
    pub custom: Py<PyAny>,
    pub class_name: Py<PyString>,
    pub properties: Py<PyString>,
    pub case: Py<PyString>,
    pub data: Py<PyString>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

/// The classes. The first call imports their module.
#[inline]
pub fn classes(py: Python<'_>) -> PyResult<&Classes> {
    calls::once(py, &CLASSES, || {
        let class = |name: &CStr| calls::attribute(py, c"shmvar.php._values", name).map(Bound::unbind);
        let name = |name: &str| create::text(py, name).map(Bound::unbind);
        Ok(Classes {
            object: class(c"PhpObject")?,
            enum_case: class(c"PhpEnum")?,
            custom: class(c"PhpCustom")?,
            class_name: name("class_name")?,
            properties: name("properties")?,
            case: name("case")?,
            data: name("data")?,
        })
    })
}
