//! numpy's dtypes, read from numpy's own pickles and built anew from what was read. No dtype may hold Python objects,
//! and every size and offset must lie within the dtype around it. Dtypes that are made of others are in `struct_dtype`.

use std::rc::Rc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::arguments::is_flag;
use super::decoder::Decoder;
use super::dtype_description::{ByteCheck, DtypeDescription};
use super::error::{DataOnlyResult, needs, too_much};
use super::library_class::LibraryClass;
use super::stack_item::TwoStep;
use super::value::Value;

static RECORD: LibraryClass = LibraryClass::new(c"numpy", c"record");
pub(super) static DTYPE: LibraryClass = LibraryClass::new(c"numpy", c"dtype");

/// The most bytes of one item. numpy 1 allows no more.
const MOST_BYTES: usize = i32::MAX as usize;
/// The most dtypes inside each other, which numpy walks by recursion; and the most dtypes in one, each counted as often
/// as it occurs.
const DEEPEST: u32 = 32;
const MOST_PARTS: u32 = 10_000;

/// Flags of numpy's dtypes: the items hold references, are pickled as a list, or hold pointers; and: a struct laid out
/// as in C.
const WITH_OBJECTS: i64 = 0x07;
const ALIGNED: i64 = 0x80;

impl<'py> Decoder<'_, 'py> {
    /// The call `numpy.dtype('i8', False, True)`. The dtype's state follows.
    pub(super) fn dtype(&mut self, items: &[Bound<'py, PyAny>]) -> DataOnlyResult<()> {
        // The arguments say: not aligned, and a copy. Without the copy, the state would change numpy's own dtype.
        let kind = match items {
            [kind, aligned, copied] if is_flag(aligned, false) && is_flag(copied, true) => {
                kind.cast_exact::<PyString>().ok()
            }
            _ => None,
        };
        let kind = kind.and_then(|kind| kind.to_str().ok());
        let Some(kind) = kind else { return Err(needs("a numpy.dtype that is not a plain one")) };
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
            (Some(letter), Some(number)) if fits => self.push_two_step(TwoStep::Dtype(letter, number)),
            _ => Err(needs(format!("a numpy.dtype of kind {}", letter.escape_debug()))),
        }
    }

    /// A dtype of a kind and size, as in `i8`, from its state.
    pub(super) fn dtype_state(
        &mut self,
        letter: u8,
        number: usize,
        state: &Bound<'py, PyAny>,
    ) -> DataOnlyResult<Value<'py>> {
        let Ok(state) = state.cast_exact::<PyTuple>() else {
            return Err(self.damaged("a dtype whose state is not a tuple"));
        };
        let items: Vec<_> = if state.len() <= 9 { state.iter().collect() } else { Vec::new() };
        let [version, order, subarray, names, fields, item_size, alignment, flags, rest @ ..] = items.as_slice() else {
            return Err(self.damaged("a dtype whose state has another length"));
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
        // Only what numpy writes is accepted: it reads a struct or a single byte with another byte order differently.
        let has_order = !matches!((letter, number), (b'S' | b'V', _) | (b'b' | b'i' | b'u', 1));
        if !(if has_order { matches!(order, "<" | ">") } else { order == "|" }) {
            return Err(self.damaged("a dtype whose byte order does not fit its kind"));
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
            return Err(self.damaged("a dtype that numpy reads differently"));
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
        self.remember_dtype(&obj, Rc::new(desc))?;
        Ok(Value::leaf(obj, weight))
    }

    /// A dtype of `numpy.record` from its state: a struct whose items are records.
    pub(super) fn record_state(&mut self, state: &Bound<'py, PyAny>) -> DataOnlyResult<Value<'py>> {
        let size = state.cast_exact::<PyTuple>().ok().and_then(|state| state.get_item(5).ok());
        let size = size.and_then(|size| size.extract::<usize>().ok()).filter(|size| *size <= MOST_BYTES);
        let Some(size) = size else { return Err(self.damaged("a dtype whose state has another length")) };
        let plain = self.dtype_state(b'V', size, state)?;
        let desc = self.dtype_description(&plain.obj)?;
        if plain.obj.getattr("names")?.is_none() {
            return Err(needs("a numpy.record without fields"));
        }
        let class = self.library_class(&RECORD)?;
        let obj = self.construct(&DTYPE, ((class, &plain.obj),))?;
        self.same_size(&obj, desc.size)?;
        self.remember_dtype(&obj, desc)?;
        Ok(Value { obj, ..plain })
    }

    /// Makes a dtype known that was built.
    pub(super) fn remember_dtype(
        &mut self,
        obj: &Bound<'py, PyAny>,
        description: Rc<DtypeDescription>,
    ) -> DataOnlyResult<()> {
        self.dtypes.insert(obj, description)
    }

    /// The description of an object that is a dtype and was built by this decoder.
    pub(super) fn dtype_description(&self, obj: &Bound<'py, PyAny>) -> DataOnlyResult<Rc<DtypeDescription>> {
        self.dtypes.get(obj).ok_or_else(|| self.damaged("a value that is not a dtype, in the place of one"))
    }

    /// A dtype that is not made of others.
    fn plain_dtype(
        &mut self,
        letter: u8,
        number: usize,
        order: &str,
        unit: Option<String>,
        stated: i64,
    ) -> DataOnlyResult<(Bound<'py, PyAny>, DtypeDescription)> {
        if matches!(letter, b'M' | b'm') && unit.is_none() {
            return Err(self.damaged("a numpy time without its unit"));
        }
        let size = if letter == b'U' { 4 * number } else { number };
        // A stated size of -1 means: as the kind says.
        if stated != size as i64 && (stated != -1 || matches!(letter, b'S' | b'U' | b'V')) {
            return Err(self.damaged("a dtype with two different sizes"));
        }
        let swapped = matches!((order, cfg!(target_endian = "big")), ("<", true) | (">", false));
        let check = match letter {
            b'b' => ByteCheck::Bool,
            b'U' => ByteCheck::Text { swapped },
            _ => ByteCheck::Any,
        };
        let slow = matches!((letter, number), (b'f', 16) | (b'c', 32));
        let text = format!("{order}{}{number}{}", char::from(letter), unit.unwrap_or_default());
        let obj = self.construct(&DTYPE, (text,))?;
        self.same_size(&obj, size)?;
        Ok((obj, DtypeDescription::scalar(size, check, letter == b'V', slow)))
    }

    /// Fails unless numpy understands the dtype as this decoder does, by whose sizes bytes are counted.
    pub(super) fn same_size(&self, obj: &Bound<'py, PyAny>, size: usize) -> DataOnlyResult<()> {
        match obj.getattr("itemsize")?.extract::<usize>()? == size && !obj.getattr("hasobject")?.extract::<bool>()? {
            true => Ok(()),
            false => Err(self.damaged("a dtype that numpy reads differently")),
        }
    }

    /// The unit of a time, as numpy writes it: `[25us]`.
    fn time_unit(&self, unit: &Bound<'py, PyAny>) -> DataOnlyResult<String> {
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
            _ => Err(self.damaged("a numpy time with an unknown unit")),
        }
    }
}
