//! Common types of the standard library, from the arguments that their pickles have. All of these are checked for exact
//! types and bounds before the class is called; the classes come from fixed names.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyInt, PyList, PyRange, PyString, PyTuple, PyType};

use super::table::Known;
use super::value::{Class, Value};
use super::{Decoder, Result, WIDE_INT, needs, size, too_much};

/// A class of the standard library, or of numpy.
pub(super) struct Fetched(PyOnceLock<Py<PyType>>, &'static str, &'static str);

impl Fetched {
    pub(super) const fn new(module: &'static str, name: &'static str) -> Self {
        Fetched(PyOnceLock::new(), module, name)
    }
}

static DATE: Fetched = Fetched::new("datetime", "date");
static TIME: Fetched = Fetched::new("datetime", "time");
static DATETIME: Fetched = Fetched::new("datetime", "datetime");
static TIMEDELTA: Fetched = Fetched::new("datetime", "timedelta");
static TIMEZONE: Fetched = Fetched::new("datetime", "timezone");
static DECIMAL: Fetched = Fetched::new("decimal", "Decimal");
static FRACTION: Fetched = Fetched::new("fractions", "Fraction");
static UUID: Fetched = Fetched::new("uuid", "UUID");
static SAFE_UUID: Fetched = Fetched::new("uuid", "SafeUUID");
static ORDERED_DICT: Fetched = Fetched::new("collections", "OrderedDict");
static DEQUE: Fetched = Fetched::new("collections", "deque");
static PURE_POSIX_PATH: Fetched = Fetched::new("pathlib", "PurePosixPath");
static POSIX_PATH: Fetched = Fetched::new("pathlib", "PosixPath");
static PURE_WINDOWS_PATH: Fetched = Fetched::new("pathlib", "PureWindowsPath");
static ARRAY: Fetched = Fetched::new("array", "array");

/// Characters of a Decimal, and of a path.
const DECIMAL_MOST: usize = 5_000;
const PATH_MOST: usize = 16_384;

impl<'py> Decoder<'_, 'py> {
    /// The class; its first import is not charged to the stream.
    pub(super) fn fetch(&mut self, class: &'static Fetched) -> Result<Bound<'py, PyType>> {
        let py = self.py;
        if let Some(class) = class.0.get(py) {
            return Ok(class.bind(py).clone());
        }
        let before = crate::os::thread_cpu_ns();
        let fetched = class.0.import(py, class.1, class.2).cloned();
        self.budget.forgive(before);
        fetched.map_err(|error| match self.made::<()>(Err(error), "") {
            Err(super::DataOnlyError::Damaged { .. }) => super::DataOnlyError::Missing { module: class.1 },
            Err(error) => error,
            Ok(()) => super::DataOnlyError::Missing { module: class.1 },
        })
    }

    /// Calls a class of ours.
    pub(super) fn construct(
        &mut self,
        class: &'static Fetched,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> Result<Bound<'py, PyAny>> {
        self.budget.look()?;
        self.budget.memory(size::OBJECT)?;
        let class = self.fetch(class)?;
        let made = class.call1(arguments);
        self.made(made, "values that their class does not take")
    }

    /// What a call of `known` with `items` makes.
    pub(super) fn standard(&mut self, known: Known, items: &[Bound<'py, PyAny>]) -> Result<Value<'py>> {
        let (obj, weight) = match (known, items) {
            (Known::Date, [state]) => (self.date(state)?, 2),
            (Known::Time, [state]) => (self.time(state, None)?, 2),
            (Known::Time, [state, zone]) => (self.time(state, Some(zone))?, 4),
            (Known::DateTime, [state]) => (self.datetime(state, None)?, 2),
            (Known::DateTime, [state, zone]) => (self.datetime(state, Some(zone))?, 4),
            (Known::TimeDelta, [days, seconds, micros]) => (self.timedelta(days, seconds, micros)?, 4),
            (Known::TimeZone, [offset]) => (self.timezone(offset, None)?, 4),
            (Known::TimeZone, [offset, name]) => (self.timezone(offset, Some(name))?, 4),
            (Known::Decimal, [text]) => self.decimal(text)?,
            (Known::Fraction, [above, below]) => {
                let len = self.narrow(above)? + self.narrow(below)?;
                self.slow_equality = true;
                self.keep_equality_quick()?;
                self.budget.memory(len)?;
                (self.construct(&FRACTION, (above, below))?, 64)
            }
            (Known::Range, [start, stop, step]) => {
                self.budget.look()?;
                let len = self.narrow(start)? + self.narrow(stop)? + self.narrow(step)?;
                self.budget.memory(size::OBJECT + len)?;
                let range = self.py.get_type::<PyRange>().call1((start, stop, step));
                (self.made(range, "a range whose step is 0")?, 64)
            }
            (Known::PurePosixPath, parts) => self.path(&PURE_POSIX_PATH, parts)?,
            (Known::PosixPath, parts) => self.path(&POSIX_PATH, parts)?,
            (Known::PureWindowsPath, parts) => self.path(&PURE_WINDOWS_PATH, parts)?,
            (Known::Array, [code, items]) => (self.array_from(code, items)?, 0),
            (Known::OrderedDict, []) => {
                let made = self.construct(&ORDERED_DICT, ())?;
                return self.new_node(made, Class::Ordered);
            }
            (Known::Deque, []) => {
                self.budget.memory(size::BLOCK)?;
                let made = self.construct(&DEQUE, ())?;
                return self.new_node(made, Class::Deque);
            }
            (Known::Deque, [none, longest]) => {
                let empty = none.cast_exact::<PyTuple>().is_ok_and(|none| none.is_empty());
                if !empty || self.number(longest)? < 0 {
                    return Err(needs(known.name()));
                }
                self.budget.memory(size::BLOCK)?;
                let made = self.construct(&DEQUE, (none, longest))?;
                return self.new_node(made, Class::Deque);
            }
            _ => return Err(needs(known.name())),
        };
        Ok(Value::leaf(obj, weight))
    }

    /// An exact int of 64 bits.
    pub(super) fn number(&self, object: &Bound<'py, PyAny>) -> Result<i64> {
        let number = object.cast_exact::<PyInt>().ok().and_then(|int| int.extract().ok());
        number.ok_or_else(|| self.damaged("something else than an int in the place of one, or one too large for it"))
    }

    /// The length of an exact int; fails where one cannot calculate with it at once.
    fn narrow(&self, object: &Bound<'py, PyAny>) -> Result<usize> {
        let Ok(int) = object.cast_exact::<PyInt>() else {
            return Err(self.damaged("something else than an int in the place of one"));
        };
        match int.call_method0("bit_length")?.extract::<usize>()?.div_ceil(8) {
            len if len > WIDE_INT => Err(too_much("bytes of an int in a Fraction or range", WIDE_INT as u64)),
            len => Ok(len),
        }
    }

    /// The state of a date or time: bytes of this length, or the same as text.
    fn state<const N: usize>(&self, state: &Bound<'py, PyAny>) -> Result<[u8; N]> {
        let bytes = match (state.cast_exact::<PyBytes>(), state.cast_exact::<PyString>()) {
            (Ok(bytes), _) => bytes.as_bytes().try_into().ok(),
            (_, Ok(text)) if text.len()? == N => self.latin1_bytes(text)?.try_into().ok(),
            _ => None,
        };
        bytes.ok_or_else(|| self.damaged("a date or time of another length"))
    }

    fn date(&mut self, state: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
        let [high, low, month, day] = self.state(state)?;
        self.construct(&DATE, (u16::from_be_bytes([high, low]), month, day))
    }

    fn time(&mut self, state: &Bound<'py, PyAny>, zone: Option<&Bound<'py, PyAny>>) -> Result<Bound<'py, PyAny>> {
        let [hour, minute, second, micros @ ..] = self.state::<6>(state)?;
        let zone = zone.map(|zone| self.zone(zone)).transpose()?;
        let clock = (hour & 0x7f, minute, second, whole(micros), zone);
        self.folded(&TIME, clock, hour)
    }

    fn datetime(&mut self, state: &Bound<'py, PyAny>, zone: Option<&Bound<'py, PyAny>>) -> Result<Bound<'py, PyAny>> {
        let [high, low, month, day, hour, minute, second, micros @ ..] = self.state::<10>(state)?;
        let zone = zone.map(|zone| self.zone(zone)).transpose()?;
        let year = u16::from_be_bytes([high, low]);
        let clock = (year, month & 0x7f, day, hour, minute, second, whole(micros), zone);
        self.folded(&DATETIME, clock, month)
    }

    /// With the fold that the top bit of `byte` says.
    fn folded(
        &mut self,
        class: &'static Fetched,
        clock: impl pyo3::call::PyCallArgs<'py>,
        byte: u8,
    ) -> Result<Bound<'py, PyAny>> {
        self.budget.look()?;
        self.budget.memory(size::OBJECT)?;
        let class = self.fetch(class)?;
        let fold = [("fold", byte >> 7)].into_py_dict(self.py)?;
        let made = class.call(clock, Some(&fold));
        self.made(made, "a date or time that does not exist")
    }

    /// Of the classes that know about zones, only `datetime.timezone` is data.
    fn zone(&mut self, zone: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
        if zone.is_none() || zone.get_type().is(&self.fetch(&TIMEZONE)?) {
            return Ok(zone.clone());
        }
        Err(self.damaged("something else than a timezone in the place of one"))
    }

    fn timedelta(
        &mut self,
        days: &Bound<'py, PyAny>,
        seconds: &Bound<'py, PyAny>,
        micros: &Bound<'py, PyAny>,
    ) -> Result<Bound<'py, PyAny>> {
        let numbers = (self.number(days)?, self.number(seconds)?, self.number(micros)?);
        if !(0..86_400).contains(&numbers.1) || !(0..1_000_000).contains(&numbers.2) {
            return Err(self.damaged("a timedelta in no order"));
        }
        self.construct(&TIMEDELTA, numbers)
    }

    fn timezone(&mut self, offset: &Bound<'py, PyAny>, name: Option<&Bound<'py, PyAny>>) -> Result<Bound<'py, PyAny>> {
        if !offset.get_type().is(&self.fetch(&TIMEDELTA)?) {
            return Err(self.damaged("something else than a timedelta in the place of one"));
        }
        match name {
            None => self.construct(&TIMEZONE, (offset,)),
            Some(name) if name.is_exact_instance_of::<PyString>() => self.construct(&TIMEZONE, (offset, name)),
            Some(_) => Err(self.damaged("something else than a str in the place of one")),
        }
    }

    /// With its weight: a signaling NaN cannot be hashed.
    fn decimal(&mut self, text: &Bound<'py, PyAny>) -> Result<(Bound<'py, PyAny>, usize)> {
        let Some(digits) = text.cast_exact::<PyString>().ok().and_then(|text| text.to_str().ok()) else {
            return Err(self.damaged("a Decimal of something that is no str"));
        };
        if digits.len() > DECIMAL_MOST {
            return Err(too_much("characters of a Decimal", DECIMAL_MOST as u64));
        }
        if !is_decimal(digits) {
            return Err(self.damaged("a Decimal that is no number"));
        }
        self.slow_equality = true;
        self.keep_equality_quick()?;
        self.budget.memory(digits.len())?;
        let weight = if digits.contains('s') { 0 } else { 16 + digits.len() / 16 };
        Ok((self.construct(&DECIMAL, (text,))?, weight))
    }

    fn path(&mut self, class: &'static Fetched, parts: &[Bound<'py, PyAny>]) -> Result<(Bound<'py, PyAny>, usize)> {
        let mut len = 0;
        for part in parts {
            let Ok(part) = part.cast_exact::<PyString>() else {
                return Err(self.damaged("a path of something that is no str"));
            };
            len += 1 + part.len()?;
        }
        if len > PATH_MOST {
            return Err(too_much("characters of a path", PATH_MOST as u64));
        }
        self.budget.memory(size::OBJECT + 8 * len)?;
        let path = self.construct(class, PyTuple::new(self.py, parts)?)?;
        Ok((path, 16 + len / 16))
    }

    pub(super) fn uuid(&mut self, state: &Bound<'py, PyAny>) -> Result<Value<'py>> {
        let Ok(state) = state.cast_exact::<PyDict>() else {
            return Err(self.damaged("the state of a UUID that is no dict"));
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
        let class = self.fetch(&UUID)?;
        let named = [("int", &int)].into_py_dict(self.py)?;
        if let Some(safe) = &safe {
            named.set_item("is_safe", safe)?;
        }
        self.budget.look()?;
        let made = class.call((), Some(&named));
        Ok(Value::leaf(self.made(made, "a UUID of more than 128 bits")?, 4))
    }

    /// `array(typecode, list)`, in protocol 2.
    fn array_from(&mut self, code: &Bound<'py, PyAny>, items: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
        self.typecode(code)?;
        let Ok(list) = items.cast_exact::<PyList>() else {
            return Err(self.damaged("an array of something that is no list"));
        };
        self.budget.memory(8 * list.len())?;
        self.construct(&ARRAY, (code, items))
    }

    /// From the machine's own representation.
    pub(super) fn array_of(
        &mut self,
        code: &Bound<'py, PyAny>,
        format: &Bound<'py, PyAny>,
        bytes: &Bound<'py, PyAny>,
    ) -> Result<Value<'py>> {
        let Ok(bytes) = bytes.cast_exact::<PyBytes>() else {
            return Err(self.damaged("an array of something that is no bytes"));
        };
        let own = self.typecode(code)?;
        if self.number(format)? != own {
            return Err(needs("an array.array of another kind of machine"));
        }
        self.budget.memory(bytes.as_bytes().len())?;
        let array = self.construct(&ARRAY, (code, bytes))?;
        Ok(Value::leaf(array, 0))
    }

    /// By which number `array` calls this machine's items of that typecode. Text has widths of its own.
    fn typecode(&self, code: &Bound<'py, PyAny>) -> Result<i64> {
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

fn whole([high, middle, low]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, high, middle, low])
}

/// Is it what `str` of a Decimal gives?
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
