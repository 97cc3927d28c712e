//! The walk through a value, without recursion.
//!
//! No Python code runs while borrowed references are held: plain scalars and keys are written without any. Before
//! anything else is looked at, it is held by a reference of its own, and each container compares its length with what
//! it was at every step.

use super::keys;
use super::open::{Kind, Next, Open, OpenContainers};
use super::options::DumpOptions;
use super::other;
use super::place::place;
use super::stop::{self, Stop};
use super::strings::{bytes_of, copied, escaped, utf8};
use crate::atomic::calls_are_serialized;
use crate::php::serialize::{Writer, is_class_name};
use crate::py::create::{self, new_reference};
use crate::py::php::classes::{Classes, classes};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::HashMap;

/// Writes a value.
pub(super) fn write(value: &Bound<'_, PyAny>, options: &DumpOptions, writer: &mut Writer) -> PyResult<()> {
    let py = value.py();
    let classes = classes(py)?;
    let open = OpenContainers::default();
    let (numbers, custom, objects, held) = (0, u64::MAX, HashMap::new(), Vec::new());
    let mut walk = Walk { py, writer, options, classes, open, numbers, custom, objects, held };
    let stop = match walk.run(value) {
        Ok(()) => return Ok(()),
        Err(stop) => stop,
    };
    let all = &walk.open.all;
    match stop {
        Stop::Refused(why) => Err(stop::refused(py, &place(all)?, &why)),
        Stop::RefusedAround(why) => Err(stop::refused(py, &place(&all[..all.len().saturating_sub(1)])?, &why)),
        Stop::TooLong => Err(stop::refused(py, &place(all)?, &too_long(options, walk.writer.most()))),
        Stop::Raised(error) => Err(error),
        Stop::NoMemory => Err(create::no_memory()),
    }
}

/// Why an object that was written behind a `PhpCustom` is not written again.
const BEHIND_CUSTOM: &str = "this object stands in the value before, behind a PhpCustom: PHP finds it again by its \
    number, and only the class of the PhpCustom knows how many numbers are taken inside of it. Remedy: let the object \
    stand before the first PhpCustom, too; or put a copy.deepcopy of it here, which is another object in PHP; or \
    store both in variables of their own";

/// Why a text that would be too long is not written.
#[cold]
fn too_long(options: &DumpOptions, most: usize) -> String {
    if options.are_arguments {
        return format!("up to here the text has more than max_size = {most} bytes");
    }
    format!(
        "up to here the text has more than {most} bytes, the most that is stored. Remedy: store parts of it, each for \
         itself"
    )
}

/// Why a value that is nested too deeply is not written.
#[cold]
fn too_deep(options: &DumpOptions) -> String {
    let most = options.max_depth;
    if options.are_arguments {
        return format!(
            "more than max_depth = {most} containers inside each other. Remedy: a larger max_depth; PHP reads 4096 \
             unless unserialize_max_depth allows more"
        );
    }
    format!(
        "more than {most} containers inside each other, and PHP reads no more unless unserialize_max_depth allows it. \
         Remedy: store php.dumps(value, max_depth=None), a string, which php.loads(…, max_depth=None) reads, and in \
         PHP unserialize(…, ['max_depth' => 0])"
    )
}

struct Walk<'a, 'py> {
    py: Python<'py>,
    writer: &'a mut Writer,
    options: &'a DumpOptions,
    classes: &'a Classes,
    open: OpenContainers<'py>,
    /// How many values were written: each has a number.
    numbers: u64,
    /// The number of the first `PhpCustom`. The values inside of it may take numbers in PHP, so that those behind it
    /// are not known here.
    custom: u64,
    /// The numbers of objects, by address. `held` keeps them alive.
    objects: HashMap<usize, u64>,
    held: Vec<Bound<'py, PyAny>>,
}

impl<'py> Walk<'_, 'py> {
    fn run(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Stop> {
        // SAFETY: the object is borrowed.
        unsafe { self.value(value.as_ptr())? };
        while let Some(open) = self.open.all.last_mut() {
            match open.next()? {
                Next::Item(item) => {
                    self.writer.int(open.done as i64 - 1)?;
                    // SAFETY: the container has it, and no code runs before it is held.
                    unsafe { self.value(item)? };
                }
                Next::Pair(key, value) => {
                    // SAFETY: the container has both, and no code runs before they are held.
                    unsafe {
                        if keys::plain(self.writer, key, open.is_object)? {
                            self.value(value)?;
                        } else {
                            let key = Bound::from_borrowed_ptr(self.py, key);
                            let value = Bound::from_borrowed_ptr(self.py, value);
                            self.compare_keys()?;
                            let is_object = self.open.all.last().is_some_and(|open| open.is_object);
                            keys::other(self.writer, &key, is_object)?;
                            self.value(value.as_ptr())?;
                        }
                    }
                }
                Next::End => {
                    self.open.pop();
                    self.writer.end()?;
                }
            }
        }
        Ok(())
    }

    /// Compares the keys of the innermost container with each other, if that was not done yet.
    #[cold]
    fn compare_keys(&mut self) -> Result<(), Stop> {
        let Some(open) = self.open.all.last_mut().filter(|open| !open.compared) else { return Ok(()) };
        open.compared = true;
        let mut again = Open::new(open.object.clone(), open.kind, 0);
        let mut all = Vec::new();
        while let Next::Pair(key, _) = again.next()? {
            // SAFETY: the container has it.
            create::push(&mut all, unsafe { Bound::from_borrowed_ptr(self.py, key) })?;
        }
        keys::compare(&all, open.is_object)
    }

    /// Writes a value, up to the first value inside.
    ///
    /// # Safety
    /// `object` is an object that lives until other code runs.
    #[inline(always)]
    unsafe fn value(&mut self, object: *mut ffi::PyObject) -> Result<(), Stop> {
        self.numbers += 1;
        // SAFETY: the caller says that it is an object; each function is called for its class.
        unsafe {
            let class = ffi::Py_TYPE(object);
            if class == &raw mut ffi::PyUnicode_Type {
                if let Some(text) = utf8(object) {
                    return Ok(self.writer.string(text)?);
                }
                // It has lone surrogates, or there is no memory. The other way finds out.
                ffi::PyErr_Clear();
            } else if class == &raw mut ffi::PyLong_Type {
                let mut overflow = 0;
                let number = ffi::PyLong_AsLongLongAndOverflow(object, &mut overflow);
                if overflow == 0 {
                    return Ok(self.writer.int(number)?);
                }
            } else if class == &raw mut ffi::PyFloat_Type {
                return Ok(self.writer.float(ffi::PyFloat_AsDouble(object))?);
            } else if object == ffi::Py_None() {
                return Ok(self.writer.null()?);
            } else if class == &raw mut ffi::PyBool_Type {
                return Ok(self.writer.bool(object == ffi::Py_True())?);
            } else if class == &raw mut ffi::PyBytes_Type {
                return Ok(self.writer.string(bytes_of(object))?);
            }
            self.other(&Bound::from_borrowed_ptr(self.py, object))
        }
    }

    /// Writes what is no plain scalar.
    #[inline(never)]
    fn other(&mut self, object: &Bound<'py, PyAny>) -> Result<(), Stop> {
        let pointer = object.as_ptr();
        // SAFETY: the object is held; each function is called for its class.
        unsafe {
            if ffi::PyList_Check(pointer) != 0 {
                return self.container(object, Kind::List);
            } else if ffi::PyDict_CheckExact(pointer) != 0 {
                return self.container(object, Kind::Dict);
            } else if ffi::PyTuple_Check(pointer) != 0 {
                return self.container(object, Kind::Tuple);
            } else if ffi::PyDict_Check(pointer) != 0 {
                return self.container(object, Kind::Items);
            } else if ffi::PyUnicode_Check(pointer) != 0 {
                return match utf8(pointer) {
                    Some(text) => Ok(self.writer.string(text)?),
                    None => Ok(self.writer.string(escaped(object)?.as_bytes())?),
                };
            } else if ffi::PyLong_Check(pointer) != 0 {
                let mut overflow = 0;
                let number = ffi::PyLong_AsLongLongAndOverflow(pointer, &mut overflow);
                return if overflow == 0 { Ok(self.writer.int(number)?) } else { Err(other::too_large(object)) };
            } else if ffi::PyFloat_Check(pointer) != 0 {
                return Ok(self.writer.float(ffi::PyFloat_AsDouble(pointer))?);
            } else if ffi::PyBytes_Check(pointer) != 0 {
                return Ok(self.writer.string(bytes_of(pointer))?);
            }
        }
        if object.is_instance(self.classes.object.bind(self.py))? {
            return self.object(object);
        } else if object.is_instance(self.classes.enum_case.bind(self.py))? {
            return self.enum_case(object);
        } else if object.is_instance(self.classes.custom.bind(self.py))? {
            return self.custom(object);
        }
        if let Some(bytes) = copied(object)? {
            return Ok(self.writer.string(bytes.as_bytes())?);
        }
        match other::number(object)? {
            Some(number) => {
                self.numbers -= 1;
                // SAFETY: it is held, and is an int, a float or a bool.
                unsafe { self.value(number.as_ptr()) }
            }
            None => Err(other::refusal(object)),
        }
    }

    /// Begins a container.
    fn container(&mut self, object: &Bound<'py, PyAny>, kind: Kind) -> Result<(), Stop> {
        self.check_depth()?;
        let address = object.as_ptr().addr();
        // SAFETY: the object is held. One with a single reference besides ours is in one place only.
        if unsafe { ffi::Py_REFCNT(object.as_ptr()) } > 2 && self.open.contains(address) {
            let why = "the container contains itself, which PHP's arrays cannot. Remedy: a php.PhpObject in between";
            return Err(Stop::Refused(why.into()));
        }
        let items = self.items(object, kind)?;
        let open = Open::new(items, kind, address);
        self.writer.array(open.count)?;
        self.enter(open, object)
    }

    /// Goes into a container whose beginning is written.
    fn enter(&mut self, open: Open<'py>, object: &Bound<'py, PyAny>) -> Result<(), Stop> {
        let items = open.kind == Kind::Items;
        self.open.push(open)?;
        // `items()` of a class of its own may have a key twice.
        if items && !object.get_type().getattr("items")?.is(&self.py.get_type::<PyDict>().getattr("items")?) {
            self.compare_keys()?;
        }
        Ok(())
    }

    /// What the items of a container are taken from.
    fn items(&self, object: &Bound<'py, PyAny>, kind: Kind) -> Result<Bound<'py, PyAny>, Stop> {
        // SAFETY: the object is held, and is of this kind.
        unsafe {
            let copy: *mut ffi::PyObject = match kind {
                // A class of its own may order its items in its own way.
                Kind::Items => ffi::PyMapping_Items(object.as_ptr()),
                // Without the interpreter's lock, another thread could change the container meanwhile.
                Kind::Dict if !calls_are_serialized() => ffi::PyDict_Copy(object.as_ptr()),
                Kind::List if !calls_are_serialized() => ffi::PySequence_List(object.as_ptr()),
                _ => return Ok(object.clone()),
            };
            Ok(new_reference::<PyAny>(self.py, copy)?)
        }
    }

    fn check_depth(&self) -> Result<(), Stop> {
        if self.open.all.len() < self.options.max_depth {
            return Ok(());
        }
        Err(Stop::Refused(too_deep(self.options)))
    }

    /// Writes a reference to an object that was written before. Returns whether it was.
    fn again(&mut self, object: &Bound<'py, PyAny>) -> Result<bool, Stop> {
        if let Some(number) = self.objects.get(&object.as_ptr().addr()) {
            if *number > self.custom {
                return Err(Stop::Refused(BEHIND_CUSTOM.into()));
            }
            self.writer.same_object(*number)?;
            return Ok(true);
        }
        self.objects.try_reserve(1).map_err(|_| Stop::NoMemory)?;
        create::push(&mut self.held, object.clone())?;
        self.objects.insert(object.as_ptr().addr(), self.numbers);
        Ok(false)
    }

    /// The bytes of an attribute that names something in PHP.
    fn name(&self, object: &Bound<'py, PyAny>, attribute: &Py<PyString>, what: &str) -> Result<Vec<u8>, Stop> {
        let name = object.getattr(attribute.bind(self.py))?;
        let bytes = match name.cast::<PyString>() {
            // SAFETY: it is a `str`, and held.
            Ok(_) => match unsafe { utf8(name.as_ptr()) } {
                Some(text) => text.to_vec(),
                None => escaped(&name)?.as_bytes().to_vec(),
            },
            Err(_) => Vec::new(),
        };
        if !is_class_name(&bytes) {
            let shown = super::place::shown(Some(name))?;
            return Err(Stop::Refused(format!(
                "{what} {shown} is none that PHP reads: a str of letters, digits, '_' and '\\'"
            )));
        }
        Ok(bytes)
    }

    fn object(&mut self, object: &Bound<'py, PyAny>) -> Result<(), Stop> {
        if self.again(object)? {
            return Ok(());
        }
        self.check_depth()?;
        let class = self.name(object, &self.classes.class_name, "the class name")?;
        let properties = object.getattr(self.classes.properties.bind(self.py))?;
        if !properties.is_instance_of::<PyDict>() {
            let class = properties.get_type().name()?.to_string();
            return Err(Stop::Refused(format!("the properties of a PhpObject are a dict, not {class}")));
        }
        let kind = if properties.is_exact_instance_of::<PyDict>() { Kind::Dict } else { Kind::Items };
        let items = self.items(&properties, kind)?;
        let mut open = Open::new(items, kind, properties.as_ptr().addr());
        open.is_object = true;
        self.writer.object(&class, open.count)?;
        self.enter(open, &properties)
    }

    fn enum_case(&mut self, object: &Bound<'py, PyAny>) -> Result<(), Stop> {
        if self.again(object)? {
            return Ok(());
        }
        let class = self.name(object, &self.classes.class_name, "the class name")?;
        let case = self.name(object, &self.classes.case, "the name of the case")?;
        Ok(self.writer.enum_case(&class, &case)?)
    }

    /// Writes an object that serializes itself.
    fn custom(&mut self, object: &Bound<'py, PyAny>) -> Result<(), Stop> {
        if self.again(object)? {
            return Ok(());
        }
        let class = self.name(object, &self.classes.class_name, "the class name")?;
        let data = object.getattr(self.classes.data.bind(self.py))?;
        // SAFETY: it is an object, and held.
        match unsafe { ffi::PyBytes_Check(data.as_ptr()) } {
            0 => Err(Stop::Refused("the data of a PhpCustom is bytes".into())),
            _ => {
                // SAFETY: it is a `bytes`, and held.
                let data = unsafe { bytes_of(data.as_ptr()) };
                self.custom = self.custom.min(self.numbers);
                Ok(self.writer.custom(&class, data)?)
            }
        }
    }
}
