//! The visitor that builds values.
//!
//! Most texts have no references. So the first walk keeps no table of values, and decides at the end of an array
//! whether it is a list. The first reference ends that walk: another one finds out which arrays are lists, and a third
//! one makes each array where it begins, so that what is inside can refer to it.

use super::memory::{self, Memory};
use super::object_stack::{NoRoom, ObjectStack};
use super::options::LoadOptions;
use crate::atomic::calls_are_serialized;
use crate::os::thread_cpu_ns;
use crate::php::serialize::{
    Container, Damage, Frame, Key, ListShapes, Reference, Scalar, Visitor, Why, list_shapes, walk,
};
use crate::py::collector::CollectorPaused;
use crate::py::php::classes::{Classes, classes};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Why building ends early.
pub(super) enum Stop {
    Damage(Damage),
    NoMemory,
    /// The interpreter has raised an exception.
    Raised,
    /// The text has a reference, and there is no table of values.
    Refers,
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Stop::Damage(damage)
    }
}

impl From<NoRoom> for Stop {
    fn from(_: NoRoom) -> Self {
        Stop::NoMemory
    }
}

/// Builds the value of a text.
pub(super) fn build(py: Python<'_>, text: &[u8], options: &LoadOptions) -> Result<Py<PyAny>, Stop> {
    // Importing may run Python code, so it comes first: none runs while values are built.
    let classes = classes(py).map_err(|error| {
        error.restore(py);
        Stop::Raised
    })?;
    // Without the interpreter's lock, the collector starts only where Python code runs, so not in here.
    let _paused = calls_are_serialized().then(|| CollectorPaused::new(py));
    match run(py, text, options, classes, None) {
        Err(Stop::Refers) => {
            let shapes = list_shapes(text, &options.limits)?;
            run(py, text, options, classes, Some(Numbered { shapes, values: ObjectStack::default(), containers: 0 }))
        }
        other => other,
    }
}

fn run(
    py: Python<'_>,
    text: &[u8],
    options: &LoadOptions,
    classes: &Classes,
    numbered: Option<Numbered>,
) -> Result<Py<PyAny>, Stop> {
    let memory = Memory::new(options.max_memory);
    let cpu_limit = 2_000_000_000_u64.saturating_add((text.len() as u64).saturating_mul(1_000));
    let stack = ObjectStack::default();
    let aside = ObjectStack::default();
    let mut builder = Builder { options, classes, memory, stack, aside, numbered, cpu_limit, cpu_end: None };
    let mut frames: Vec<Frame<Open>> = Vec::new();
    walk(text, &options.limits, &mut builder, &mut frames)?;
    let value = builder.stack.pop().ok_or(Stop::NoMemory)?;
    // SAFETY: the stack owned the reference.
    Ok(unsafe { Bound::from_owned_ptr(py, value) }.unbind())
}

/// What references need.
struct Numbered {
    shapes: ListShapes,
    /// The values that have numbers.
    values: ObjectStack,
    /// How many arrays and objects have begun.
    containers: usize,
}

struct Builder<'a> {
    options: &'a LoadOptions,
    classes: &'a Classes,
    memory: Memory,
    /// For each open array: its object, if it is made already; then its items, or its keys and values.
    stack: ObjectStack,
    /// A new dict, while its keys and values are on top of the stack.
    aside: ObjectStack,
    numbered: Option<Numbered>,
    cpu_limit: u64,
    cpu_end: Option<u64>,
}

/// An array or object that is being read.
pub(super) struct Open {
    /// Where its items begin on the stack, or its keys and values.
    base: usize,
    shape: Shape,
    /// Whether its object stands below `base`.
    made: bool,
    count: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// Keys were 0, 1, 2 and so on up to now. Only values are on the stack.
    List,
    Dict,
    /// Below `base` stand the object and its dict of properties.
    Object,
}

/// So many int keys of one dict cannot take long to put into it, whatever they are.
const FEW_KEYS: usize = 1024;

/// The `str` or `bytes` of a string: a new reference, or null with an exception set.
#[inline(always)]
pub(super) fn string(string: &[u8], bytes: bool) -> *mut ffi::PyObject {
    let (at, len) = (string.as_ptr().cast(), string.len() as ffi::Py_ssize_t);
    // SAFETY: the interpreter is attached; the string has this length.
    unsafe {
        if !bytes && (string.is_ascii() || std::str::from_utf8(string).is_ok()) {
            ffi::PyUnicode_FromStringAndSize(at, len)
        } else {
            ffi::PyBytes_FromStringAndSize(at, len)
        }
    }
}

impl Builder<'_> {
    /// Pushes a new reference, or takes the exception.
    ///
    /// # Safety
    /// `object` is a reference that the caller owns, or null with an exception set.
    #[inline(always)]
    unsafe fn push_new(&mut self, object: *mut ffi::PyObject) -> Result<(), Stop> {
        if object.is_null() {
            return Err(Stop::Raised);
        }
        // SAFETY: the caller owns it.
        Ok(unsafe { self.stack.push(object) }?)
    }

    /// Pushes one more reference to an object.
    ///
    /// # Safety
    /// `object` is an object.
    #[inline(always)]
    unsafe fn push_again(&mut self, object: *mut ffi::PyObject) -> Result<(), Stop> {
        // SAFETY: it is an object.
        unsafe {
            ffi::Py_INCREF(object);
            Ok(self.stack.push(object)?)
        }
    }

    /// Gives the object on top of the stack a number.
    #[inline(always)]
    fn number(&mut self, offset: usize) -> Result<(), Stop> {
        let Some(numbered) = &mut self.numbered else { return Ok(()) };
        self.memory.take(8, offset)?;
        let object = self.stack.get(self.stack.len() - 1);
        // SAFETY: the stack keeps it alive.
        unsafe {
            ffi::Py_INCREF(object);
            Ok(numbered.values.push(object)?)
        }
    }

    /// Pushes a string.
    #[inline(always)]
    fn text(&mut self, text: &[u8], offset: usize) -> Result<(), Stop> {
        let (at, len) = (text.as_ptr().cast(), text.len() as ffi::Py_ssize_t);
        let size = match self.options.bytes {
            true => None,
            false if text.is_ascii() => Some(memory::ascii(text.len())),
            false => std::str::from_utf8(text).ok().map(memory::text),
        };
        self.memory.take(size.unwrap_or(memory::bytes(text.len())), offset)?;
        // SAFETY: the string has this length; what is made is new, or null.
        unsafe {
            self.push_new(match size {
                Some(_) => ffi::PyUnicode_FromStringAndSize(at, len),
                None => ffi::PyBytes_FromStringAndSize(at, len),
            })
        }
    }

    /// Pushes a name of a class, case or property: always a `str`. Bytes that are no UTF-8 are surrogates in it.
    fn name(&mut self, name: &[u8], offset: usize) -> Result<(), Stop> {
        self.memory.take(80 + 4 * name.len() as u64, offset)?;
        let (at, len) = (name.as_ptr().cast(), name.len() as ffi::Py_ssize_t);
        // SAFETY: the name has this length; it is new, or null.
        unsafe { self.push_new(ffi::PyUnicode_DecodeUTF8(at, len, c"surrogateescape".as_ptr())) }
    }

    #[inline(always)]
    fn int(&mut self, number: i64, offset: usize) -> Result<(), Stop> {
        self.memory.take(memory::INT, offset)?;
        // SAFETY: it is new, or null.
        unsafe { self.push_new(ffi::PyLong_FromLong(number)) }
    }

    /// Makes an object of one of the package's classes, with two attributes from the top of the stack, which it takes
    /// from there. Leaves the object on the stack.
    fn object(&mut self, class: &Py<PyAny>, attributes: [&Py<PyString>; 2], offset: usize) -> Result<(), Stop> {
        self.memory.take(memory::OBJECT, offset)?;
        let top = self.stack.len();
        // SAFETY: the class is one of the package's, made by a `class` statement with `__slots__`, so that a new object
        // needs no arguments and runs no code. The attributes are on the stack.
        unsafe {
            let object = ffi::PyType_GenericNew(class.as_ptr().cast(), std::ptr::null_mut(), std::ptr::null_mut());
            self.push_new(object)?;
            for (at, name) in attributes.iter().enumerate() {
                if ffi::PyObject_GenericSetAttr(object, name.as_ptr(), self.stack.get(top - 2 + at)) != 0 {
                    return Err(Stop::Raised);
                }
            }
            ffi::Py_INCREF(object);
            self.stack.truncate(top - 2);
            Ok(self.stack.push(object)?)
        }
    }

    /// Puts the keys and values from `base` on into a dict, and gives them back.
    fn fill(&mut self, dict: *mut ffi::PyObject, base: usize, offset: usize) -> Result<(), Stop> {
        let pairs = (self.stack.len() - base) / 2;
        for at in 0..pairs {
            if at >= FEW_KEYS && at % 64 == 0 {
                self.look(offset)?;
            }
            let (key, value) = (self.stack.get(base + 2 * at), self.stack.get(base + 2 * at + 1));
            // SAFETY: all three are alive. Keys are `int`, `str` or `bytes`.
            if unsafe { ffi::PyDict_SetItem(dict, key, value) } != 0 {
                return Err(Stop::Raised);
            }
        }
        self.stack.truncate(base);
        // SAFETY: it is a dict.
        if self.numbered.is_some() && unsafe { ffi::PyDict_Size(dict) } as usize != pairs {
            return Err(Damage { offset, why: Why::KeyAgain }.into());
        }
        Ok(())
    }

    /// Looks at the clock.
    fn look(&mut self, offset: usize) -> Result<(), Stop> {
        let now = thread_cpu_ns();
        let end = *self.cpu_end.get_or_insert(now.saturating_add(self.cpu_limit));
        if now > end { Err(Damage { offset, why: Why::SlowKeys }.into()) } else { Ok(()) }
    }
}

impl Visitor for Builder<'_> {
    type Open = Open;
    type Error = Stop;

    #[inline(always)]
    fn scalar(&mut self, scalar: Scalar<'_>, offset: usize) -> Result<(), Stop> {
        // SAFETY: constants live as long as the interpreter; everything else is new, or null.
        unsafe {
            match scalar {
                Scalar::Int(number) => self.int(number, offset)?,
                Scalar::Text(text) => self.text(&text, offset)?,
                Scalar::Float(number) => {
                    self.memory.take(memory::FLOAT, offset)?;
                    self.push_new(ffi::PyFloat_FromDouble(number))?;
                }
                Scalar::Null => self.push_again(ffi::Py_None())?,
                Scalar::Bool(true) => self.push_again(ffi::Py_True())?,
                Scalar::Bool(false) => self.push_again(ffi::Py_False())?,
                Scalar::EnumCase { class, case } => {
                    self.name(class, offset)?;
                    self.name(case, offset)?;
                    self.object(&self.classes.enum_case, [&self.classes.class_name, &self.classes.case], offset)?;
                }
                Scalar::Custom { class, data } => {
                    self.name(class, offset)?;
                    self.memory.take(memory::bytes(data.len()), offset)?;
                    self.push_new(string(data, true))?;
                    self.object(&self.classes.custom, [&self.classes.class_name, &self.classes.data], offset)?;
                }
            }
        }
        self.number(offset)
    }

    #[inline(always)]
    fn begin(&mut self, container: Container<'_>, offset: usize) -> Result<Open, Stop> {
        let count = container.count;
        // SAFETY: each object is new, or null.
        unsafe {
            if let Some(class) = container.class {
                self.memory.take(memory::DICT, offset)?;
                self.name(class, offset)?;
                self.push_new(ffi::PyDict_New())?;
                let dict = self.stack.get(self.stack.len() - 1);
                self.object(&self.classes.object, [&self.classes.class_name, &self.classes.properties], offset)?;
                self.number(offset)?;
                self.push_again(dict)?;
                if let Some(numbered) = &mut self.numbered {
                    numbered.containers += 1;
                }
                return Ok(Open { base: self.stack.len(), shape: Shape::Object, made: true, count });
            }
            let Some(numbered) = &mut self.numbered else {
                let shape = if self.options.dicts { Shape::Dict } else { Shape::List };
                self.memory.take(memory::LIST + memory::ITEM * count as u64, offset)?;
                return Ok(Open { base: self.stack.len(), shape, made: false, count });
            };
            let is_list = numbered.shapes.is_list(numbered.containers) && !self.options.dicts;
            numbered.containers += 1;
            self.memory.take(memory::LIST + memory::ITEM * count as u64, offset)?;
            let shape = if is_list { Shape::List } else { Shape::Dict };
            let made = if is_list { ffi::PyList_New(count as ffi::Py_ssize_t) } else { ffi::PyDict_New() };
            self.push_new(made)?;
            self.number(offset)?;
            Ok(Open { base: self.stack.len(), shape, made: true, count })
        }
    }

    #[inline(always)]
    fn key(&mut self, open: &mut Open, key: Key<'_>, offset: usize) -> Result<(), Stop> {
        if open.shape == Shape::List {
            let next = (self.stack.len() - open.base) as i64;
            if key == Key::Int(next) {
                return Ok(());
            }
            self.memory.take(memory::DICT + (memory::ENTRY + memory::INT) * next as u64, offset)?;
            self.stack.interleave(open.base, |at| {
                // SAFETY: the interpreter is attached.
                let key = unsafe { ffi::PyLong_FromLong(at as i64) };
                if key.is_null() {
                    // SAFETY: as above. The lack of memory is reported by the caller.
                    unsafe { ffi::PyErr_Clear() };
                }
                (!key.is_null()).then_some(key)
            })?;
            open.shape = Shape::Dict;
        }
        self.memory.take(memory::ENTRY, offset)?;
        match key {
            Key::Int(number) => self.int(number, offset),
            Key::Text(text) if open.shape == Shape::Object => self.name(&text, offset),
            Key::Text(text) => self.text(&text, offset),
        }
    }

    #[inline(always)]
    fn end(&mut self, open: Open, offset: usize) -> Result<(), Stop> {
        let base = open.base;
        match open.shape {
            Shape::List => {
                let list = match open.made {
                    true => self.stack.get(base - 1),
                    // SAFETY: the interpreter is attached.
                    false => unsafe { ffi::PyList_New(open.count as ffi::Py_ssize_t) },
                };
                if list.is_null() {
                    return Err(Stop::Raised);
                }
                debug_assert_eq!(self.stack.len() - base, open.count);
                self.stack.move_from(base, |at, item| {
                    // SAFETY: the list has this empty place, and takes the reference.
                    unsafe { ffi::PyList_SetItem(list, at as ffi::Py_ssize_t, item) };
                });
                // SAFETY: it is new.
                if open.made { Ok(()) } else { unsafe { self.push_new(list) } }
            }
            Shape::Dict | Shape::Object if open.made => {
                self.fill(self.stack.get(base - 1), base, offset)?;
                if open.shape == Shape::Object {
                    self.stack.truncate(base - 1);
                }
                Ok(())
            }
            _ => {
                // SAFETY: the interpreter is attached; it is new, or null.
                let dict = unsafe { ffi::PyDict_New() };
                if dict.is_null() {
                    return Err(Stop::Raised);
                }
                // SAFETY: it is new.
                unsafe { self.aside.push(dict)? };
                self.fill(dict, base, offset)?;
                self.aside.pop();
                // SAFETY: the reference was just taken.
                unsafe { self.push_new(dict) }
            }
        }
    }

    fn reference(&mut self, reference: Reference, offset: usize) -> Result<(), Stop> {
        let Some(numbered) = &self.numbered else { return Err(Stop::Refers) };
        // The walk has checked the number.
        let object = numbered.values.get(reference.number as usize - 1);
        // SAFETY: the table keeps it alive.
        unsafe {
            let class = ffi::Py_TYPE(object).cast::<ffi::PyObject>();
            let ours = [&self.classes.object, &self.classes.enum_case, &self.classes.custom];
            if !reference.variable && !ours.iter().any(|one| one.as_ptr() == class) {
                return Err(Damage { offset, why: Why::NoObject { number: reference.number } }.into());
            }
            self.push_again(object)?;
        }
        if reference.variable { Ok(()) } else { self.number(offset) }
    }
}
