//! The loop over the opcodes.
//!
//! It goes by their bytes, because it is the larger part of the time that reading a small value takes. `codec::opcode`
//! has their meaning in words.

use super::cursor::Cursor;
use super::machine::Machine;
use super::stop::Stop;
use super::workspace::Above;
use crate::codec::code;
use crate::codec::opcode::HIGHEST_PROTOCOL;
use pyo3::prelude::*;

impl<'py> Machine<'_, 'py> {
    /// Reads a pickle from its start. Returns its value.
    pub fn run(&mut self, pickle: &[u8]) -> Result<Bound<'py, PyAny>, Stop> {
        let (py, mut cursor) = (self.py, Cursor(pickle));
        match cursor.array()? {
            [code::PROTO, 2..=HIGHEST_PROTOCOL] => {}
            _ => return Err(Stop::NotOurs),
        }
        loop {
            match cursor.byte()? {
                code::MEMOIZE => self.memoize()?,
                code::BINGET => self.get(cursor.byte()?.into())?,
                code::BINFLOAT => self.float(f64::from_be_bytes(cursor.array()?))?,
                code::SHORT_BINUNICODE => self.text(cursor.counted8()?)?,
                code::BINUNICODE => self.text(cursor.counted32()?)?,
                code::BINUNICODE8 => self.text(cursor.counted64()?)?,
                code::BININT1 => self.int(cursor.byte()?.into())?,
                code::BININT2 => self.int(u16::from_le_bytes(cursor.array()?).into())?,
                code::BININT => self.int(i32::from_le_bytes(cursor.array()?).into())?,
                code::LONG1 => self.long(cursor.counted8()?)?,
                code::LONG4 => self.long(cursor.counted32()?)?,
                code::NONE => self.constant(None)?,
                code::NEWTRUE => self.constant(Some(true))?,
                code::NEWFALSE => self.constant(Some(false))?,
                code::SHORT_BINBYTES => self.bytes(cursor.counted8()?)?,
                code::BINBYTES => self.bytes(cursor.counted32()?)?,
                code::BINBYTES8 => self.bytes(cursor.counted64()?)?,
                code::BYTEARRAY8 => self.bytearray(cursor.counted64()?)?,
                code::LONG_BINGET => self.get(u32::from_le_bytes(cursor.array()?))?,
                code::BINPUT => self.put(cursor.byte()?.into())?,
                code::LONG_BINPUT => self.put(u32::from_le_bytes(cursor.array()?))?,
                code::MARK => self.mark(Above::Items)?,
                // Whether a mark follows must be known: the texts above it are keys.
                code::EMPTY_DICT => match cursor.0 {
                    // A dict that is not memoized is made when its keys are known.
                    [code::MARK, rest @ ..] => {
                        cursor.0 = rest;
                        self.push_place()?;
                        self.mark(Above::OfNewDict)?;
                    }
                    after => {
                        self.empty_dict()?;
                        let rest = match after {
                            [code::MEMOIZE, code::MARK, rest @ ..] => rest,
                            [code::BINPUT, number, code::MARK, rest @ ..]
                                if usize::from(*number) == self.vectors.memo.len() =>
                            {
                                rest
                            }
                            _ => continue,
                        };
                        cursor.0 = rest;
                        self.memoize()?;
                        self.mark(Above::OfDict)?;
                    }
                },
                code::SETITEMS => self.set_items()?,
                code::SETITEM => self.set_items_from(self.last(2)?)?,
                code::LIST => {
                    let start = self.pop_mark()?;
                    self.list(start)?;
                }
                code::EMPTY_LIST => self.list(self.vectors.stack.len())?,
                code::APPENDS => {
                    let start = self.pop_mark()?;
                    self.append_from(start)?;
                }
                code::APPEND => self.append_from(self.last(1)?)?,
                code::TUPLE => {
                    let start = self.pop_mark()?;
                    self.tuple(start)?;
                }
                code::EMPTY_TUPLE => self.tuple(self.vectors.stack.len())?,
                code::TUPLE1 => self.tuple(self.last(1)?)?,
                code::TUPLE2 => self.tuple(self.last(2)?)?,
                code::TUPLE3 => self.tuple(self.last(3)?)?,
                code::EMPTY_SET => self.empty_set()?,
                code::ADDITEMS => self.add_items()?,
                code::FROZENSET => self.frozenset()?,
                code::FRAME => cursor.frame()?,
                code::STOP => {
                    return match (self.vectors.stack.pop(py), self.vectors.stack.len() + self.vectors.marks.len()) {
                        (Some(value), 0) => Ok(value),
                        _ => Err(Stop::NotOurs),
                    };
                }
                _ => return Err(Stop::NotOurs),
            }
        }
    }
}
