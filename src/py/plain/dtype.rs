//! The dtypes of numpy that are plain data, read from numpy's own pickles and rebuilt from what was read: never with
//! objects in them, and every size and offset within what holds it.

use std::rc::Rc;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString, PyTuple};

use super::standard::Fetched;
use super::value::{Pending, Value};
use super::{Decoder, Result, needs, size, too_much};
use crate::py::made;

static RECORD: Fetched = Fetched::new("numpy", "record");
static DTYPE: Fetched = Fetched::new("numpy", "dtype");

/// Bytes of one item; numpy 1 has no more.
const MOST_BYTES: usize = i32::MAX as usize;
/// Dtypes inside each other, which numpy walks recursively, and all of them in one, each as often as it is met.
const DEEPEST: u32 = 32;
const MOST_PARTS: u32 = 10_000;
/// Dimensions; numpy 1 has 32.
pub(super) const MOST_DIMENSIONS: usize = 64;

/// Flags of numpy's: references, items pickled as a list, pointers; and a struct laid out as in C.
const WITH_OBJECTS: i64 = 0x07;
const ALIGNED: i64 = 0x80;

/// What is known of a dtype.
pub(super) struct Desc {
    pub size: usize,
    depth: u32,
    parts: u32,
    check: Check,
    /// Bytes to look at in one item.
    looks: u64,
    pub subarray: bool,
    /// A scalar of it can be changed, so not hashed.
    pub void: bool,
    /// Long doubles compare with ints by way of text.
    pub slow: bool,
}

/// Where numpy, or those who use its memory, rely on what the bytes are.
enum Check {
    Any,
    Bool,
    /// UCS-4 in the other byte order, or not.
    Text {
        swapped: bool,
    },
    Items(Rc<Desc>),
    Fields(Vec<(usize, Rc<Desc>)>),
}

impl Desc {
    fn scalar(size: usize, check: Check, void: bool, slow: bool) -> Self {
        let looks = if matches!(check, Check::Any) { 0 } else { size as u64 };
        Desc { size, depth: 0, parts: 1, check, looks, subarray: false, void, slow }
    }

    /// Of a mask, which has a bool for each field.
    pub fn of_bools(size: usize) -> Self {
        Desc { parts: 1, ..Desc::scalar(size, Check::Bool, false, false) }
    }

    /// Fails where a run of items has a bool that is neither 0 nor 1, or a character that is none.
    pub fn check(&self, bytes: &[u8]) -> std::result::Result<(), &'static str> {
        match &self.check {
            Check::Any => Ok(()),
            Check::Bool => match bytes.iter().fold(0, |all, byte| all | byte) {
                0 | 1 => Ok(()),
                _ => Err("a numpy bool that is neither 0 nor 1"),
            },
            Check::Text { swapped } => {
                let is_character = |unit: &[u8]| {
                    let unit = u32::from_ne_bytes([unit[0], unit[1], unit[2], unit[3]]);
                    (if *swapped { unit.swap_bytes() } else { unit }) <= char::MAX as u32
                };
                match bytes.chunks_exact(4).all(is_character) {
                    true => Ok(()),
                    false => Err("a numpy str with a character that is none"),
                }
            }
            Check::Items(item) => item.check(bytes),
            Check::Fields(_) if self.size == 0 => Ok(()),
            Check::Fields(fields) => {
                for item in bytes.chunks_exact(self.size) {
                    for (offset, field) in fields {
                        field.check(&item[*offset..*offset + field.size])?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl<'py> Decoder<'_, 'py> {
    /// `numpy.dtype('i8', False, True)`, of which the state is still to come.
    pub(super) fn dtype(&mut self, items: &[Bound<'py, PyAny>]) -> Result<()> {
        let is =
            |flag: &Bound<'py, PyAny>, value| flag.cast_exact::<PyBool>().is_ok_and(|flag| flag.is_true() == value);
        // Not aligned, and a copy: without one, the state would be that of numpy's own.
        let kind = match items {
            [kind, aligned, copied] if is(aligned, false) && is(copied, true) => kind.cast_exact::<PyString>().ok(),
            _ => None,
        };
        let kind = kind.and_then(|kind| kind.to_str().ok());
        let Some(kind) = kind else { return Err(needs("a numpy.dtype that is no plain one")) };
        let (letter, digits) = kind.split_at_checked(1).unwrap_or((kind, ""));
        if letter == "O" {
            return Err(needs("Python objects in a numpy.dtype"));
        }
        let decimal = !digits.is_empty() && digits.len() <= 10 && digits.bytes().all(|digit| digit.is_ascii_digit());
        let number = if decimal { digits.parse::<usize>().ok() } else { None };
        let fits = number.is_some_and(|number| match letter {
            "b" => number == 1,
            "i" | "u" => matches!(number, 1 | 2 | 4 | 8),
            "f" => matches!(number, 2 | 4 | 8 | 16),
            "c" => matches!(number, 8 | 16 | 32),
            "M" | "m" => number == 8,
            "S" | "V" => number <= MOST_BYTES,
            "U" => number <= MOST_BYTES / 4,
            _ => false,
        });
        match (letter.bytes().next(), number) {
            (Some(letter), Some(number)) if fits => self.push_pending(Pending::Dtype(letter, number)),
            _ => Err(needs(format!("a numpy.dtype of kind {}", letter.escape_debug()))),
        }
    }

    /// Of a kind and size, as in `i8`, with the state that goes with it.
    pub(super) fn dtype_state(&mut self, letter: u8, number: usize, state: &Bound<'py, PyAny>) -> Result<Value<'py>> {
        let Ok(state) = state.cast_exact::<PyTuple>() else {
            return Err(self.damaged("the state of a dtype that is no tuple"));
        };
        let items: Vec<_> = if state.len() <= 9 { state.iter().collect() } else { Vec::new() };
        let [version, order, subarray, names, fields, item_size, alignment, flags, rest @ ..] = items.as_slice() else {
            return Err(self.damaged("the state of a dtype of another length"));
        };
        if self.number(version)? != 3 + rest.len() as i64 {
            return Err(needs("a numpy.dtype of another version"));
        }
        let (metadata, unit) = match (letter, rest) {
            (_, []) => (None, None),
            (b'M' | b'm', [pair]) => match pair.cast_exact::<PyTuple>() {
                Ok(pair) if pair.len() == 2 => (Some(pair.get_item(0)?), Some(self.time_unit(&pair.get_item(1)?)?)),
                _ => return Err(self.damaged("a numpy time without its unit")),
            },
            (_, [metadata]) => (Some(metadata.clone()), None),
            _ => (None, None),
        };
        let empty = |metadata: &Bound<'py, PyAny>| metadata.cast_exact::<PyDict>().is_ok_and(|dict| dict.is_empty());
        if metadata.is_some_and(|metadata| !metadata.is_none() && !empty(&metadata)) {
            return Err(needs("metadata of a numpy.dtype"));
        }
        let flags = self.number(flags)?;
        if flags & WITH_OBJECTS != 0 {
            return Err(needs("Python objects in a numpy.dtype"));
        }
        let stated = self.number(item_size)?;
        let order = order.cast_exact::<PyString>().ok().and_then(|order| order.to_str().ok()).unwrap_or_default();
        // As numpy writes it: of a struct or a single byte with another one it makes something else.
        let has_order = !matches!((letter, number), (b'S' | b'V', _) | (b'b' | b'i' | b'u', 1));
        if !(if has_order { matches!(order, "<" | ">") } else { order == "|" }) {
            return Err(self.damaged("a dtype whose byte order is not of its kind"));
        }
        let (obj, desc) = match (subarray.is_none(), names.is_none() && fields.is_none()) {
            (true, true) => self.plain_dtype(letter, number, order, unit, stated)?,
            _ if letter != b'V' || stated != number as i64 => {
                return Err(needs("a numpy.dtype of two kinds at once"));
            }
            (false, true) => self.subarray(subarray, number)?,
            (true, false) => self.fields(names, fields, number, flags & ALIGNED != 0)?,
            (false, false) => return Err(self.damaged("a dtype with fields and dimensions")),
        };
        let own = obj.getattr("alignment")?.extract::<i64>()?;
        if ![own, -1].contains(&self.number(alignment)?) {
            return Err(self.damaged("a dtype that numpy reads otherwise"));
        }
        if desc.depth > DEEPEST {
            return Err(too_much("dtypes inside each other", DEEPEST.into()));
        }
        if desc.parts > MOST_PARTS {
            return Err(too_much("parts of a dtype", MOST_PARTS.into()));
        }
        if desc.looks > 2 * desc.size as u64 {
            return Err(needs("a numpy.dtype whose fields overlap"));
        }
        let weight = desc.parts as usize * 4;
        self.know_dtype(&obj, Rc::new(desc))?;
        Ok(Value::leaf(obj, weight))
    }

    /// Of `numpy.record`: a struct whose items are records.
    pub(super) fn record_state(&mut self, state: &Bound<'py, PyAny>) -> Result<Value<'py>> {
        let size = state.cast_exact::<PyTuple>().ok().and_then(|state| state.get_item(5).ok());
        let size = size.and_then(|size| size.extract::<usize>().ok()).filter(|size| *size <= MOST_BYTES);
        let Some(size) = size else { return Err(self.damaged("the state of a dtype of another length")) };
        let plain = self.dtype_state(b'V', size, state)?;
        let desc = self.desc(&plain.obj)?;
        if plain.obj.getattr("names")?.is_none() {
            return Err(needs("a numpy.record without fields"));
        }
        let class = self.fetch(&RECORD)?;
        let obj = self.construct(&DTYPE, ((class, &plain.obj),))?;
        self.same_size(&obj, desc.size)?;
        self.know_dtype(&obj, desc)?;
        Ok(Value { obj, ..plain })
    }

    pub(super) fn know_dtype(&mut self, obj: &Bound<'py, PyAny>, desc: Rc<Desc>) -> Result<()> {
        self.dtypes.try_reserve(1).map_err(super::no_memory)?;
        self.dtypes.insert(obj.as_ptr() as usize, (obj.clone(), desc));
        Ok(())
    }

    /// The dtype that an object is, if it was made here.
    pub(super) fn desc(&self, obj: &Bound<'py, PyAny>) -> Result<Rc<Desc>> {
        let known = self.dtypes.get(&(obj.as_ptr() as usize));
        known
            .map(|(_, desc)| desc.clone())
            .ok_or_else(|| self.damaged("something else than a dtype in the place of one"))
    }

    fn plain_dtype(
        &mut self,
        letter: u8,
        number: usize,
        order: &str,
        unit: Option<String>,
        stated: i64,
    ) -> Result<(Bound<'py, PyAny>, Desc)> {
        if matches!(letter, b'M' | b'm') && unit.is_none() {
            return Err(self.damaged("a numpy time without its unit"));
        }
        let size = if letter == b'U' { 4 * number } else { number };
        // -1: as the kind says.
        if stated != size as i64 && (stated != -1 || matches!(letter, b'S' | b'U' | b'V')) {
            return Err(self.damaged("a dtype whose sizes differ"));
        }
        let swapped = matches!((order, cfg!(target_endian = "big")), ("<", true) | (">", false));
        let check = match letter {
            b'b' => Check::Bool,
            b'U' => Check::Text { swapped },
            _ => Check::Any,
        };
        let slow = matches!((letter, number), (b'f', 16) | (b'c', 32));
        let text = format!("{order}{}{number}{}", char::from(letter), unit.unwrap_or_default());
        let obj = self.construct(&DTYPE, (text,))?;
        self.same_size(&obj, size)?;
        Ok((obj, Desc::scalar(size, check, letter == b'V', slow)))
    }

    /// Both sides must mean the same before bytes are counted by it.
    fn same_size(&self, obj: &Bound<'py, PyAny>, size: usize) -> Result<()> {
        match obj.getattr("itemsize")?.extract::<usize>()? == size && !obj.getattr("hasobject")?.extract::<bool>()? {
            true => Ok(()),
            false => Err(self.damaged("a dtype that numpy reads otherwise")),
        }
    }

    /// As in `[25us]`.
    fn time_unit(&self, unit: &Bound<'py, PyAny>) -> Result<String> {
        const UNITS: [&[u8]; 13] = [b"Y", b"M", b"W", b"D", b"h", b"m", b"s", b"ms", b"us", b"ns", b"ps", b"fs", b"as"];
        let Some(unit) = unit.cast_exact::<PyTuple>().ok().filter(|unit| unit.len() == 4) else {
            return Err(self.damaged("a numpy time without its unit"));
        };
        let (name, count) = (unit.get_item(0)?, self.number(&unit.get_item(1)?)?);
        let ones = (self.number(&unit.get_item(2)?)?, self.number(&unit.get_item(3)?)?) == (1, 1);
        let name = name.cast_exact::<PyBytes>().map(|name| name.as_bytes()).unwrap_or_default();
        match UNITS.contains(&name) {
            true if ones && (1..=i32::MAX.into()).contains(&count) => {
                Ok(format!("[{count}{}]", String::from_utf8_lossy(name)))
            }
            false if ones && count == 1 && name == b"generic" => Ok(String::new()),
            _ => Err(self.damaged("a numpy time in a unit that is none")),
        }
    }

    /// An exact tuple of sizes that are not negative.
    pub(super) fn sizes(&self, shape: &Bound<'py, PyAny>) -> Result<Vec<usize>> {
        let Ok(shape) = shape.cast_exact::<PyTuple>() else {
            return Err(self.damaged("a shape that is no tuple"));
        };
        if shape.len() > MOST_DIMENSIONS {
            return Err(too_much("dimensions of an array", MOST_DIMENSIONS as u64));
        }
        let size = |size: Bound<'py, PyAny>| {
            usize::try_from(self.number(&size)?).map_err(|_| self.damaged("a dimension that is negative"))
        };
        shape.iter().map(size).collect()
    }

    fn subarray(&mut self, subarray: &Bound<'py, PyAny>, total: usize) -> Result<(Bound<'py, PyAny>, Desc)> {
        let Some(pair) = subarray.cast_exact::<PyTuple>().ok().filter(|pair| pair.len() == 2) else {
            return Err(self.damaged("a dtype with dimensions of nothing"));
        };
        let (item, shape) = (pair.get_item(0)?, pair.get_item(1)?);
        let (desc, sizes) = (self.desc(&item)?, self.sizes(&shape)?);
        let count = sizes.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let count = count.filter(|count| !sizes.is_empty() && count.checked_mul(desc.size) == Some(total));
        let Some(count) = count else {
            return Err(self.damaged("a dtype whose dimensions make another size"));
        };
        let obj = self.construct(&DTYPE, ((item, shape),))?;
        self.same_size(&obj, total)?;
        let looks = desc.looks.saturating_mul(count as u64);
        let check = if looks == 0 { Check::Any } else { Check::Items(desc.clone()) };
        let (depth, parts) = (desc.depth + 1, desc.parts + 1);
        Ok((obj, Desc { size: total, depth, parts, check, looks, subarray: true, void: true, slow: desc.slow }))
    }

    fn fields(
        &mut self,
        names: &Bound<'py, PyAny>,
        fields: &Bound<'py, PyAny>,
        total: usize,
        aligned: bool,
    ) -> Result<(Bound<'py, PyAny>, Desc)> {
        let (Ok(names), Ok(fields)) = (names.cast_exact::<PyTuple>(), fields.cast_exact::<PyDict>()) else {
            return Err(self.damaged("a dtype with fields that are none"));
        };
        self.budget.memory(size::OBJECT * names.len())?;
        let py = self.py;
        let (formats, offsets, titles) = (PyList::empty(py), PyList::empty(py), PyList::empty(py));
        let mut desc = Desc::scalar(total, Check::Any, true, false);
        let (mut checks, mut titled) = (Vec::new(), 0);
        for name in names {
            let field = if name.is_exact_instance_of::<PyString>() { fields.get_item(&name)? } else { None };
            let Some(field) = field.and_then(|field| field.cast_into_exact::<PyTuple>().ok()) else {
                return Err(self.damaged("a field of a dtype that is missing"));
            };
            let title = match field.len() {
                2 => None,
                3 => Some(field.get_item(2)?),
                _ => return Err(self.damaged("a field of a dtype of another length")),
            };
            if title.as_ref().is_some_and(|title| !title.is_exact_instance_of::<PyString>()) {
                return Err(needs("a title in a numpy.dtype that is no str"));
            }
            let (item, offset) = (field.get_item(0)?, field.get_item(1)?);
            let part = self.desc(&item)?;
            let place = usize::try_from(self.number(&offset)?).ok();
            let Some(place) = place.filter(|place| place.checked_add(part.size).is_some_and(|end| end <= total)) else {
                return Err(self.damaged("a field beyond the end of its dtype"));
            };
            desc.depth = desc.depth.max(part.depth + 1);
            desc.parts = desc.parts.saturating_add(part.parts);
            desc.looks = desc.looks.saturating_add(part.looks);
            desc.slow |= part.slow;
            formats.append(item)?;
            offsets.append(offset)?;
            titled += usize::from(title.is_some());
            titles.append(title)?;
            if part.looks > 0 {
                made::push(&mut checks, (place, part))?;
            }
        }
        if fields.len() != names.len() + titled {
            return Err(self.damaged("a dtype with more fields than names"));
        }
        if !checks.is_empty() {
            desc.check = Check::Fields(checks);
        }
        let description = made::dict(py)?;
        description.set_item("names", made::list(py, names.iter().map(Ok))?)?;
        description.set_item("formats", formats)?;
        description.set_item("offsets", offsets)?;
        if titled > 0 {
            description.set_item("titles", titles)?;
        }
        description.set_item("itemsize", total)?;
        let obj = self.construct(&DTYPE, (description, aligned))?;
        self.same_size(&obj, total)?;
        Ok((obj, desc))
    }
}
