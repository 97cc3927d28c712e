//! Values to pickles. Scalars by the core, the rest by the interpreter's C pickler; never under a lock.

use crate::codec::arrays;
use crate::codec::buffers::{self, ALIGN, OUT_OF_BAND};
use crate::codec::scalar::{self, ShortPickle};
use crate::error::Result;
use crate::fallible;
use crate::py::errors;
use crate::py::made;
use crate::py::reducers::{self, Reducers};
use crate::py::sealed;
use crate::variables::stored::Stored;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyMemoryView, PySlice, PyString};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// A value's pickle, in the parts it is stored from.
pub enum Encoded<'a, 'py> {
    /// All of it.
    Short(ShortPickle),
    /// Head, bytes of the object itself, tail.
    Framed(ShortPickle, &'a [u8], [u8; 1]),
    /// By the C pickler.
    Pickled(Bound<'py, PyBytes>),
    /// An exact `bytes` that takes a span.
    Bytes(&'a [u8]),
    /// A pickle, and buffers that are stored beside it.
    Buffers(Stream<'py>, Vec<PyBuffer<u8>>),
}

/// A pickle that has its buffers beside it.
pub enum Stream<'py> {
    /// One of those that `codec::buffers` knows.
    Known(&'static [u8]),
    /// Of an `array.array`.
    Array(Vec<u8>),
    /// By the C pickler.
    Pickled(Bound<'py, PyBytes>),
}

/// The parts of a value, where it is stored together with others.
pub enum Parts<'a> {
    /// All of it.
    Small(Vec<u8>),
    /// With buffers: what stands before them, each one's gap and itself.
    Beside(buffers::BufferPlan, &'a [u8], Vec<&'a [u8]>),
}

impl Parts<'_> {
    /// In order; and is it a record with buffers?
    pub fn slices(&self) -> Result<(Vec<&[u8]>, bool)> {
        Ok(match self {
            Parts::Small(bytes) => (fallible::collect(std::iter::once(Ok(bytes.as_slice())), PARTS)?, false),
            Parts::Beside(plan, stream, slices) => (laid_out(plan, stream, slices)?, true),
        })
    }
}

impl Encoded<'_, '_> {
    /// The parts, to be kept.
    pub fn parts(&self) -> Result<Parts<'_>> {
        match self {
            Encoded::Bytes(bytes) => planned(buffers::BYTES, vec![*bytes]),
            Encoded::Buffers(stream, held) => planned(stream.as_bytes(), slices_of(held)?),
            small => small.with(|stored| fallible::joined(stored.parts, PARTS)).map(Parts::Small),
        }
    }

    /// Runs `store` with the parts.
    #[inline(always)]
    pub fn with<T>(&self, store: impl FnOnce(Stored<'_>) -> Result<T>) -> Result<T> {
        match self {
            Encoded::Short(short) => store(Stored { parts: &[short.as_slice()], buffers: false, expiry: None }),
            Encoded::Framed(head, middle, tail) => {
                store(Stored { parts: &[head.as_slice(), middle, tail], buffers: false, expiry: None })
            }
            Encoded::Pickled(bytes) => store(Stored { parts: &[bytes.as_bytes()], buffers: false, expiry: None }),
            Encoded::Bytes(bytes) => beside(buffers::BYTES, vec![*bytes], store),
            Encoded::Buffers(stream, held) => beside(stream.as_bytes(), slices_of(held)?, store),
        }
    }
}

impl Stream<'_> {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Stream::Known(stream) => stream,
            Stream::Array(stream) => stream.as_slice(),
            Stream::Pickled(bytes) => bytes.as_bytes(),
        }
    }
}

fn slices_of(held: &[PyBuffer<u8>]) -> Result<Vec<&[u8]>> {
    // SAFETY: contiguous, and exported for as long as `held` lives. Other threads may store into the memory meanwhile; the
    // kernel copies it, once, and what it copies is what is stored.
    let slice = |b: &PyBuffer<u8>| unsafe {
        match b.len_bytes() {
            0 => &[][..],
            len => std::slice::from_raw_parts(b.buf_ptr().cast::<u8>(), len),
        }
    };
    fallible::collect(held.iter().map(|buffer| Ok(slice(buffer))), PARTS)
}

fn planned<'a>(stream: &'a [u8], slices: Vec<&'a [u8]>) -> Result<Parts<'a>> {
    let lens = fallible::collect(slices.iter().map(|slice| Ok(slice.len())), PARTS)?;
    Ok(Parts::Beside(buffers::plan(stream.len(), &lens)?, stream, slices))
}

fn laid_out<'a>(plan: &'a buffers::BufferPlan, stream: &'a [u8], slices: &[&'a [u8]]) -> Result<Vec<&'a [u8]>> {
    let mut parts: Vec<&[u8]> = fallible::with_room(2 + 2 * slices.len(), PARTS)?;
    parts.extend([plan.head.as_slice(), stream]);
    for (gap, slice) in plan.gaps.iter().zip(slices) {
        parts.extend([&ZEROS[..*gap], slice]);
    }
    Ok(parts)
}

/// What a value's parts are called where there is no memory for them.
const PARTS: &str = "the parts of a value";

/// What stands between buffers.
static ZEROS: [u8; ALIGN as usize] = [0; ALIGN as usize];

/// Runs `store` with the parts of a record with buffers.
#[cold]
fn beside<T>(stream: &[u8], slices: Vec<&[u8]>, store: impl FnOnce(Stored<'_>) -> Result<T>) -> Result<T> {
    let parts = planned(stream, slices)?;
    store(Stored { parts: &parts.slices()?.0, buffers: true, expiry: None })
}

/// Pickles a value: exact scalars here, everything else by `_pickle.dumps` at protocol 5, whose errors come through
/// unchanged.
#[inline]
pub fn encode<'a, 'py>(value: &'a Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
    let py = value.py();
    if value.is_exact_instance_of::<PyInt>() {
        let mut overflow = 0;
        // SAFETY: an int, borrowed; the interpreter is attached.
        let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &mut overflow) };
        if overflow == 0 {
            return Ok(Encoded::Short(scalar::int(number)));
        }
    } else if value.is_exact_instance_of::<PyString>() {
        let mut len = 0;
        // SAFETY: a str, borrowed. The bytes belong to it and live as long as it does.
        let text = unsafe { ffi::PyUnicode_AsUTF8AndSize(value.as_ptr(), &mut len) };
        if !text.is_null() {
            let (head, tail) = scalar::str_frame(len as usize);
            // SAFETY: as above; a str does not change.
            let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len as usize) };
            return Ok(Encoded::Framed(head, bytes, tail));
        }
        // Lone surrogates: the pickler knows what to do.
        drop(PyErr::take(py));
    } else if value.is_exact_instance_of::<PyFloat>() {
        // SAFETY: a float, borrowed.
        return Ok(Encoded::Short(scalar::float(unsafe { ffi::PyFloat_AsDouble(value.as_ptr()) })));
    } else if value.is_exact_instance_of::<PyBytes>() {
        // SAFETY: just looked at.
        let bytes = unsafe { value.cast_unchecked::<PyBytes>() }.as_bytes();
        if bytes.len() >= buffers::LARGE_BYTES {
            return Ok(Encoded::Bytes(bytes));
        }
        let (head, tail) = scalar::bytes_frame(bytes.len());
        return Ok(Encoded::Framed(head, bytes, tail));
    } else if value.is_none() {
        return Ok(Encoded::Short(scalar::constant(None)));
    } else if let Some(truth) = truth(value) {
        return Ok(Encoded::Short(scalar::constant(Some(truth))));
    }
    pickle(value)
}

/// By the C pickler, with the buffers that are worth it beside the stream.
fn pickle<'a, 'py>(value: &Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
    let py = value.py();
    if let Some(encoded) = bare_buffer(value)? {
        return Ok(encoded);
    }
    if reducers::may_matter(value)? {
        return pickle_arrays(value);
    }
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static USUAL: PyOnceLock<(Py<Sink>, Py<PyDict>)> = PyOnceLock::new();
    static BUSY: AtomicBool = AtomicBool::new(false);
    let dumps = made::imported(py, &DUMPS, c"_pickle", c"dumps")?;
    let make = || -> PyResult<(Py<Sink>, Py<PyDict>)> {
        let sink = Py::new(py, Sink::default())?;
        let named = made::dict(py)?;
        named.set_item(made::text(py, "protocol")?, made::int(py, 5)?)?;
        named.set_item(made::text(py, "buffer_callback")?, &sink)?;
        Ok((sink, named.unbind()))
    };
    // Pickling runs user code, which may pickle into a segment, or let another thread do so: each has a sink of its own, but
    // making one costs more than pickling a small dict, so one is kept for whoever comes first.
    let usual = USUAL.get_or_try_init(py, make)?;
    let first = !BUSY.swap(true, Ordering::Acquire);
    let (sink, named) = if first { (usual.0.clone_ref(py), usual.1.clone_ref(py)) } else { make()? };
    let arguments = made::tuple(py, [value.clone()].into_iter().map(Ok));
    let pickled = arguments.and_then(|arguments| dumps.call(arguments, Some(named.bind(py))));
    let Given { buffers: taken, read_only } = sink.get().take();
    if first {
        BUSY.store(false, Ordering::Release);
    }
    finished(pickled?.cast_into()?, taken, read_only)
}

/// The same with reducers for arrays that numpy would copy into the pickle.
#[cold]
fn pickle_arrays<'a, 'py>(value: &Bound<'py, PyAny>) -> PyResult<Encoded<'a, 'py>> {
    let py = value.py();
    static PICKLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static BYTES_IO: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let stream = BYTES_IO.import(py, "_io", "BytesIO")?.call0()?;
    let sink = Bound::new(py, Sink::default())?;
    let pickler = PICKLER.import(py, "_pickle", "Pickler")?.call1((&stream, 5, true, &sink))?;
    pickler.setattr(pyo3::intern!(py, "dispatch_table"), Reducers::get(py)?)?;
    pickler.call_method1(pyo3::intern!(py, "dump"), (value,))?;
    // Its memo keeps alive what was made for the pickle alone.
    drop(pickler);
    let Given { buffers: taken, read_only } = sink.get().take();
    finished(stream.call_method0(pyo3::intern!(py, "getvalue"))?.cast_into()?, taken, read_only)
}

#[inline(always)]
fn finished<'a, 'py>(
    mut pickled: Bound<'py, PyBytes>,
    taken: Vec<PyBuffer<u8>>,
    read_only: bool,
) -> PyResult<Encoded<'a, 'py>> {
    let py = pickled.py();
    // What a reader gets is its own, and may be changed, whether the memory that was copied may or not.
    if read_only && sealed::names_numpy(pickled.as_bytes()) {
        let writable = arrays::make_writable(pickled.as_bytes()).map_err(|error| errors::to_py(py, error))?;
        if let Some(writable) = writable {
            pickled = made::bytes(py, &writable)?;
        }
    }
    if taken.is_empty() {
        return Ok(Encoded::Pickled(pickled));
    }
    Ok(Encoded::Buffers(Stream::Pickled(pickled), taken))
}

/// A large `bytearray`, `array.array`, `mmap` or `memoryview` of plain bytes: a stream that the core knows, and the buffer.
fn bare_buffer<'a, 'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Encoded<'a, 'py>>> {
    let py = value.py();
    // SAFETY: an object, borrowed. Most have no buffer, and pass at the cost of this look.
    if unsafe { ffi::PyObject_CheckBuffer(value.as_ptr()) } == 0 {
        return Ok(None);
    }
    let beside = |buffer: PyBuffer<u8>, stream| Ok(Some(Encoded::Buffers(stream, vec![buffer])));
    let plain = |value: &Bound<'py, PyAny>| match PyBuffer::<u8>::get(value) {
        Ok(buffer) if buffer.dimensions() == 1 && buffer.is_c_contiguous() => Some(buffer),
        Ok(_) => None,
        Err(_) => {
            drop(PyErr::take(py));
            None
        }
    };
    if value.is_exact_instance_of::<PyByteArray>() {
        return match plain(value).filter(|buffer| buffer.len_bytes() >= OUT_OF_BAND) {
            Some(buffer) => beside(buffer, Stream::Known(buffers::BYTEARRAY)),
            None => Ok(None),
        };
    }
    // However short: the pickler would refuse these two.
    if value.is_instance_of::<PyMemoryView>() || is_of(value, "mmap", "mmap")? {
        return match plain(value) {
            Some(buffer) => beside(buffer, Stream::Known(buffers::MEMORYVIEW)),
            None => Ok(None),
        };
    }
    if is_of(value, "array", "array")? {
        let code = value.getattr("typecode")?.extract::<char>()?;
        let bytes = value.len()? * value.getattr("itemsize")?.extract::<usize>()?;
        // Text has widths of its own.
        if bytes >= OUT_OF_BAND && code.is_ascii() && !matches!(code, 'u' | 'w') {
            let reduced = value.get_item(PySlice::new(py, 0, 0, 1))?.call_method1("__reduce_ex__", (5,))?;
            let format = reduced.get_item(1)?.get_item(2)?.extract::<u8>()?;
            let window = PyMemoryView::from(value)?.call_method1("cast", ("B",))?;
            return beside(PyBuffer::get(&window)?, Stream::Array(buffers::array_stream(code as u8, format)));
        }
    }
    Ok(None)
}

/// Is this exactly the type of that name in a module of the standard library, which is not imported for that?
fn is_of(value: &Bound<'_, PyAny>, module: &str, name: &str) -> PyResult<bool> {
    let class = value.get_type();
    // SAFETY: a type object; its flags are read.
    let flags = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
    let built_in = flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 || flags & IMMUTABLE != 0;
    Ok(built_in && class.name()? == name && class.module()? == module)
}

/// `Py_TPFLAGS_IMMUTABLETYPE`: no class that a program defines has it.
const IMMUTABLE: std::ffi::c_ulong = 1 << 8;

/// What the pickler hands its out-of-band buffers to.
#[pyclass(frozen)]
#[derive(Default)]
struct Sink {
    /// Something was handed over, or may have been.
    called: AtomicBool,
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    /// Those that are stored beside the pickle.
    buffers: Vec<PyBuffer<u8>>,
    /// One or more, short ones too, cannot be written.
    read_only: bool,
}

impl Sink {
    fn take(&self) -> Given {
        match self.called.load(Ordering::Acquire) && self.called.swap(false, Ordering::Acquire) {
            true => std::mem::take(&mut *self.given.lock().unwrap_or_else(|e| e.into_inner())),
            false => Given::default(),
        }
    }
}

#[pymethods]
impl Sink {
    /// True: pickle it within the stream.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        // Not contiguous: the pickler says so itself.
        let raw = match buffer.call_method0("raw") {
            Err(error) if error.is_instance_of::<PyBufferError>(buffer.py()) => return Ok(true),
            raw => raw?,
        };
        let raw = PyBuffer::<u8>::get(&raw)?;
        let within = raw.len_bytes() < OUT_OF_BAND;
        if !within || raw.readonly() {
            self.called.store(true, Ordering::Release);
            let mut given = self.given.lock().unwrap_or_else(|e| e.into_inner());
            given.read_only |= raw.readonly();
            if !within {
                made::push(&mut given.buffers, raw)?;
            }
        }
        Ok(within)
    }
}

fn truth(value: &Bound<'_, PyAny>) -> Option<bool> {
    // SAFETY: the two constants of the interpreter, compared by address.
    unsafe {
        if value.as_ptr() == ffi::Py_True() {
            Some(true)
        } else if value.as_ptr() == ffi::Py_False() {
            Some(false)
        } else {
            None
        }
    }
}
