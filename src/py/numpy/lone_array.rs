//! Values that are one array: written without the pickler, and made without the unpickler.
//!
//! The pickles are those of the pickler, byte for byte ([`crate::codec::lone_array`]). What differs between arrays of
//! one dtype is the shape, so what the pickler and the unpickler make of a dtype is remembered: of the last few dtypes
//! that were met. A value of another dtype goes the usual way, once.

use super::imported::{Numpy, imported, whole_numpy};
use super::layout;
use crate::codec::buffers::OUT_OF_BAND;
use crate::codec::lone_array::{self, Shape};
use crate::fallible;
use crate::os::fork::ForkMutex;
use crate::os::mem::CopyTarget;
use crate::py::calls::{self, IMMUTABLE};
use crate::py::create::{self, new_reference};
use crate::py::errors;
use crate::py::pickle::loads;
use crate::variables::stored::ValueSource;
use pyo3::buffer::PyBuffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// Dtypes that are remembered, for writing and for reading.
const REMEMBERED: usize = 8;

/// A dtype of which an array was stored.
struct WrittenDtype {
    /// The dtype of those arrays. It is kept, so its address stays its own.
    dtype: Py<PyAny>,
    /// Bytes of an item.
    item: u64,
    /// What the pickle of such an array begins with.
    head: Vec<u8>,
}

/// A dtype of which an array was read.
struct ReadDtype {
    /// Its pickle, without PROTO and STOP.
    pickle: Vec<u8>,
    /// What came of that.
    dtype: Py<PyAny>,
    /// Bytes of an item.
    item: u64,
}

/// The last dtypes that were met; the next one takes the place of the oldest.
struct Remembered<T> {
    dtypes: Vec<T>,
    next: usize,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Remembered { dtypes: Vec::new(), next: 0 }
    }
}

impl<T> Remembered<T> {
    /// Adds a dtype. Returns what is forgotten for it, which is dropped once the mutex is free: that may run any code.
    fn add(&mut self, dtype: T) -> Option<T> {
        if self.dtypes.len() < REMEMBERED {
            return match fallible::reserve(&mut self.dtypes, 1, "a list of dtypes") {
                Ok(()) => {
                    self.dtypes.push(dtype);
                    None
                }
                Err(_) => Some(dtype),
            };
        }
        let place = self.next % REMEMBERED;
        self.next = place + 1;
        Some(std::mem::replace(&mut self.dtypes[place], dtype))
    }
}

static WRITTEN: ForkMutex<Remembered<WrittenDtype>> = ForkMutex::new(Remembered { dtypes: Vec::new(), next: 0 });
static READ: ForkMutex<Remembered<ReadDtype>> = ForkMutex::new(Remembered { dtypes: Vec::new(), next: 0 });

/// An array that is stored as a value.
pub struct PickledArray<'a> {
    /// Its pickle.
    pub stream: Vec<u8>,
    /// Its memory, which is stored beside the pickle.
    pub memory: &'a [u8],
    /// Whose memory that is.
    pub source: ValueSource,
}

/// The pickle of an array whose memory is stored beside it. `None`: the value is no such array, or its dtype is not
/// known yet; then it is pickled as usual, and [`remember`] is told what came of it.
#[inline]
pub fn pickled<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Option<PickledArray<'a>>> {
    let py = value.py();
    let Some(whole) = whole_memory(value) else { return Ok(None) };
    let Some(known) = WRITTEN.try_lock() else { return Ok(None) };
    let Some(known) = known.dtypes.iter().find(|known| known.dtype.as_ptr() == whole.dtype) else { return Ok(None) };
    if is_registered(known.dtype.bind(py))? {
        return Ok(None);
    }
    let Some(bytes) = whole.shape.items().and_then(|items| items.checked_mul(known.item)) else { return Ok(None) };
    if bytes < OUT_OF_BAND as u64 {
        return Ok(None);
    }
    let stream =
        lone_array::join(&known.head, &whole.shape, whole.fortran).map_err(|error| errors::to_py(py, error))?;
    // SAFETY: the array is contiguous and has that many bytes. It lives as long as it is borrowed; numpy gives its
    // memory back sooner only to a program that insists. Other threads may store into it meanwhile; it is copied once,
    // and what is copied is what is stored.
    let memory = unsafe { std::slice::from_raw_parts(whole.data, bytes as usize) };
    let source = if whole.own { ValueSource::OwnMemory } else { ValueSource::Anywhere };
    Ok(Some(PickledArray { stream, memory, source }))
}

/// Remembers the pickle of a value, if the value is an array and its own memory is what is stored beside the pickle.
pub fn remember(value: &Bound<'_, PyAny>, stream: &[u8], buffer: &PyBuffer<u8>) -> PyResult<()> {
    let (Some(whole), Some(array), Some(len)) =
        (whole_memory(value), lone_array::split(stream), lone_array::head_and_dtype_len(stream))
    else {
        return Ok(());
    };
    if array.shape != whole.shape || array.fortran != whole.fortran {
        return Ok(());
    }
    let dtype = value.getattr(pyo3::intern!(value.py(), "dtype"))?;
    let item: u64 = dtype.getattr(pyo3::intern!(value.py(), "itemsize"))?.extract()?;
    let bytes = whole.shape.items().and_then(|items| items.checked_mul(item));
    let own = buffer.buf_ptr().cast::<u8>().cast_const() == whole.data && bytes == Some(buffer.len_bytes() as u64);
    if !own || dtype.as_ptr() != whole.dtype || is_registered(&dtype)? {
        return Ok(());
    }
    let Ok(head) = fallible::copied(&stream[..len], "the pickle of a dtype") else { return Ok(()) };
    let forgotten = WRITTEN.try_lock().map(|mut known| known.add(WrittenDtype { dtype: dtype.unbind(), item, head }));
    drop(forgotten);
    Ok(())
}

/// Whether the program has registered a function of its own, by which the pickler reduces arrays or dtypes of this
/// class.
fn is_registered(dtype: &Bound<'_, PyAny>) -> PyResult<bool> {
    static TABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = dtype.py();
    let table = calls::cached_attribute(py, &TABLE, c"copyreg", c"dispatch_table")?;
    let Some(numpy) = Numpy::if_fetched(py) else { return Ok(true) };
    Ok(table.contains(numpy.ndarray.bind(py))? || table.contains(dtype.get_type())?)
}

/// An array whose memory is in one piece.
struct WholeMemory {
    dtype: *mut ffi::PyObject,
    data: *const u8,
    shape: Shape,
    fortran: bool,
    /// numpy has allocated the memory for this array.
    own: bool,
}

/// Where the memory of a value lies, if it is an exact array in one piece whose items are neither objects nor structs.
#[inline]
fn whole_memory(value: &Bound<'_, PyAny>) -> Option<WholeMemory> {
    let numpy = Numpy::if_fetched(value.py())?;
    // SAFETY: the object is borrowed.
    let class = unsafe { ffi::Py_TYPE(value.as_ptr()) };
    if class != numpy.ndarray.as_ptr().cast() || !numpy.layout_is_known() {
        return None;
    }
    // SAFETY: the array is exact, and the layout was checked.
    let array = unsafe { layout::memory(value) };
    let in_one_piece = array.flags & layout::CONTIGUOUS != 0;
    if !in_one_piece || !Numpy::has_plain_items(array.number) || array.data.is_null() {
        return None;
    }
    let shape = Shape::new(array.lens.iter().map(|len| *len as u64))?;
    let fortran = array.flags & layout::CONTIGUOUS == layout::FORTRAN;
    let own = array.flags & layout::OWN_DATA != 0;
    Some(WholeMemory { dtype: array.dtype, data: array.data, shape, fortran, own })
}

/// What makes an array of a pickle: its arguments, and that the buffer has just the length for it.
pub struct ArrayMaker<'py> {
    dtype: Bound<'py, PyAny>,
    shape: Shape,
    fortran: bool,
}

impl<'py> ArrayMaker<'py> {
    /// Reads a pickle that the segment is trusted for. `buffer`: bytes of its buffer. `None`: the pickle is not that of
    /// one array, or not with that buffer, and the unpickler says what it is.
    pub fn of(py: Python<'py>, stream: &[u8], buffer: u64) -> PyResult<Option<Self>> {
        let Some(rest) = lone_array::after_buffer(stream) else { return Ok(None) };
        let known = READ.try_lock().and_then(|known| {
            let known = known.dtypes.iter().find(|known| rest.starts_with(&known.pickle))?;
            Some((known.dtype.clone_ref(py).into_bound(py), known.item, known.pickle.len()))
        });
        let (dtype, item, len) = match known {
            Some(known) => known,
            None => match unpickle(py, rest)? {
                Some(made) => made,
                None => return Ok(None),
            },
        };
        let Some((shape, fortran)) = lone_array::shape_and_order(&rest[len..]) else { return Ok(None) };
        let whole = shape.items().and_then(|items| items.checked_mul(item)) == Some(buffer) && buffer > 0;
        Ok(whole.then_some(ArrayMaker { dtype, shape, fortran }))
    }

    /// The array over this memory, as writable as that is.
    pub fn over(self, memory: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.make(Some(memory))
    }

    /// An array of its own, whose memory `fill` fills.
    pub fn filled(self, fill: impl FnOnce(&mut CopyTarget<'_>) -> PyResult<()>) -> PyResult<Bound<'py, PyAny>> {
        let array = self.make(None)?;
        let mut view = std::mem::MaybeUninit::<ffi::Py_buffer>::uninit();
        // SAFETY: the interpreter is attached; the view is filled if the call succeeds, and released once, after its
        // last use. Nobody else knows the array yet, whose memory is in one piece and writable.
        unsafe {
            let flags = ffi::PyBUF_ANY_CONTIGUOUS | ffi::PyBUF_WRITABLE;
            if ffi::PyObject_GetBuffer(array.as_ptr(), view.as_mut_ptr(), flags) != 0 {
                return Err(PyErr::fetch(array.py()));
            }
            let mut view = view.assume_init();
            let filled = fill(&mut CopyTarget::new(view.buf.cast(), view.len as usize));
            ffi::PyBuffer_Release(&mut view);
            filled?;
        }
        Ok(array)
    }

    /// `numpy.ndarray(shape, dtype, memory)`, in Fortran's order if need be.
    fn make(self, memory: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.dtype.py();
        let lens = self.shape.axes().iter().map(|len| Ok(create::uint(py, *len)?.into_any()));
        let shape = create::tuple(py, lens)?.into_any();
        let memory = memory.map_or_else(|| py.None().into_bound(py), Bound::clone);
        let arguments = match self.fortran {
            false => create::tuple(py, [shape, self.dtype, memory].into_iter().map(Ok))?,
            true => {
                let (start, strides, order) =
                    (create::int(py, 0)?.into_any(), py.None().into_bound(py), create::text(py, "F")?);
                create::tuple(py, [shape, self.dtype, memory, start, strides, order.into_any()].into_iter().map(Ok))?
            }
        };
        let class = ndarray(py)?.ok_or_else(|| errors::builtin::<pyo3::exceptions::PyImportError>("numpy"))?;
        // SAFETY: the interpreter is attached; both are borrowed, and no named arguments are given.
        unsafe { new_reference(py, ffi::PyObject_Call(class.as_ptr(), arguments.as_ptr(), std::ptr::null_mut())) }
    }
}

/// The dtype with whose pickle `rest` begins, the bytes of an item, and the bytes of that pickle. It is remembered.
/// `None`: numpy was not imported, or the dtype is none whose arrays are made here.
#[cold]
fn unpickle<'py>(py: Python<'py>, rest: &[u8]) -> PyResult<Option<(Bound<'py, PyAny>, u64, usize)>> {
    let (Some(len), Some(module)) = (lone_array::dtype_len(rest), whole_numpy(py)?) else { return Ok(None) };
    let Some(class) = module.getattr_opt(pyo3::intern!(py, "dtype"))? else { return Ok(None) };
    // What goes wrong here is left to the unpickler of the whole, which says so in its own words.
    let made = match lone_array::plain_dtype(&rest[..len]) {
        // What numpy has ready comes sooner than the unpickler, in a process that has unpickled nothing yet.
        Some((order, name, item)) => {
            let dtype = errors::unless_exception_lasts(py, || class.call1((format!("{order}{name}"),)))?;
            dtype.map(|dtype| (dtype, item))
        }
        None => {
            let pickle = fallible::joined(&[b"\x80\x05", &rest[..len], b"."], "the pickle of a dtype");
            let pickle = create::bytes(py, &pickle.map_err(|error| errors::to_py(py, error))?)?;
            let loads = loads(py)?;
            match errors::unless_exception_lasts(py, || loads.call1((&pickle,)))? {
                Some(dtype) if dtype.is_instance(&class)? => item_of(&dtype)?.map(|item| (dtype, item)),
                _ => None,
            }
        }
    };
    let Some((dtype, item)) = made else { return Ok(None) };
    if let Ok(pickle) = fallible::copied(&rest[..len], "the pickle of a dtype") {
        let known = ReadDtype { pickle, dtype: dtype.clone().unbind(), item };
        let forgotten = READ.try_lock().map(|mut remembered| remembered.add(known));
        drop(forgotten);
    }
    Ok(Some((dtype, item, len)))
}

/// The bytes of an item of a dtype whose arrays are made here.
fn item_of(dtype: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    let number = dtype.getattr(pyo3::intern!(dtype.py(), "num"))?.extract()?;
    let item: i64 = dtype.getattr(pyo3::intern!(dtype.py(), "itemsize"))?.extract()?;
    Ok(u64::try_from(item).ok().filter(|item| Numpy::has_plain_items(number) && *item > 0))
}

/// Makes ready what the first array of a program needs, if the program has imported numpy: its class, and the dtypes
/// that most arrays have.
pub fn prepare(py: Python<'_>) -> PyResult<()> {
    // A module that is imported when it is first looked at is left alone: it is of a class of its own.
    let numpy = imported(py, pyo3::intern!(py, "numpy"))?;
    if numpy.is_some_and(|module| module.is_exact_instance_of::<PyModule>()) && ndarray(py)?.is_some() {
        for (order, name) in [(b'<', "f8"), (b'<', "f4"), (b'<', "i8"), (b'|', "u1")] {
            let pickle = lone_array::pickle_of_plain_dtype(order, name).map_err(|error| errors::to_py(py, error))?;
            unpickle(py, &pickle)?;
        }
    }
    Ok(())
}

/// Whether an object is exactly one of numpy's arrays, and not of a class derived from them.
pub fn is_array(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(ndarray(object.py())?.is_some_and(|class| object.get_type().is(class)))
}

static NDARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// `numpy.ndarray`, if the program has imported numpy.
#[inline]
fn ndarray(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyType>>> {
    if let Some(class) = NDARRAY.get(py) {
        return Ok(Some(class.bind(py)));
    }
    let Some(module) = whole_numpy(py)? else { return Ok(None) };
    // A module of that name that is not numpy may have anything by this one.
    let Ok(class) = module.getattr(pyo3::intern!(py, "ndarray"))?.cast_into::<PyType>() else { return Ok(None) };
    // SAFETY: it is a type object, of which the flags are read.
    let flags = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
    // A class that a program has made may take numpy's place in a test, and numpy comes later.
    if flags & ffi::Py_TPFLAGS_HEAPTYPE != 0 && flags & IMMUTABLE == 0 {
        return Ok(None);
    }
    Ok(Some(NDARRAY.get_or_init(py, || class.unbind()).bind(py)))
}
