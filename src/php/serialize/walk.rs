//! Reads a whole text and tells a visitor what stands in it. It keeps what is open in a vector, so that no nesting can
//! exhaust the stack.

use super::damage::{Damage, Why};
use super::numeric_key::numeric_key;
use super::scanner::{Container, Key, Reference, Scalar, Scanner, Token};

/// The most that a text may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Arrays and objects inside each other.
    pub depth: usize,
    /// Values, references included.
    pub values: u64,
}

/// An array or object that is being read.
pub struct Frame<O> {
    /// What the visitor keeps for it.
    pub open: O,
    left: usize,
    is_array: bool,
}

/// Is told what stands in a text, in its order. `offset` is where the token begins.
pub trait Visitor {
    /// What is kept for an array or object that is being read.
    type Open;
    /// Why the visitor ends the walk.
    type Error: From<Damage>;

    /// A value without values inside.
    fn scalar(&mut self, scalar: Scalar<'_>, offset: usize) -> Result<(), Self::Error>;
    /// An array or object begins.
    fn begin(&mut self, container: Container<'_>, offset: usize) -> Result<Self::Open, Self::Error>;
    /// A key. Its value comes next. A string that PHP takes for an int where it is a key of an array comes as an int.
    fn key(&mut self, open: &mut Self::Open, key: Key<'_>, offset: usize) -> Result<(), Self::Error>;
    /// An array or object ends.
    fn end(&mut self, open: Self::Open, offset: usize) -> Result<(), Self::Error>;
    /// A value that is another one, which began before it and may still be open.
    fn reference(&mut self, reference: Reference, offset: usize) -> Result<(), Self::Error>;
}

/// Reads a text that is one value and nothing behind it. `frames` is empty, and may have memory from another walk;
/// after an error it has the arrays and objects that were open.
#[inline(always)]
pub fn walk<V: Visitor>(
    text: &[u8],
    limits: &Limits,
    visitor: &mut V,
    frames: &mut Vec<Frame<V::Open>>,
) -> Result<(), V::Error> {
    let mut scanner = Scanner::new(text);
    // The numbers of values: each has one but those with `R`. All that precede have been begun.
    let (mut values, mut numbered) = (0_u64, 0_u64);
    // The number of the first object that serializes itself. The values inside of it take numbers, too, so that the
    // numbers behind it are not known here.
    let mut custom = u64::MAX;
    loop {
        let offset = scanner.offset();
        let token = scanner.value()?;
        if values == limits.values {
            return Err(limit(offset, "values", limits.values, "max_values"));
        }
        values += 1;
        match token {
            Token::Scalar(scalar) => {
                numbered += 1;
                if matches!(scalar, Scalar::Custom { .. }) {
                    custom = custom.min(numbered);
                }
                visitor.scalar(scalar, offset)?;
            }
            Token::Container(container) => {
                numbered += 1;
                if frames.len() >= limits.depth {
                    return Err(limit(offset, "arrays inside each other", limits.depth as u64, "max_depth"));
                }
                if frames.len() == frames.capacity() {
                    let more = frames.capacity().max(8);
                    let asked = (more + frames.len()) * size_of::<Frame<V::Open>>();
                    frames.try_reserve(more).map_err(|_| Damage { offset, why: Why::NoMemory(asked) })?;
                }
                let open = visitor.begin(container, offset)?;
                frames.push(Frame { open, left: container.count, is_array: container.class.is_none() });
            }
            Token::Reference(reference) => {
                if reference.number > custom {
                    let why = Why::BehindCustom { number: reference.number, custom };
                    return Err(Damage { offset, why }.into());
                }
                if reference.number == 0 || reference.number > numbered {
                    let why = Why::NoSuchValue { number: reference.number, values: numbered };
                    return Err(Damage { offset, why }.into());
                }
                numbered += u64::from(!reference.variable);
                visitor.reference(reference, offset)?;
            }
        }
        // What ends here, and the key of the next value.
        loop {
            let Some(frame) = frames.last_mut() else { return Ok(scanner.end()?) };
            let offset = scanner.offset();
            if frame.left == 0 {
                scanner.close()?;
                if let Some(frame) = frames.pop() {
                    visitor.end(frame.open, offset)?;
                }
                continue;
            }
            frame.left -= 1;
            let mut key = scanner.key()?;
            if let Key::Text(text) = &key {
                if let Some(number) = numeric_key(text).filter(|_| frame.is_array) {
                    key = Key::Int(number);
                }
            }
            visitor.key(&mut frame.open, key, offset)?;
            break;
        }
    }
}

#[cold]
fn limit<E: From<Damage>>(offset: usize, what: &'static str, limit: u64, argument: &'static str) -> E {
    Damage { offset, why: Why::Limit { what, limit, argument } }.into()
}
