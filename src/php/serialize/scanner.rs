//! One token of a text after the other. It knows what may stand in a value, and not what stands around it.

use super::class_name::is_class_name;
use super::damage::{Damage, Why};
use super::number::{self, NoNumber};
use std::borrow::Cow;

/// The shortest element of an array: `i:0;N;`.
const ELEMENT: usize = 6;

/// What begins where a value is expected.
#[derive(Debug, PartialEq)]
pub enum Token<'t> {
    /// A whole value without values inside.
    Scalar(Scalar<'t>),
    /// The beginning of a value with values inside.
    Container(Container<'t>),
    /// A value that is another one.
    Reference(Reference),
}

/// A value without values inside.
#[derive(Debug, PartialEq)]
pub enum Scalar<'t> {
    /// `N`
    Null,
    /// `b`
    Bool(bool),
    /// `i`
    Int(i64),
    /// `d`
    Float(f64),
    /// `s` and `S`
    Text(Cow<'t, [u8]>),
    /// `E`
    EnumCase {
        /// The enum.
        class: &'t [u8],
        /// The name of the case.
        case: &'t [u8],
    },
    /// `C`
    Custom {
        /// The class.
        class: &'t [u8],
        /// What its method made.
        data: &'t [u8],
    },
}

/// The beginning of an array or object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Container<'t> {
    /// The class of an object, or `None` for an array.
    pub class: Option<&'t [u8]>,
    /// How many keys and values follow. So many can stand in the rest of the text.
    pub count: usize,
}

/// A value that is another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference {
    /// Whether it is the same variable (`R`) and not just the same object (`r`).
    pub variable: bool,
    /// The number of the other value, from 1.
    pub number: u64,
}

/// A key of an array or object.
#[derive(Debug, PartialEq)]
pub enum Key<'t> {
    /// `i`
    Int(i64),
    /// `s` and `S`
    Text(Cow<'t, [u8]>),
}

/// Reads tokens from a text.
pub struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Scanner<'t> {
    /// At the beginning of a text.
    #[inline]
    pub fn new(text: &'t [u8]) -> Self {
        Scanner { text, at: 0 }
    }

    /// Where the next token begins.
    #[inline]
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Fails if anything follows.
    #[inline]
    pub fn end(&self) -> Result<(), Damage> {
        match self.text.len() - self.at {
            0 => Ok(()),
            left => Err(self.damage(Why::Trailing { left })),
        }
    }

    /// Reads a value, up to the first value inside.
    #[inline(always)]
    pub fn value(&mut self) -> Result<Token<'t>, Damage> {
        Ok(Token::Scalar(match self.tag("a value")? {
            b'i' => Scalar::Int(self.int()?),
            b's' => Scalar::Text(Cow::Borrowed(self.string()?)),
            b'd' => Scalar::Float(self.float()?),
            b'b' => Scalar::Bool(self.truth()?),
            b'a' => return self.array(),
            b'N' => Scalar::Null,
            other => return self.other(other),
        }))
    }

    /// Reads a key.
    #[inline(always)]
    pub fn key(&mut self) -> Result<Key<'t>, Damage> {
        match self.text.get(self.at) {
            Some(b'i' | b's' | b'S') => {}
            _ => return Err(self.expected("a key ('i' or 's')")),
        }
        match self.tag("a key")? {
            b'i' => Ok(Key::Int(self.int()?)),
            b's' => Ok(Key::Text(Cow::Borrowed(self.string()?))),
            _ => Ok(Key::Text(Cow::Owned(self.escaped()?))),
        }
    }

    /// Reads the end of an array or object.
    #[inline(always)]
    pub fn close(&mut self) -> Result<(), Damage> {
        self.byte(b'}', "'}', because all of the elements were read")
    }

    /// Reads a tag with what follows it: a colon, or the semicolon of `N;`.
    #[inline(always)]
    fn tag(&mut self, what: &'static str) -> Result<u8, Damage> {
        match self.text.get(self.at..) {
            Some([b'N', b';', ..]) => {
                self.at += 2;
                Ok(b'N')
            }
            Some([tag @ (b'i' | b's' | b'd' | b'b' | b'a' | b'O' | b'E' | b'C' | b'S' | b'r' | b'R'), b':', ..]) => {
                self.at += 2;
                Ok(*tag)
            }
            _ => Err(self.no_tag(what)),
        }
    }

    #[cold]
    fn no_tag(&mut self, what: &'static str) -> Damage {
        match self.text.get(self.at) {
            Some(b'i' | b's' | b'd' | b'b' | b'a' | b'O' | b'E' | b'C' | b'S' | b'r' | b'R') => {
                self.at += 1;
                self.expected("':'")
            }
            Some(b'N') => {
                self.at += 1;
                self.expected("';'")
            }
            _ => self.expected(what),
        }
    }

    fn other(&mut self, tag: u8) -> Result<Token<'t>, Damage> {
        Ok(match tag {
            b'O' => self.object()?,
            b'E' => Token::Scalar(self.enum_case()?),
            b'C' => Token::Scalar(self.custom()?),
            b'S' => Token::Scalar(Scalar::Text(Cow::Owned(self.escaped()?))),
            _ => {
                let number = self.unsigned("the number of a value")?;
                self.byte(b';', "';'")?;
                Token::Reference(Reference { variable: tag == b'R', number })
            }
        })
    }

    #[inline(always)]
    fn int(&mut self) -> Result<i64, Damage> {
        let (number, end) = number::signed(self.text, self.at).map_err(|why| self.no_number(why, "an int"))?;
        self.at = end;
        self.byte(b';', "';'")?;
        Ok(number)
    }

    fn float(&mut self) -> Result<f64, Damage> {
        let (number, end) = number::float(self.text, self.at).ok_or_else(|| self.expected("a float"))?;
        self.at = end;
        self.byte(b';', "';'")?;
        Ok(number)
    }

    #[inline(always)]
    fn truth(&mut self) -> Result<bool, Damage> {
        match self.text[self.at..] {
            [digit @ (b'0' | b'1'), b';', ..] => {
                self.at += 2;
                Ok(digit == b'1')
            }
            [b'0' | b'1', ..] => {
                self.at += 1;
                Err(self.expected("';'"))
            }
            _ => Err(self.expected("'0' or '1'")),
        }
    }

    /// A string from its length on, with the semicolon.
    #[inline(always)]
    fn string(&mut self) -> Result<&'t [u8], Damage> {
        let string = self.quoted("the string")?;
        self.byte(b';', "';'")?;
        Ok(string)
    }

    /// A length, a colon, and so many bytes in quotes.
    #[inline(always)]
    fn quoted(&mut self, what: &'static str) -> Result<&'t [u8], Damage> {
        let begun = self.at;
        let length = self.unsigned("a length")?;
        let rest = &self.text[self.at..];
        // Two bytes stand before the string, and at least one behind it.
        if let (Ok(len), Some(b":\"")) = (usize::try_from(length), rest.get(..2)) {
            if len < rest.len().saturating_sub(2) && rest[2 + len] == b'"' {
                self.at += len + 3;
                return Ok(&rest[2..2 + len]);
            }
        }
        self.at = begun;
        Err(self.not_quoted(length, what))
    }

    /// Why no string of this length stands here.
    #[cold]
    fn not_quoted(&mut self, length: u64, what: &'static str) -> Damage {
        let begun = self.at;
        let _ = self.unsigned("a length");
        for (byte, what) in [(b':', "':'"), (b'"', "'\"'")] {
            if let Err(damage) = self.byte(byte, what) {
                return damage;
            }
        }
        let left = self.text.len() - self.at;
        match usize::try_from(length).ok().filter(|len| *len <= left) {
            Some(len) => {
                self.at += len;
                self.expected("'\"' at the end of what has this length")
            }
            None => Damage { offset: begun, why: Why::TooLong { what, length, left } },
        }
    }

    /// A string whose bytes may stand there as two hexadecimal digits behind a backslash.
    fn escaped(&mut self) -> Result<Vec<u8>, Damage> {
        let begun = self.at;
        let length = self.unsigned("a length")?;
        self.byte(b':', "':'")?;
        self.byte(b'"', "'\"'")?;
        let left = self.text.len() - self.at;
        let too_long = Damage { offset: begun, why: Why::TooLong { what: "the string", length, left } };
        let len = usize::try_from(length).ok().filter(|len| *len <= left).ok_or(too_long)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| self.damage(Why::NoMemory(len)))?;
        for _ in 0..len {
            let byte = *self.text.get(self.at).ok_or(too_long)?;
            self.at += 1;
            bytes.push(if byte == b'\\' { self.hexadecimal()? << 4 | self.hexadecimal()? } else { byte });
        }
        self.byte(b'"', "'\"' at the end of what has this length")?;
        self.byte(b';', "';'")?;
        Ok(bytes)
    }

    fn hexadecimal(&mut self) -> Result<u8, Damage> {
        let digit = self.text.get(self.at).and_then(|&byte| char::from(byte).to_digit(16));
        let digit = digit.ok_or_else(|| self.expected("a hexadecimal digit"))?;
        self.at += 1;
        Ok(digit as u8)
    }

    #[inline(always)]
    fn array(&mut self) -> Result<Token<'t>, Damage> {
        let count = self.count("the array")?;
        Ok(Token::Container(Container { class: None, count }))
    }

    fn object(&mut self) -> Result<Token<'t>, Damage> {
        let class = self.class()?;
        let count = self.count("the object")?;
        Ok(Token::Container(Container { class: Some(class), count }))
    }

    /// The class of an object, with the colon behind it.
    fn class(&mut self) -> Result<&'t [u8], Damage> {
        let begun = self.at;
        let class = self.quoted("the name of the class")?;
        if !is_class_name(class) {
            return Err(Damage { offset: begun, why: Why::ClassName });
        }
        self.byte(b':', "':'")?;
        Ok(class)
    }

    fn enum_case(&mut self) -> Result<Scalar<'t>, Damage> {
        let begun = self.at;
        let both = self.quoted("the case of the enum")?;
        let colon = both.iter().position(|&byte| byte == b':');
        let parts = colon.map(|colon| (&both[..colon], &both[colon + 1..]));
        let parts = parts.filter(|(class, case)| is_class_name(class) && is_class_name(case));
        let (class, case) = parts.ok_or(Damage { offset: begun, why: Why::EnumCase })?;
        self.byte(b';', "';'")?;
        Ok(Scalar::EnumCase { class, case })
    }

    fn custom(&mut self) -> Result<Scalar<'t>, Damage> {
        let class = self.class()?;
        let begun = self.at;
        let length = self.unsigned("a length")?;
        self.byte(b':', "':'")?;
        self.byte(b'{', "'{'")?;
        let left = self.text.len() - self.at;
        let len = usize::try_from(length).ok().filter(|len| *len <= left);
        let why = Why::TooLong { what: "the object's own data", length, left };
        let len = len.ok_or(Damage { offset: begun, why })?;
        let data = &self.text[self.at..self.at + len];
        self.at += len;
        self.byte(b'}', "'}' at the end of what has this length")?;
        Ok(Scalar::Custom { class, data })
    }

    /// A count of elements, with what stands behind it. So many elements fit into what is left.
    #[inline(always)]
    fn count(&mut self, what: &'static str) -> Result<usize, Damage> {
        let begun = self.at;
        let count = self.unsigned("a count")?;
        self.byte(b':', "':'")?;
        self.byte(b'{', "'{'")?;
        let left = self.text.len() - self.at;
        if count > (left / ELEMENT) as u64 {
            return Err(Damage { offset: begun, why: Why::TooMany { what, count, left } });
        }
        Ok(count as usize)
    }

    #[inline(always)]
    fn unsigned(&mut self, what: &'static str) -> Result<u64, Damage> {
        let (number, end) = number::unsigned(self.text, self.at).map_err(|why| self.no_number(why, what))?;
        self.at = end;
        Ok(number)
    }

    #[inline(always)]
    fn byte(&mut self, byte: u8, what: &'static str) -> Result<(), Damage> {
        if self.text.get(self.at) != Some(&byte) {
            return Err(self.expected(what));
        }
        self.at += 1;
        Ok(())
    }

    #[cold]
    fn no_number(&self, why: NoNumber, what: &'static str) -> Damage {
        match why {
            NoNumber::Form => self.expected(what),
            NoNumber::Range => self.damage(Why::OutOfRange(what)),
        }
    }

    #[cold]
    fn expected(&self, what: &'static str) -> Damage {
        self.damage(Why::Expected { what, found: self.text.get(self.at).copied() })
    }

    #[cold]
    fn damage(&self, why: Why) -> Damage {
        Damage { offset: self.at, why }
    }
}
