//! The type name of a pickled value, found without running any of it.
//!
//! The pickle is walked with a stack of small tags instead of values: linear time, some 8 bytes a step, never more than
//! [`MAX_STEPS`] steps. What a class or function would do when called is unknown here, so the answer is what the
//! stream says the object is; a stream made to deceive can say anything.

use super::opcode::{HIGHEST_PROTOCOL, Op, OpReader};
use super::stack::{NO_MEMORY, Stack};
use crate::error::Error;

/// The answer for bytes that are not a readable pickle.
pub const DAMAGED: &str = "damaged";
/// The answer where the stream does not tell.
pub const UNKNOWN: &str = "unknown";

/// After so many opcodes the outermost value under construction gives the name.
const MAX_STEPS: usize = 1 << 22;
/// Of a module's or class's name, in bytes.
const MAX_NAME: usize = 128;

#[derive(Clone, Copy)]
enum Plain {
    None,
    Bool,
    Int,
    Float,
    Str,
    Bytes,
    ByteArray,
    List,
    Tuple,
    Dict,
    Set,
    FrozenSet,
    /// Handed over beside the pickle.
    Buffer,
    Unknown,
}

impl Plain {
    fn name(self) -> &'static str {
        match self {
            Plain::None => "NoneType",
            Plain::Bool => "bool",
            Plain::Int => "int",
            Plain::Float => "float",
            Plain::Str => "str",
            Plain::Bytes => "bytes",
            Plain::ByteArray => "bytearray",
            Plain::List => "list",
            Plain::Tuple => "tuple",
            Plain::Dict => "dict",
            Plain::Set => "set",
            Plain::FrozenSet => "frozenset",
            Plain::Buffer => "buffer",
            Plain::Unknown => UNKNOWN,
        }
    }
}

/// What is known of one stack item. Numbers are indices into [`Walk::globals`].
#[derive(Clone, Copy)]
enum Tag {
    Is(Plain),
    /// A str whose opcode is at this offset: it may become part of a global's name.
    Str(u32),
    /// A tuple with the first of its items that is a global.
    TupleWith(u32),
    /// A tuple without one, whose first item is such a str, or such a dtype.
    TupleText(u32),
    TupleDtype(u32),
    /// A numpy dtype whose kind is the str at this offset.
    Dtype(u32),
    /// A method of numpy's arrays; of these, `__new__` is pickled, which makes what its first argument says.
    Maker,
    Global(u32),
    Instance(u32),
}

#[derive(Clone, Copy)]
struct Name<'a> {
    module: &'a [u8],
    name: &'a [u8],
}

struct Walk<'a> {
    data: &'a [u8],
    stack: Stack<Tag>,
    globals: Vec<Name<'a>>,
    proto: u8,
}

/// The type of the pickled value: `int`, `list`, …, `module.qualname` for classes outside `builtins`, or [`DAMAGED`].
///
/// # Errors
/// No memory to look.
pub fn type_name(pickle: &[u8]) -> crate::error::Result<String> {
    let mut walk = Walk { data: pickle, stack: Stack::new(), globals: Vec::new(), proto: 0 };
    match walk.run() {
        Ok(tag) => Ok(walk.describe(tag)),
        // It grows with what was looked at.
        Err(NO_MEMORY) => Err(Error::Memory { asked: pickle.len() as u64, what: "the type of a value" }),
        Err(_) => Ok(DAMAGED.to_owned()),
    }
}

/// What a pickle needs of this module, or of one in it.
#[cfg(feature = "python")]
pub fn needed_of(pickle: &[u8], module: &str) -> Option<String> {
    let mut walk = Walk { data: pickle, stack: Stack::new(), globals: Vec::new(), proto: 0 };
    let _ = walk.run(); // As far as it gets.
    let within = |name: &&Name<'_>| {
        name.module.strip_prefix(module.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
    };
    walk.globals.iter().find(within).map(|name| dotted(name.module, name.name))
}

impl<'a> Walk<'a> {
    fn run(&mut self) -> Result<Tag, &'static str> {
        let mut reader = OpReader::new(self.data);
        for _ in 0..MAX_STEPS {
            let op = reader.next_op().map_err(|error| error.why)?;
            if op == Op::Stop {
                return self.stack.pop();
            }
            self.stack.make_room().map_err(|_| NO_MEMORY)?;
            self.step(op, reader.op_at())?;
        }
        // A container is filled long after it was made, so what lies at the bottom is nearly always the value itself.
        Ok(match self.stack.bottom() {
            Some(&tag) => tag,
            None => Tag::Is(Plain::Unknown),
        })
    }

    fn step(&mut self, op: Op<'a>, at: usize) -> Result<(), &'static str> {
        let tag = match op {
            Op::Proto(proto) if proto > HIGHEST_PROTOCOL => return Err("a newer protocol"),
            Op::Proto(proto) => {
                self.proto = proto;
                return Ok(());
            }
            Op::Frame(_) | Op::Stop => return Ok(()),
            Op::Mark => {
                self.stack.mark();
                return Ok(());
            }
            Op::Pop => return self.stack.pop_item_or_mark(),
            Op::PopMark => return self.drop_to_mark(),
            Op::Memoize => return self.stack.memoize(),
            Op::Put(index) => return self.stack.put(index, at),
            Op::Append => return self.fill(1),
            Op::SetItem => return self.fill(2),
            Op::Build => return self.fill(1),
            Op::Appends | Op::SetItems | Op::AddItems => {
                let start = self.stack.pop_mark()?;
                self.stack.under(start)?;
                self.stack.truncate(start);
                return Ok(());
            }
            Op::Dup => *self.stack.top()?,
            Op::Get(index) => self.stack.get(index)?,
            Op::None => Tag::Is(Plain::None),
            Op::Bool(_) => Tag::Is(Plain::Bool),
            Op::Int(_) | Op::Long(_) => Tag::Is(Plain::Int),
            Op::Float(_) => Tag::Is(Plain::Float),
            Op::Str(_) => u32::try_from(at).map_or(Tag::Is(Plain::Str), Tag::Str),
            Op::Bytes(_) => Tag::Is(Plain::Bytes),
            Op::ByteArray(_) => Tag::Is(Plain::ByteArray),
            Op::EmptyList => Tag::Is(Plain::List),
            Op::EmptyTuple => Tag::Is(Plain::Tuple),
            Op::EmptyDict => Tag::Is(Plain::Dict),
            Op::EmptySet => Tag::Is(Plain::Set),
            Op::List => self.collect(Plain::List)?,
            Op::Dict => self.collect(Plain::Dict)?,
            Op::FrozenSet => self.collect(Plain::FrozenSet)?,
            Op::Tuple => {
                let start = self.stack.pop_mark()?;
                self.tuple(start)
            }
            Op::TupleOf(count) => {
                let start = self.stack.last(count)?;
                self.tuple(start)
            }
            Op::Global { module, name } => Tag::Global(self.name(module, name)?),
            Op::StackGlobal => {
                let (name, module) = (self.stack.pop()?, self.stack.pop()?);
                let (module, name) = (self.text(module)?, self.text(name)?);
                Tag::Global(self.name(module, name)?)
            }
            Op::Inst { module, name } => {
                self.drop_to_mark()?;
                Tag::Instance(self.name(module, name)?)
            }
            Op::Obj => {
                let start = self.stack.pop_mark()?;
                let class = *self.stack.from(start).first().ok_or("OBJ without a class")?;
                self.stack.truncate(start);
                instance(class)
            }
            Op::NewObj => self.make(1, false)?,
            Op::NewObjEx => self.make(2, false)?,
            Op::Reduce => self.make(1, true)?,
            Op::BinPersId => {
                self.stack.pop()?;
                Tag::Is(Plain::Unknown)
            }
            Op::PersId | Op::Ext(_) => Tag::Is(Plain::Unknown),
            Op::NextBuffer => Tag::Is(Plain::Buffer),
            Op::ReadonlyBuffer => {
                self.stack.pop()?;
                Tag::Is(Plain::Buffer)
            }
        };
        self.stack.push(tag);
        Ok(())
    }

    fn drop_to_mark(&mut self) -> Result<(), &'static str> {
        let start = self.stack.pop_mark()?;
        self.stack.truncate(start);
        Ok(())
    }

    /// Puts `count` items into the one below them.
    fn fill(&mut self, count: usize) -> Result<(), &'static str> {
        let start = self.stack.last(count)?;
        self.stack.under(start)?;
        self.stack.truncate(start);
        Ok(())
    }

    fn collect(&mut self, kind: Plain) -> Result<Tag, &'static str> {
        self.drop_to_mark()?;
        Ok(Tag::Is(kind))
    }

    fn tuple(&mut self, start: usize) -> Tag {
        let items = self.stack.from(start);
        let global = items.iter().find_map(|tag| match tag {
            Tag::Global(index) => Some(*index),
            _ => None,
        });
        let tag = match (global, items.first()) {
            (Some(index), _) => Tag::TupleWith(index),
            (None, Some(Tag::Str(at))) => Tag::TupleText(*at),
            (None, Some(Tag::Dtype(at))) => Tag::TupleDtype(*at),
            _ => Tag::Is(Plain::Tuple),
        };
        self.stack.truncate(start);
        tag
    }

    /// A class or function called with an argument tuple (and, for `NEWOBJ_EX`, keywords).
    fn make(&mut self, arguments: usize, call: bool) -> Result<Tag, &'static str> {
        let start = self.stack.last(arguments)?;
        let first = self.stack.from(start).first().copied();
        self.stack.truncate(start);
        let callee = self.stack.pop()?;
        let index = match (callee, first) {
            (Tag::Global(index), _) => index,
            (Tag::Maker, Some(Tag::TupleWith(class))) => return Ok(Tag::Instance(class)),
            _ => return Ok(Tag::Is(Plain::Unknown)),
        };
        if !call {
            return Ok(instance(callee));
        }
        let Name { module, name } = self.globals[index as usize];
        if module == b"_codecs" && name == b"encode" {
            return Ok(Tag::Is(Plain::Bytes));
        }
        if let (b"builtins", b"getattr", Some(Tag::TupleWith(class))) = (module, name, first) {
            let Name { module, name } = self.globals[class as usize];
            if (module, name) == (b"numpy", b"ndarray") {
                return Ok(Tag::Maker);
            }
        }
        if module.starts_with(b"numpy") && name == b"_frombuffer" {
            return Ok(Tag::Instance(self.name(b"numpy", b"ndarray")?));
        }
        if let (b"numpy", b"dtype", Some(Tag::TupleText(at))) = (module, name, first) {
            return Ok(Tag::Dtype(at));
        }
        if let (true, b"scalar", Some(Tag::TupleDtype(at))) = (module.starts_with(b"numpy"), name, first) {
            let scalar = scalar_name(self.text(Tag::Str(at))?);
            return Ok(Tag::Instance(self.name(b"numpy", scalar.as_bytes())?));
        }
        Ok(match first {
            Some(Tag::TupleWith(class)) if is_helper(name) => Tag::Instance(class),
            _ => instance(callee),
        })
    }

    fn name(&mut self, module: &'a [u8], name: &'a [u8]) -> Result<u32, &'static str> {
        let (module, name) = match modern(module, name, self.proto) {
            (b"exceptions", name) if self.proto < 3 => (&b"builtins"[..], name),
            named => named,
        };
        self.globals.try_reserve(1).map_err(|_| NO_MEMORY)?;
        self.globals.push(Name { module, name });
        u32::try_from(self.globals.len() - 1).map_err(|_| "too many names")
    }

    fn text(&self, tag: Tag) -> Result<&'a [u8], &'static str> {
        let Tag::Str(at) = tag else {
            return Err("STACK_GLOBAL without names");
        };
        match OpReader::starting_at(self.data, at as usize).next_op() {
            Ok(Op::Str(text)) => Ok(text),
            _ => Err("STACK_GLOBAL without names"),
        }
    }

    fn describe(&self, tag: Tag) -> String {
        match tag {
            Tag::Is(plain) => plain.name().to_owned(),
            Tag::Str(_) => Plain::Str.name().to_owned(),
            Tag::TupleWith(_) | Tag::TupleText(_) | Tag::TupleDtype(_) => Plain::Tuple.name().to_owned(),
            Tag::Dtype(_) => "numpy.dtype".to_owned(),
            Tag::Maker => "getattr".to_owned(),
            Tag::Instance(index) => {
                let Name { module, name } = self.globals[index as usize];
                match module {
                    b"builtins" => clean(name),
                    _ => dotted(module, name),
                }
            }
            // The value is the class or function itself, so `builtins.int` must not look like an int.
            Tag::Global(index) => {
                let Name { module, name } = self.globals[index as usize];
                dotted(module, name)
            }
        }
    }
}

/// What numpy 2 calls the scalars of a kind.
fn scalar_name(kind: &[u8]) -> &'static str {
    match kind {
        b"b1" => "bool",
        b"i1" => "int8",
        b"i2" => "int16",
        b"i4" => "int32",
        b"i8" => "int64",
        b"u1" => "uint8",
        b"u2" => "uint16",
        b"u4" => "uint32",
        b"u8" => "uint64",
        b"f2" => "float16",
        b"f4" => "float32",
        b"f8" => "float64",
        b"f16" => "longdouble",
        b"c8" => "complex64",
        b"c16" => "complex128",
        b"c32" => "clongdouble",
        b"M8" => "datetime64",
        b"m8" => "timedelta64",
        [b'S', ..] => "bytes_",
        [b'U', ..] => "str_",
        [b'V', ..] => "void",
        _ => "generic",
    }
}

fn instance(class: Tag) -> Tag {
    match class {
        Tag::Global(index) => Tag::Instance(index),
        _ => Tag::Is(Plain::Unknown),
    }
}

/// A private function such as `_reconstructor`, whose first class argument is what it makes. A class called with a
/// class (`defaultdict(list)`) is not one.
fn is_helper(name: &[u8]) -> bool {
    let last = name.rsplit(|&b| b == b'.').next().unwrap_or(name);
    matches!(last, [b'_', b'_' | b'a'..=b'z', ..])
}

/// Protocols below 3 carry Python 2's names, and Python 3.13 that of a file within `pathlib`.
pub(crate) fn modern<'a>(module: &'a [u8], name: &'a [u8], proto: u8) -> (&'a [u8], &'a [u8]) {
    match (module, name) {
        (b"__builtin__", b"xrange") if proto < 3 => (b"builtins", b"range"),
        (b"__builtin__", _) if proto < 3 => (b"builtins", name),
        (b"copy_reg", _) if proto < 3 => (b"copyreg", name),
        (b"pathlib._local", _) => (b"pathlib", name),
        _ => (module, name),
    }
}

/// `module.name`, short and printable whatever the bytes are.
pub(crate) fn dotted(module: &[u8], name: &[u8]) -> String {
    format!("{}.{}", clean(module), clean(name))
}

fn clean(name: &[u8]) -> String {
    let short = &name[..name.len().min(MAX_NAME)];
    let printable = |c: char| if c.is_control() { '?' } else { c };
    String::from_utf8_lossy(short).chars().map(printable).collect()
}

#[cfg(test)]
#[path = "kind_tests.rs"]
mod tests;
