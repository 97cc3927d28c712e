//! Objects of common types of the standard library, from the arguments in their pickles. All arguments are checked for
//! exact types and bounds before the class is called. `datetime`'s types are in `dates`.

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyInt, PyList, PyRange, PyString, PyTuple};

use super::decoder::Decoder;
use super::error::{DataOnlyResult, needs, too_much};
use super::globals::Global;
use super::library_class::LibraryClass;
use super::object_size;
use super::value::{ContainerClass, Value};

static DECIMAL: LibraryClass = LibraryClass::new(c"decimal", c"Decimal");
static FRACTION: LibraryClass = LibraryClass::new(c"fractions", c"Fraction");
static UUID: LibraryClass = LibraryClass::new(c"uuid", c"UUID");
static SAFE_UUID: LibraryClass = LibraryClass::new(c"uuid", c"SafeUUID");
static ORDERED_DICT: LibraryClass = LibraryClass::new(c"collections", c"OrderedDict");
static DEQUE: LibraryClass = LibraryClass::new(c"collections", c"deque");
static PURE_POSIX_PATH: LibraryClass = LibraryClass::new(c"pathlib", c"PurePosixPath");
static POSIX_PATH: LibraryClass = LibraryClass::new(c"pathlib", c"PosixPath");
static PURE_WINDOWS_PATH: LibraryClass = LibraryClass::new(c"pathlib", c"PureWindowsPath");
static ARRAY: LibraryClass = LibraryClass::new(c"array", c"array");

/// The most characters of a Decimal, and of a path.
const DECIMAL_MOST: usize = 5_000;
const PATH_MOST: usize = 16_384;

impl<'py> Decoder<'_, 'py> {
    /// The object that a call of `global` with the arguments `items` builds.
    pub(super) fn standard(&mut self, global: Global, items: &[Bound<'py, PyAny>]) -> DataOnlyResult<Value<'py>> {
        let (obj, weight) = match (global, items) {
            (Global::Date, [state]) => (self.date(state)?, 2),
            (Global::Time, [state]) => (self.time(state, None)?, 2),
            (Global::Time, [state, zone]) => (self.time(state, Some(zone))?, 4),
            (Global::DateTime, [state]) => (self.datetime(state, None)?, 2),
            (Global::DateTime, [state, zone]) => (self.datetime(state, Some(zone))?, 4),
            (Global::TimeDelta, [days, seconds, micros]) => (self.timedelta(days, seconds, micros)?, 4),
            (Global::TimeZone, [offset]) => (self.timezone(offset, None)?, 4),
            (Global::TimeZone, [offset, name]) => (self.timezone(offset, Some(name))?, 4),
            (Global::Decimal, [text]) => self.decimal(text)?,
            (Global::Fraction, [above, below]) => {
                let len = self.narrow(above)? + self.narrow(below)?;
                self.equality.meet_slow_value()?;
                self.budget.memory(len)?;
                (self.construct(&FRACTION, (above, below))?, 64)
            }
            (Global::Range, [start, stop, step]) => {
                self.budget.look()?;
                let len = self.narrow(start)? + self.narrow(stop)? + self.narrow(step)?;
                self.budget.memory(object_size::OBJECT + len)?;
                let range = self.py.get_type::<PyRange>().call1((start, stop, step));
                (self.or_damaged(range, "a range whose step is 0")?, 64)
            }
            (Global::PurePosixPath, parts) => self.path(&PURE_POSIX_PATH, parts)?,
            (Global::PosixPath, parts) => self.path(&POSIX_PATH, parts)?,
            (Global::PureWindowsPath, parts) => self.path(&PURE_WINDOWS_PATH, parts)?,
            (Global::Array, [code, items]) => (self.array_from(code, items)?, 0),
            (Global::OrderedDict, []) => {
                let made = self.construct(&ORDERED_DICT, ())?;
                return self.new_node(made, ContainerClass::Ordered);
            }
            (Global::Deque, []) => {
                self.budget.memory(object_size::BLOCK)?;
                let made = self.construct(&DEQUE, ())?;
                return self.new_node(made, ContainerClass::Deque);
            }
            (Global::Deque, [none, longest]) => {
                let empty = none.cast_exact::<PyTuple>().is_ok_and(|none| none.is_empty());
                if !empty || self.number(longest)? < 0 {
                    return Err(needs(global.name()));
                }
                self.budget.memory(object_size::BLOCK)?;
                let made = self.construct(&DEQUE, (none, longest))?;
                return self.new_node(made, ContainerClass::Deque);
            }
            _ => return Err(needs(global.name())),
        };
        Ok(Value::leaf(obj, weight))
    }

    /// A Decimal and its weight, which is 0 for a signaling NaN, because that cannot be hashed.
    fn decimal(&mut self, text: &Bound<'py, PyAny>) -> DataOnlyResult<(Bound<'py, PyAny>, usize)> {
        let Some(digits) = text.cast_exact::<PyString>().ok().and_then(|text| text.to_str().ok()) else {
            return Err(self.damaged("a Decimal of something that is not a str"));
        };
        if digits.len() > DECIMAL_MOST {
            return Err(too_much("characters of a Decimal", DECIMAL_MOST as u64));
        }
        if !is_decimal(digits) {
            return Err(self.damaged("a Decimal that is not a number"));
        }
        self.equality.meet_slow_value()?;
        self.budget.memory(digits.len())?;
        let weight = if digits.contains('s') { 0 } else { 16 + digits.len() / 16 };
        Ok((self.construct(&DECIMAL, (text,))?, weight))
    }

    /// A path of these parts, and its weight.
    fn path(
        &mut self,
        class: &'static LibraryClass,
        parts: &[Bound<'py, PyAny>],
    ) -> DataOnlyResult<(Bound<'py, PyAny>, usize)> {
        let mut len = 0;
        for part in parts {
            let Ok(part) = part.cast_exact::<PyString>() else {
                return Err(self.damaged("a path of something that is not a str"));
            };
            len += 1 + part.len()?;
        }
        if len > PATH_MOST {
            return Err(too_much("characters of a path", PATH_MOST as u64));
        }
        self.budget.memory(object_size::OBJECT + 8 * len)?;
        let path = self.construct(class, PyTuple::new(self.py, parts)?)?;
        Ok((path, 16 + len / 16))
    }

    /// A UUID from its state.
    pub(super) fn uuid(&mut self, state: &Bound<'py, PyAny>) -> DataOnlyResult<Value<'py>> {
        let Ok(state) = state.cast_exact::<PyDict>() else {
            return Err(self.damaged("a UUID whose state is not a dict"));
        };
        let (int, safe) = (state.get_item("int")?, state.get_item("is_safe")?);
        let Some(int) = int.filter(|int| int.is_exact_instance_of::<PyInt>()) else {
            return Err(self.damaged("a UUID without its number"));
        };
        if state.len() > 1 + usize::from(safe.is_some()) {
            return Err(self.damaged("a UUID with more than its number"));
        }
        let safe = match safe {
            None => None,
            Some(safe) => {
                let number = self.number(&safe)?;
                Some(self.construct(&SAFE_UUID, (number,))?)
            }
        };
        let class = self.library_class(&UUID)?;
        let named = [("int", &int)].into_py_dict(self.py)?;
        if let Some(safe) = &safe {
            named.set_item("is_safe", safe)?;
        }
        self.budget.look()?;
        let made = class.call((), Some(&named));
        Ok(Value::leaf(self.or_damaged(made, "a UUID of more than 128 bits")?, 4))
    }

    /// An array from the call `array(typecode, list)`, which protocol 2 writes.
    fn array_from(&mut self, code: &Bound<'py, PyAny>, items: &Bound<'py, PyAny>) -> DataOnlyResult<Bound<'py, PyAny>> {
        self.typecode(code)?;
        let Ok(list) = items.cast_exact::<PyList>() else {
            return Err(self.damaged("an array whose items are not a list"));
        };
        self.budget.memory(8 * list.len())?;
        self.construct(&ARRAY, (code, items))
    }

    /// An array from the bytes of its items, as they are in memory.
    pub(super) fn array_of(
        &mut self,
        code: &Bound<'py, PyAny>,
        format: &Bound<'py, PyAny>,
        bytes: &Bound<'py, PyAny>,
    ) -> DataOnlyResult<Value<'py>> {
        let Ok(bytes) = bytes.cast_exact::<PyBytes>() else {
            return Err(self.damaged("an array whose data is not bytes"));
        };
        let own = self.typecode(code)?;
        if self.number(format)? != own {
            return Err(needs("an array.array of another kind of machine"));
        }
        self.budget.memory(bytes.as_bytes().len())?;
        let array = self.construct(&ARRAY, (code, bytes))?;
        Ok(Value::leaf(array, 0))
    }

    /// The number by which `array` describes this machine's items of a typecode. Text is refused, because the width of
    /// its items differs between machines.
    fn typecode(&self, code: &Bound<'py, PyAny>) -> DataOnlyResult<i64> {
        let big = i64::from(cfg!(target_endian = "big"));
        let code = code.cast_exact::<PyString>().ok().and_then(|code| code.to_str().ok());
        Ok(match code {
            Some("B") => 0,
            Some("b") => 1,
            Some("H") => 2 + big,
            Some("h") => 4 + big,
            Some("I") => 6 + big,
            Some("i") => 8 + big,
            Some("L" | "Q") => 10 + big,
            Some("l" | "q") => 12 + big,
            Some("f") => 14 + big,
            Some("d") => 16 + big,
            _ => return Err(needs("an array.array of text")),
        })
    }
}

/// Whether a text is one that `str` of a Decimal gives.
fn is_decimal(text: &str) -> bool {
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    if text == "Infinity" {
        return true;
    }
    if let Some(payload) = text.strip_prefix("sNaN").or_else(|| text.strip_prefix("NaN")) {
        return all_digits(payload);
    }
    let (number, exponent) = text.split_once('E').unwrap_or((text, "+0"));
    let (above, below) = number.split_once('.').unwrap_or((number, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or("x");
    let some_digits = |text: &str| !text.is_empty() && all_digits(text);
    some_digits(above) && some_digits(below) && some_digits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_what_str_of_one_gives() {
        for text in ["0", "-1.5", "1E+10", "-0E-999999999", "1.25E-7", "NaN", "-NaN12", "sNaN", "Infinity", "-Infinity"]
        {
            assert!(is_decimal(text), "{text}");
        }
        for text in
            ["", "-", ".5", "1.", "1E10", "1E+", "nan", "inf", "+1", "1_0", " 1", "1\n", "0x1", "١", "--1", "NaNa"]
        {
            assert!(!is_decimal(text), "{text}");
        }
    }
}
