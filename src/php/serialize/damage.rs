//! Why a text is refused, and where.

use std::fmt;

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where, in bytes from the beginning of the text.
    pub offset: usize,
    /// What.
    pub why: Why,
}

/// What is wrong at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Something else stands there, or the text ends.
    Expected {
        /// What should stand there.
        what: &'static str,
        /// What stands there.
        found: Option<u8>,
    },
    /// A length is larger than what is left.
    TooLong {
        /// What has the length.
        what: &'static str,
        /// The length, in bytes.
        length: u64,
        /// How many bytes are left.
        left: usize,
    },
    /// A count of elements is larger than what is left can hold.
    TooMany {
        /// What has the elements.
        what: &'static str,
        /// The count.
        count: u64,
        /// How many bytes are left.
        left: usize,
    },
    /// A number is outside of what 64 bits hold.
    OutOfRange(&'static str),
    /// PHP does not read such a name of a class.
    ClassName,
    /// A case of an enum is a class, a colon and a name.
    EnumCase,
    /// A reference to a value that does not exist.
    NoSuchValue {
        /// The number in the reference.
        number: u64,
        /// How many values precede it.
        values: u64,
    },
    /// A reference to a value behind an object that serializes itself. What is inside of such an object takes numbers,
    /// and only its class knows how many.
    BehindCustom {
        /// The number in the reference.
        number: u64,
        /// The number of the first such object.
        custom: u64,
    },
    /// A reference by `r` to what is no object.
    NoObject {
        /// The number in the reference.
        number: u64,
    },
    /// Bytes follow the value.
    Trailing {
        /// How many.
        left: usize,
    },
    /// A limit was reached.
    Limit {
        /// What is limited.
        what: &'static str,
        /// How much of it is allowed.
        limit: u64,
        /// The argument with which the limit is set.
        argument: &'static str,
    },
    /// A key occurs twice in this array or object, and the text has references: in PHP they go to the place of a value,
    /// and so would be to another value from the second key on.
    KeyAgain,
    /// Keys that take too long to put into a dict.
    SlowKeys,
    /// There is no memory for so many bytes.
    NoMemory(usize),
}

impl fmt::Display for Damage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "offset {}: {}", self.offset, self.why)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Why::Expected { what, found: None } => write!(to, "expected {what}, but the text ends"),
            Why::Expected { what, found: Some(byte) } => {
                write!(to, "expected {what}, found '{}'", std::ascii::escape_default(byte))
            }
            Why::TooLong { what, length, left } => {
                write!(to, "{what} is said to have {length} bytes, but only {left} follow")
            }
            Why::TooMany { what, count, left } => {
                write!(to, "{what} is said to have {count} elements, but only {left} bytes follow")
            }
            Why::OutOfRange(what) => write!(to, "{what} is beyond 64 bits"),
            Why::ClassName => {
                write!(to, "expected the name of a class: letters, digits, '_', '\\' and bytes from 0x7f on")
            }
            Why::EnumCase => write!(to, "expected a class, a colon and the name of a case"),
            Why::NoSuchValue { number, values } => {
                write!(to, "refers to value {number}, but only {values} values precede it")
            }
            Why::BehindCustom { number, custom } => write!(
                to,
                "refers to value {number}, but value {custom} is an object that serializes itself (C:), and only its \
                 class in PHP knows how many numbers the values inside of it take. Remedy: store the objects and \
                 references that occur twice before it, or each in a text of its own; a class with __serialize() is \
                 written with all its values"
            ),
            Why::NoObject { number } => write!(to, "refers by 'r' to value {number}, which is no object"),
            Why::Trailing { left } => write!(to, "the value ends here, but {left} more bytes follow"),
            Why::Limit { what, limit, argument } => {
                write!(to, "more than {limit} {what}. Remedy: a larger {argument}, if the text is trusted")
            }
            Why::KeyAgain => write!(to, "a key occurs twice in what ends here, and the text has references"),
            Why::SlowKeys => write!(to, "the int keys of this array collide in a dict, which takes too long"),
            Why::NoMemory(asked) => write!(to, "no memory for {asked} bytes"),
        }
    }
}
