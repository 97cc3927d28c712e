//! The containers that the walk is in.

use super::stop::Stop;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::collections::HashSet;

/// How the items of an open container are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A `list`.
    List,
    /// A `tuple`.
    Tuple,
    /// A `dict`.
    Dict,
    /// The list of a mapping's items.
    Items,
}

/// A container that the walk is in.
pub(super) struct Open<'py> {
    pub object: Bound<'py, PyAny>,
    pub kind: Kind,
    /// Whether it is the properties of an object.
    pub is_object: bool,
    /// Whether its keys were compared with each other.
    pub compared: bool,
    /// How many items it had when it was begun, and how many were written.
    pub count: usize,
    pub done: usize,
    /// The place in a `dict`.
    position: ffi::Py_ssize_t,
    /// Of the container that the program sees: not of a copy.
    address: usize,
    /// In how many objects it is.
    objects: usize,
}

/// What stands next in a container. Borrowed from it.
pub(super) enum Next {
    Item(*mut ffi::PyObject),
    Pair(*mut ffi::PyObject, *mut ffi::PyObject),
    End,
}

impl<'py> Open<'py> {
    /// `object` is of this kind, and stands for the container at `address`.
    pub fn new(object: Bound<'py, PyAny>, kind: Kind, address: usize) -> Self {
        let (is_object, compared, count, done, position, objects) = (false, false, 0, 0, 0, 0);
        let mut open = Open { object, kind, is_object, compared, count, done, position, address, objects };
        open.count = open.len();
        open
    }

    #[inline(always)]
    fn len(&self) -> usize {
        let object = self.object.as_ptr();
        // SAFETY: it is of this kind.
        let len = unsafe {
            match self.kind {
                Kind::List | Kind::Items => ffi::PyList_Size(object),
                Kind::Tuple => ffi::PyTuple_Size(object),
                Kind::Dict => ffi::PyDict_Size(object),
            }
        };
        len as usize
    }

    /// What stands next.
    #[inline(always)]
    pub fn next(&mut self) -> Result<Next, Stop> {
        if self.len() != self.count {
            return Err(changed());
        }
        if self.done == self.count {
            return Ok(Next::End);
        }
        let (object, at) = (self.object.as_ptr(), self.done as ffi::Py_ssize_t);
        self.done += 1;
        // SAFETY: it is of this kind, and has more than `at` items.
        unsafe {
            match self.kind {
                Kind::List => Ok(Next::Item(ffi::PyList_GetItem(object, at))),
                Kind::Tuple => Ok(Next::Item(ffi::PyTuple_GetItem(object, at))),
                Kind::Dict => {
                    let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
                    match ffi::PyDict_Next(object, &mut self.position, &mut key, &mut value) {
                        0 => Err(changed()),
                        _ => Ok(Next::Pair(key, value)),
                    }
                }
                Kind::Items => pair_of(ffi::PyList_GetItem(object, at)).map(|(key, value)| Next::Pair(key, value)),
            }
        }
    }

    /// The key of the item that was taken last: a new reference.
    #[cold]
    pub fn key(&self) -> Option<Bound<'py, PyAny>> {
        let py = self.object.py();
        let last = self.done.checked_sub(1)?;
        // SAFETY: it is of this kind; what is found is borrowed from it.
        unsafe {
            match self.kind {
                Kind::List | Kind::Tuple => last.into_pyobject(py).ok().map(Bound::into_any),
                Kind::Dict => {
                    let (mut position, mut key) = (0, std::ptr::null_mut());
                    for _ in 0..self.done {
                        let object = self.object.as_ptr();
                        if ffi::PyDict_Next(object, &mut position, &mut key, std::ptr::null_mut()) == 0 {
                            return None;
                        }
                    }
                    Bound::from_borrowed_ptr_or_opt(py, key)
                }
                Kind::Items if last < self.len() => {
                    let pair = ffi::PyList_GetItem(self.object.as_ptr(), last as ffi::Py_ssize_t);
                    pair_of(pair).ok().and_then(|(key, _)| Bound::from_borrowed_ptr_or_opt(py, key))
                }
                Kind::Items => None,
            }
        }
    }
}

/// The key and value of an item of `items()`.
///
/// # Safety
/// `item` is an object.
unsafe fn pair_of(item: *mut ffi::PyObject) -> Result<(*mut ffi::PyObject, *mut ffi::PyObject), Stop> {
    // SAFETY: the caller says that it is an object.
    unsafe {
        if ffi::PyTuple_Check(item) == 0 || ffi::PyTuple_Size(item) != 2 {
            let text = "items() of a dict of a class of its own returned something else than pairs";
            return Err(Stop::Raised(crate::py::errors::builtin::<PyTypeError>(text)));
        }
        Ok((ffi::PyTuple_GetItem(item, 0), ffi::PyTuple_GetItem(item, 1)))
    }
}

#[cold]
fn changed() -> Stop {
    Stop::Raised(crate::py::errors::builtin::<PyRuntimeError>("a container changed while it was written"))
}

/// Up to this depth the open containers are looked through one by one; beyond it, a set has them.
const FEW: usize = 32;

/// All containers that the walk is in, the outermost first.
#[derive(Default)]
pub(super) struct OpenContainers<'py> {
    pub all: Vec<Open<'py>>,
    /// Address, and in how many objects.
    deep: HashSet<(usize, usize)>,
    /// How many objects the walk is in.
    objects: usize,
}

impl<'py> OpenContainers<'py> {
    /// Whether the walk is in the container at this address, with no object in between. With one, the container is
    /// written a second time, which ends at that object: the object is not written a second time.
    pub fn contains(&self, address: usize) -> bool {
        let here = (address, self.objects);
        let few = &self.all[..self.all.len().min(FEW)];
        few.iter().any(|open| (open.address, open.objects) == here && !open.is_object) || self.deep.contains(&here)
    }

    pub fn push(&mut self, mut open: Open<'py>) -> Result<(), Stop> {
        open.objects = self.objects + usize::from(open.is_object);
        if self.all.len() >= FEW && !open.is_object {
            self.deep.try_reserve(1).map_err(|_| Stop::NoMemory)?;
            self.deep.insert((open.address, open.objects));
        }
        if self.all.len() == self.all.capacity() {
            self.all.try_reserve(8).map_err(|_| Stop::NoMemory)?;
        }
        self.objects = open.objects;
        self.all.push(open);
        Ok(())
    }

    #[inline(always)]
    pub fn pop(&mut self) {
        if let Some(open) = self.all.pop() {
            self.objects -= usize::from(open.is_object);
            if self.all.len() >= FEW && !open.is_object {
                self.deep.remove(&(open.address, open.objects));
            }
        }
    }
}
