//! Writes a text, one token after the other, up to a largest size.

use super::float_text as spelling;

/// Why a token was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// The text would be longer than it may be.
    TooLong,
    /// There is no memory.
    NoMemory,
}

/// A text that is being written.
pub struct Writer {
    out: Vec<u8>,
    most: usize,
}

/// The longest digits of an int, with a sign.
const DIGITS: usize = 20;
/// The longest token of an int.
pub const LONGEST_INT: usize = DIGITS + 3;
/// The longest token of a float.
pub const LONGEST_FLOAT: usize = spelling::LONGEST + 3;

impl Writer {
    /// Nothing is written yet; at most `most` bytes will be.
    pub fn new(most: usize) -> Self {
        Writer { out: Vec::new(), most }
    }

    /// What was written.
    #[inline]
    pub fn text(&self) -> &[u8] {
        &self.out
    }

    /// The largest size that the text may have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// `N;`
    #[inline]
    pub fn null(&mut self) -> Result<(), Unwritten> {
        self.put(b"N;")
    }

    /// `b:1;`
    #[inline]
    pub fn bool(&mut self, truth: bool) -> Result<(), Unwritten> {
        self.put(if truth { b"b:1;" } else { b"b:0;" })
    }

    /// `i:5;`
    #[inline]
    pub fn int(&mut self, number: i64) -> Result<(), Unwritten> {
        self.put(int_text(number, &mut [0; LONGEST_INT]))
    }

    /// `d:0.5;`
    #[inline]
    pub fn float(&mut self, number: f64) -> Result<(), Unwritten> {
        self.put(float_text(number, &mut [0; LONGEST_FLOAT]))
    }

    /// `s:2:"hi";`
    #[inline]
    pub fn string(&mut self, string: &[u8]) -> Result<(), Unwritten> {
        let mut digits = [0; DIGITS];
        self.parts([b"s:", count_text(string.len(), &mut digits), b":\"", string, b"\";"])
    }

    /// `a:5:{`
    #[inline]
    pub fn array(&mut self, count: usize) -> Result<(), Unwritten> {
        let mut digits = [0; DIGITS];
        self.parts([b"a:", count_text(count, &mut digits), b":{"])
    }

    /// `O:1:"P":5:{`
    pub fn object(&mut self, class: &[u8], count: usize) -> Result<(), Unwritten> {
        let (mut length, mut digits) = ([0; DIGITS], [0; DIGITS]);
        let length = count_text(class.len(), &mut length);
        self.parts([b"O:", length, b":\"", class, b"\":", count_text(count, &mut digits), b":{"])
    }

    /// `}`
    #[inline]
    pub fn end(&mut self) -> Result<(), Unwritten> {
        self.put(b"}")
    }

    /// `E:6:"Suit:H";`
    pub fn enum_case(&mut self, class: &[u8], case: &[u8]) -> Result<(), Unwritten> {
        let mut digits = [0; DIGITS];
        let length = count_text(class.len() + 1 + case.len(), &mut digits);
        self.parts([b"E:", length, b":\"", class, b":", case, b"\";"])
    }

    /// `C:1:"S":3:{abc}`
    pub fn custom(&mut self, class: &[u8], data: &[u8]) -> Result<(), Unwritten> {
        let (mut length, mut digits) = ([0; DIGITS], [0; DIGITS]);
        let length = count_text(class.len(), &mut length);
        self.parts([b"C:", length, b":\"", class, b"\":", count_text(data.len(), &mut digits), b":{", data, b"}"])
    }

    /// `r:5;`
    pub fn same_object(&mut self, number: u64) -> Result<(), Unwritten> {
        let mut digits = [0; DIGITS];
        self.parts([b"r:", count_text(number as usize, &mut digits), b";"])
    }

    /// Writes parts one after the other, or none of them.
    #[inline(always)]
    fn parts<const N: usize>(&mut self, parts: [&[u8]; N]) -> Result<(), Unwritten> {
        self.reserve(parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len())))?;
        parts.iter().for_each(|part| self.out.extend_from_slice(part));
        Ok(())
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        self.reserve(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// The capacity may exceed the largest size, so that is always looked at.
    #[inline(always)]
    fn reserve(&mut self, more: usize) -> Result<(), Unwritten> {
        if self.most - self.out.len() < more {
            return Err(Unwritten::TooLong);
        }
        if self.out.capacity() - self.out.len() < more {
            self.out.try_reserve(more.max(64)).map_err(|_| Unwritten::NoMemory)?;
        }
        Ok(())
    }
}

/// The token of an int, in a place for it.
#[inline(always)]
pub fn int_text(number: i64, to: &mut [u8; LONGEST_INT]) -> &[u8] {
    to[LONGEST_INT - 1] = b';';
    let mut at = digits(number.unsigned_abs(), to, LONGEST_INT - 1);
    if number < 0 {
        at -= 1;
        to[at] = b'-';
    }
    at -= 2;
    to[at..at + 2].copy_from_slice(b"i:");
    &to[at..]
}

/// The token of a float, in a place for it.
#[inline(always)]
pub fn float_text(number: f64, to: &mut [u8; LONGEST_FLOAT]) -> &[u8] {
    // A whole number of few digits is spelled like an int, except for -0.
    let whole = number as i64;
    if whole as f64 == number && whole.unsigned_abs() < 1 << 53 && whole != 0 {
        let Some(place) = to.first_chunk_mut::<LONGEST_INT>() else { return &[] };
        let len = int_text(whole, place).len();
        let start = LONGEST_INT - len;
        to[start] = b'd';
        return &to[start..LONGEST_INT];
    }
    let mut spelled = [0; spelling::LONGEST];
    let len = spelling::float_text(number, &mut spelled);
    to[..2].copy_from_slice(b"d:");
    to[2..2 + len].copy_from_slice(&spelled[..len]);
    to[2 + len] = b';';
    &to[..len + 3]
}

/// The token of a string, in a place for it. `None` if it is too long for the place.
#[inline(always)]
pub fn string_text<'a>(string: &[u8], to: &'a mut [u8]) -> Option<&'a [u8]> {
    const AROUND: usize = 2 + DIGITS + 4;
    if string.len() > to.len().saturating_sub(AROUND) {
        return None;
    }
    let mut count = [0; DIGITS];
    let mut at = 0;
    for part in [b"s:", count_text(string.len(), &mut count), b":\"", string, b"\";"] {
        to[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    Some(&to[..at])
}

/// The digits of a count.
#[inline(always)]
fn count_text(count: usize, to: &mut [u8; DIGITS]) -> &[u8] {
    let at = digits(count as u64, to, DIGITS);
    &to[at..]
}

/// Writes digits that end at `end`. Returns where they begin.
#[inline(always)]
fn digits(mut number: u64, to: &mut [u8], end: usize) -> usize {
    let mut at = end;
    loop {
        at -= 1;
        to[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_spelled_as_php_spells_it() {
        let mut writer = Writer::new(1000);
        writer.array(2).unwrap();
        writer.int(0).unwrap();
        writer.object(b"A\\B", 1).unwrap();
        writer.string("é".as_bytes()).unwrap();
        writer.int(i64::MIN).unwrap();
        writer.end().unwrap();
        writer.int(i64::MAX).unwrap();
        writer.enum_case(b"Suit", b"H").unwrap();
        writer.custom(b"S", b"abc").unwrap();
        writer.same_object(10).unwrap();
        writer.null().unwrap();
        writer.bool(true).unwrap();
        for number in [1.0, -1.0, 0.0, -0.0, 1e15, 9007199254740993.0, 1e16, 0.5, f64::NAN] {
            writer.float(number).unwrap();
        }
        let text = "a:2:{i:0;O:3:\"A\\B\":1:{s:2:\"é\";i:-9223372036854775808;}i:9223372036854775807;E:6:\"Suit:H\";\
            C:1:\"S\":3:{abc}r:10;N;b:1;d:1;d:-1;d:0;d:-0;d:1000000000000000;d:9007199254740992;d:10000000000000000;\
            d:0.5;d:NAN;";
        assert_eq!(std::str::from_utf8(writer.text()).unwrap(), text);
    }

    #[test]
    fn a_text_never_exceeds_its_largest_size() {
        let mut writer = Writer::new(9);
        writer.int(5).unwrap();
        assert_eq!(writer.string(b""), Err(Unwritten::TooLong));
        assert_eq!(writer.text(), b"i:5;");
        assert_eq!(writer.int(-10), Err(Unwritten::TooLong));
        writer.int(10).unwrap();
        assert_eq!(writer.null(), Err(Unwritten::TooLong));
    }

    #[test]
    fn a_short_string_is_the_same_in_a_place_of_its_own() {
        for len in 0..60 {
            let string = vec![b'x'; len];
            let mut writer = Writer::new(1000);
            writer.string(&string).unwrap();
            let mut place = [0; 64];
            if let Some(text) = string_text(&string, &mut place) {
                assert_eq!(text, writer.text());
            } else {
                assert!(len > 30);
            }
        }
    }
}
