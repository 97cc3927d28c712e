//! Objects of `datetime`'s types, from the arguments in their pickles.

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyString};

use super::decoder::Decoder;
use super::error::DataOnlyResult;
use super::library_class::LibraryClass;
use super::object_size;

static DATE: LibraryClass = LibraryClass::new(c"datetime", c"date");
static TIME: LibraryClass = LibraryClass::new(c"datetime", c"time");
static DATETIME: LibraryClass = LibraryClass::new(c"datetime", c"datetime");
static TIMEDELTA: LibraryClass = LibraryClass::new(c"datetime", c"timedelta");
static TIMEZONE: LibraryClass = LibraryClass::new(c"datetime", c"timezone");

impl<'py> Decoder<'_, 'py> {
    /// A `date`.
    pub(super) fn date(&mut self, state: &Bound<'py, PyAny>) -> DataOnlyResult<Bound<'py, PyAny>> {
        let [high, low, month, day] = self.state(state)?;
        self.construct(&DATE, (u16::from_be_bytes([high, low]), month, day))
    }

    /// A `time`.
    pub(super) fn time(
        &mut self,
        state: &Bound<'py, PyAny>,
        zone: Option<&Bound<'py, PyAny>>,
    ) -> DataOnlyResult<Bound<'py, PyAny>> {
        let [hour, minute, second, micros @ ..] = self.state::<6>(state)?;
        let zone = zone.map(|zone| self.zone(zone)).transpose()?;
        let clock = (hour & 0x7f, minute, second, whole(micros), zone);
        self.folded(&TIME, clock, hour)
    }

    /// A `datetime`.
    pub(super) fn datetime(
        &mut self,
        state: &Bound<'py, PyAny>,
        zone: Option<&Bound<'py, PyAny>>,
    ) -> DataOnlyResult<Bound<'py, PyAny>> {
        let [high, low, month, day, hour, minute, second, micros @ ..] = self.state::<10>(state)?;
        let zone = zone.map(|zone| self.zone(zone)).transpose()?;
        let year = u16::from_be_bytes([high, low]);
        let clock = (year, month & 0x7f, day, hour, minute, second, whole(micros), zone);
        self.folded(&DATETIME, clock, month)
    }

    /// A `timedelta`.
    pub(super) fn timedelta(
        &mut self,
        days: &Bound<'py, PyAny>,
        seconds: &Bound<'py, PyAny>,
        micros: &Bound<'py, PyAny>,
    ) -> DataOnlyResult<Bound<'py, PyAny>> {
        let numbers = (self.number(days)?, self.number(seconds)?, self.number(micros)?);
        if !(0..86_400).contains(&numbers.1) || !(0..1_000_000).contains(&numbers.2) {
            return Err(self.damaged("a timedelta whose seconds or microseconds are out of range"));
        }
        self.construct(&TIMEDELTA, numbers)
    }

    /// A `timezone`.
    pub(super) fn timezone(
        &mut self,
        offset: &Bound<'py, PyAny>,
        name: Option<&Bound<'py, PyAny>>,
    ) -> DataOnlyResult<Bound<'py, PyAny>> {
        if !offset.get_type().is(&self.library_class(&TIMEDELTA)?) {
            return Err(self.damaged("a value that is not a timedelta, in the place of one"));
        }
        match name {
            None => self.construct(&TIMEZONE, (offset,)),
            Some(name) if name.is_exact_instance_of::<PyString>() => self.construct(&TIMEZONE, (offset, name)),
            Some(_) => Err(self.damaged("a value that is not a str, in the place of one")),
        }
    }

    /// The state of a date or time: `N` bytes, or a text of `N` characters, which protocol 2 writes.
    fn state<const N: usize>(&self, state: &Bound<'py, PyAny>) -> DataOnlyResult<[u8; N]> {
        let bytes = match (state.cast_exact::<PyBytes>(), state.cast_exact::<PyString>()) {
            (Ok(bytes), _) => bytes.as_bytes().try_into().ok(),
            (_, Ok(text)) if text.len()? == N => self.latin1_bytes(text)?.try_into().ok(),
            _ => None,
        };
        bytes.ok_or_else(|| self.damaged("a date or time whose state has another length"))
    }

    /// Calls a class with the `fold` that the top bit of `byte` says.
    fn folded(
        &mut self,
        class: &'static LibraryClass,
        clock: impl pyo3::call::PyCallArgs<'py>,
        byte: u8,
    ) -> DataOnlyResult<Bound<'py, PyAny>> {
        self.budget.look()?;
        self.budget.memory(object_size::OBJECT)?;
        let class = self.library_class(class)?;
        let fold = [("fold", byte >> 7)].into_py_dict(self.py)?;
        let made = class.call(clock, Some(&fold));
        self.or_damaged(made, "a date or time that does not exist")
    }

    /// Checks a time zone. Only `datetime.timezone` is data; other classes of time zones run code.
    fn zone(&mut self, zone: &Bound<'py, PyAny>) -> DataOnlyResult<Bound<'py, PyAny>> {
        if zone.is_none() || zone.get_type().is(&self.library_class(&TIMEZONE)?) {
            return Ok(zone.clone());
        }
        Err(self.damaged("a value that is not a timezone, in the place of one"))
    }
}

/// The number in three bytes, big-endian.
fn whole([high, middle, low]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, high, middle, low])
}
