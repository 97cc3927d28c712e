//! Finds out which arrays of a text are lists: their keys are 0, 1, 2 and so on.

use super::damage::{Damage, Why};
use super::scanner::{Container, Key, Reference, Scalar};
use super::walk::{Limits, Visitor, walk};

/// For each array and object of a text, in the order in which they begin, whether it is a list.
#[derive(Debug, Default)]
pub struct ListShapes {
    bits: Vec<u64>,
    len: usize,
}

impl ListShapes {
    /// Whether the array or object with this number, from 0, is a list. An object is none.
    pub fn is_list(&self, number: usize) -> bool {
        self.bits.get(number / 64).is_some_and(|bits| bits >> (number % 64) & 1 != 0)
    }

    fn clear(&mut self, number: usize) {
        if let Some(bits) = self.bits.get_mut(number / 64) {
            *bits &= !(1 << (number % 64));
        }
    }
}

/// An array or object that is being read.
pub struct Open {
    number: usize,
    next: i64,
}

impl Visitor for ListShapes {
    type Open = Open;
    type Error = Damage;

    fn scalar(&mut self, _: Scalar<'_>, _: usize) -> Result<(), Damage> {
        Ok(())
    }

    fn begin(&mut self, container: Container<'_>, offset: usize) -> Result<Open, Damage> {
        let number = self.len;
        if number.is_multiple_of(64) {
            let asked = self.bits.len() * 16;
            self.bits.try_reserve(1).map_err(|_| Damage { offset, why: Why::NoMemory(asked) })?;
            self.bits.push(u64::MAX);
        }
        self.len += 1;
        if container.class.is_some() {
            self.clear(number);
        }
        Ok(Open { number, next: 0 })
    }

    fn key(&mut self, open: &mut Open, key: Key<'_>, _: usize) -> Result<(), Damage> {
        if key != Key::Int(open.next) {
            self.clear(open.number);
        }
        open.next += 1;
        Ok(())
    }

    fn end(&mut self, _: Open, _: usize) -> Result<(), Damage> {
        Ok(())
    }

    fn reference(&mut self, _: Reference, _: usize) -> Result<(), Damage> {
        Ok(())
    }
}

/// Reads a whole text, and returns which of its arrays are lists.
pub fn list_shapes(text: &[u8], limits: &Limits) -> Result<ListShapes, Damage> {
    let mut shapes = ListShapes::default();
    walk(text, limits, &mut shapes, &mut Vec::new())?;
    Ok(shapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { depth: 64, values: 1000 };

    #[test]
    fn lists_have_the_keys_0_1_2_in_this_order() {
        let text =
            br#"a:5:{i:0;a:0:{}i:1;a:1:{i:1;N;}i:2;a:2:{s:1:"0";N;i:1;R:2;}i:3;O:1:"C":1:{i:0;N;}i:4;a:1:{i:0;r:7;}}"#;
        let shapes = list_shapes(text, &LIMITS).unwrap();
        let found: Vec<_> = (0..7).map(|number| shapes.is_list(number)).collect();
        assert_eq!(found, [true, true, false, true, false, true, true]);
        let many =
            format!("a:200:{{{}}}", (0..200).map(|at| format!("i:{at};a:1:{{i:{};N;}}", at % 2)).collect::<String>());
        let shapes = list_shapes(many.as_bytes(), &LIMITS).unwrap();
        assert!((1..201).all(|number| shapes.is_list(number) == (number % 2 == 1)));
    }

    #[test]
    fn limits_are_exact() {
        let nested = |depth: usize| format!("{}N;{}", "a:1:{i:0;".repeat(depth), "}".repeat(depth));
        assert!(list_shapes(nested(64).as_bytes(), &LIMITS).is_ok());
        let damage = list_shapes(nested(65).as_bytes(), &LIMITS).unwrap_err();
        assert_eq!((damage.offset, matches!(damage.why, Why::Limit { limit: 64, .. })), (9 * 64, true));
        let flat = |count: usize| format!("a:{count}:{{{}}}", "i:0;N;".repeat(count));
        assert!(list_shapes(flat(999).as_bytes(), &LIMITS).is_ok());
        assert!(matches!(
            list_shapes(flat(1000).as_bytes(), &LIMITS),
            Err(Damage { why: Why::Limit { limit: 1000, .. }, .. })
        ));
    }

    #[test]
    fn a_damaged_text_is_an_error_inside_of_it_and_no_panic() {
        let texts: [&[u8]; 3] = [
            br#"a:3:{i:0;s:2:"hi";s:1:"k";d:-1.5E+7;i:9;a:2:{i:0;b:1;i:1;R:4;}}"#,
            br#"a:4:{i:0;E:6:"Suit:H";i:1;r:2;i:2;C:1:"S":1:{x}i:3;S:2:"\41b";}"#,
            br#"O:8:"stdClass":2:{s:4:"self";r:1;s:1:"x";a:0:{}}"#,
        ];
        let mut state = 1_u64;
        let mut next = move |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        for round in 0..60_000 {
            let mut text = texts[round % 3].to_vec();
            for _ in 0..=next(3) {
                let at = next(text.len());
                match next(4) {
                    0 => text[at] = next(256) as u8,
                    1 => text[at] = b"0123456789{};:\"aOsidbNCERrS-"[next(28)],
                    2 => drop(text.remove(at)),
                    _ => text.insert(at, b"019{};:\"aOs"[next(11)]),
                }
            }
            if let Err(damage) = list_shapes(&text, &LIMITS) {
                assert!(damage.offset <= text.len() && !damage.to_string().is_empty());
            }
        }
    }
}
