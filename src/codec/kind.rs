//! The name of the type of a pickled value, found without running anything that the pickle names.
//!
//! The opcodes are executed with a stack of small tags instead of values. That takes linear time, some 8 bytes for each
//! step, and never more than `MAX_STEPS` steps. It is not known here what a class or function would do when it is
//! called, so the answer is what the stream says that the object is. A stream that is made to deceive can say anything.

use super::opcode::{HIGHEST_PROTOCOL, Op, OpReader};
use super::stack::{NO_MEMORY, Stack};
use crate::error::Error;

/// The answer for bytes that are not a readable pickle.
pub const DAMAGED: &str = "damaged";
/// The answer for a pickle that does not tell the type.
pub const UNKNOWN: &str = "unknown";

/// The largest number of opcodes that are executed. After that, the outermost value under construction gives the name.
const MAX_STEPS: usize = 1 << 22;
/// The largest number of bytes of a module's or class's name that are shown.
const MAX_NAME: usize = 128;
/// The largest number of names that [`names`] returns.
#[cfg(any(feature = "python", test))]
const MAX_NAMES: usize = 10_000;

/// A type that an opcode makes without naming it.
#[derive(Clone, Copy)]
enum BuiltinType {
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
    /// An out-of-band buffer, which is not in the pickle.
    Buffer,
    Unknown,
}

impl BuiltinType {
    fn name(self) -> &'static str {
        match self {
            BuiltinType::None => "NoneType",
            BuiltinType::Bool => "bool",
            BuiltinType::Int => "int",
            BuiltinType::Float => "float",
            BuiltinType::Str => "str",
            BuiltinType::Bytes => "bytes",
            BuiltinType::ByteArray => "bytearray",
            BuiltinType::List => "list",
            BuiltinType::Tuple => "tuple",
            BuiltinType::Dict => "dict",
            BuiltinType::Set => "set",
            BuiltinType::FrozenSet => "frozenset",
            BuiltinType::Buffer => "buffer",
            BuiltinType::Unknown => UNKNOWN,
        }
    }
}

/// What is known of one stack item.
#[derive(Clone, Copy)]
enum Tag {
    /// An instance of a builtin type.
    Builtin(BuiltinType),
    /// A str. Its opcode is at this offset, because the str may become part of a global's name.
    Str(u32),
    /// A tuple, and the first of its items that is a global (an index of [`TypeScan::globals`]).
    TupleWithGlobal(u32),
    /// A tuple without a global, whose first item is the str at this offset.
    TupleWithStr(u32),
    /// A tuple without a global, whose first item is a [`Tag::Dtype`] of this offset.
    TupleWithDtype(u32),
    /// A numpy dtype. Its kind is the str at this offset.
    Dtype(u32),
    /// A method of numpy's arrays. The only one in a pickle is `__new__`, which makes an instance of its first
    /// argument.
    ArrayMethod,
    /// A class or function (an index of [`TypeScan::globals`]).
    Global(u32),
    /// An instance of a class (an index of [`TypeScan::globals`]).
    Instance(u32),
}

/// The name of a class or function.
#[derive(Clone, Copy)]
struct GlobalName<'a> {
    module: &'a [u8],
    name: &'a [u8],
}

/// Executes a pickle with tags.
struct TypeScan<'a> {
    data: &'a [u8],
    stack: Stack<Tag>,
    globals: Vec<GlobalName<'a>>,
    proto: u8,
}

/// Returns the type of the pickled value: `int`, `list`, …, `module.qualname` for classes outside `builtins`, or
/// [`DAMAGED`].
///
/// # Errors
/// [`Error::Memory`] if there is no memory for stack and memo.
pub fn type_name(pickle: &[u8]) -> crate::error::Result<String> {
    let mut scan = TypeScan { data: pickle, stack: Stack::new(), globals: Vec::new(), proto: 0 };
    match scan.run() {
        Ok(tag) => Ok(scan.describe(tag)),
        // Stack and memo grow with the pickle.
        Err(NO_MEMORY) => Err(Error::Memory { asked: pickle.len() as u64, what: "the type of a value" }),
        Err(_) => Ok(DAMAGED.to_owned()),
    }
}

/// Returns the first class or function that a pickle names in `module`, or in a module within it. Returns `None` if it
/// names none.
#[cfg(feature = "python")]
pub fn name_needed_from(pickle: &[u8], module: &str) -> Option<String> {
    let mut scan = TypeScan { data: pickle, stack: Stack::new(), globals: Vec::new(), proto: 0 };
    let _ = scan.run(); // A damaged pickle is executed as far as it can be read.
    let within = |name: &&GlobalName<'_>| {
        name.module.strip_prefix(module.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
    };
    scan.globals.iter().find(within).map(|name| dotted(name.module, name.name))
}

/// Returns the classes and functions that a pickle names, as module and name, in the order in which unpickling looks
/// them up; the first ones if there are very many. A name that is not UTF-8 is left out, and so are those of Python 2,
/// which unpickling translates.
#[cfg(any(feature = "python", test))]
pub fn names(pickle: &[u8]) -> Vec<(&str, &str)> {
    let mut scan = TypeScan { data: pickle, stack: Stack::new(), globals: Vec::new(), proto: 0 };
    let _ = scan.run(); // A damaged pickle is executed as far as it can be read.
    if scan.proto < 3 {
        return Vec::new();
    }
    scan.globals.truncate(MAX_NAMES);
    let text = |bytes| std::str::from_utf8(bytes).ok();
    scan.globals.iter().filter_map(|global| Some((text(global.module)?, text(global.name)?))).collect()
}

impl<'a> TypeScan<'a> {
    /// Executes the pickle and returns the tag of its value.
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
        // A container gets its items after it was made, so the item at the bottom is nearly always the value itself.
        Ok(match self.stack.bottom() {
            Some(&tag) => tag,
            None => Tag::Builtin(BuiltinType::Unknown),
        })
    }

    /// Executes one opcode, which begins at offset `at`.
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
            Op::Append => return self.drop_into_item_below(1),
            Op::SetItem => return self.drop_into_item_below(2),
            Op::Build => return self.drop_into_item_below(1),
            Op::Appends | Op::SetItems | Op::AddItems => {
                let start = self.stack.pop_mark()?;
                self.stack.under(start)?;
                self.stack.truncate(start);
                return Ok(());
            }
            Op::Dup => *self.stack.top()?,
            Op::Get(index) => self.stack.get(index)?,
            Op::None => Tag::Builtin(BuiltinType::None),
            Op::Bool(_) => Tag::Builtin(BuiltinType::Bool),
            Op::Int(_) | Op::Long(_) => Tag::Builtin(BuiltinType::Int),
            Op::Float(_) => Tag::Builtin(BuiltinType::Float),
            Op::Str(_) => u32::try_from(at).map_or(Tag::Builtin(BuiltinType::Str), Tag::Str),
            Op::Bytes(_) => Tag::Builtin(BuiltinType::Bytes),
            Op::ByteArray(_) => Tag::Builtin(BuiltinType::ByteArray),
            Op::EmptyList => Tag::Builtin(BuiltinType::List),
            Op::EmptyTuple => Tag::Builtin(BuiltinType::Tuple),
            Op::EmptyDict => Tag::Builtin(BuiltinType::Dict),
            Op::EmptySet => Tag::Builtin(BuiltinType::Set),
            Op::List => self.collection(BuiltinType::List)?,
            Op::Dict => self.collection(BuiltinType::Dict)?,
            Op::FrozenSet => self.collection(BuiltinType::FrozenSet)?,
            Op::Tuple => {
                let start = self.stack.pop_mark()?;
                self.tuple(start)
            }
            Op::TupleOf(count) => {
                let start = self.stack.last(count)?;
                self.tuple(start)
            }
            Op::Global { module, name } => Tag::Global(self.global(module, name)?),
            Op::StackGlobal => {
                let (name, module) = (self.stack.pop()?, self.stack.pop()?);
                let (module, name) = (self.text(module)?, self.text(name)?);
                Tag::Global(self.global(module, name)?)
            }
            Op::Inst { module, name } => {
                self.drop_to_mark()?;
                Tag::Instance(self.global(module, name)?)
            }
            Op::Obj => {
                let start = self.stack.pop_mark()?;
                let class = *self.stack.from(start).first().ok_or("OBJ without a class")?;
                self.stack.truncate(start);
                instance(class)
            }
            Op::NewObj => self.call(1, false)?,
            Op::NewObjEx => self.call(2, false)?,
            Op::Reduce => self.call(1, true)?,
            Op::BinPersId => {
                self.stack.pop()?;
                Tag::Builtin(BuiltinType::Unknown)
            }
            Op::PersId | Op::Ext(_) => Tag::Builtin(BuiltinType::Unknown),
            Op::NextBuffer => Tag::Builtin(BuiltinType::Buffer),
            Op::ReadonlyBuffer => {
                self.stack.pop()?;
                Tag::Builtin(BuiltinType::Buffer)
            }
        };
        self.stack.push(tag);
        Ok(())
    }

    /// Drops the items above the last mark, and the mark.
    fn drop_to_mark(&mut self) -> Result<(), &'static str> {
        let start = self.stack.pop_mark()?;
        self.stack.truncate(start);
        Ok(())
    }

    /// Drops the top `count` items, which become part of the item below them.
    fn drop_into_item_below(&mut self, count: usize) -> Result<(), &'static str> {
        let start = self.stack.last(count)?;
        self.stack.under(start)?;
        self.stack.truncate(start);
        Ok(())
    }

    /// Makes a collection of the items above the last mark.
    fn collection(&mut self, kind: BuiltinType) -> Result<Tag, &'static str> {
        self.drop_to_mark()?;
        Ok(Tag::Builtin(kind))
    }

    /// Makes a tuple of the items from `start` up.
    fn tuple(&mut self, start: usize) -> Tag {
        let items = self.stack.from(start);
        let global = items.iter().find_map(|tag| match tag {
            Tag::Global(index) => Some(*index),
            _ => None,
        });
        let tag = match (global, items.first()) {
            (Some(index), _) => Tag::TupleWithGlobal(index),
            (None, Some(Tag::Str(at))) => Tag::TupleWithStr(*at),
            (None, Some(Tag::Dtype(at))) => Tag::TupleWithDtype(*at),
            _ => Tag::Builtin(BuiltinType::Tuple),
        };
        self.stack.truncate(start);
        tag
    }

    /// Calls a class or function with an argument tuple (and, for `NEWOBJ_EX`, keywords): `arguments` items in all.
    /// `is_reduce` is true for `REDUCE`, which calls anything; the other opcodes call `__new__` of a class.
    fn call(&mut self, arguments: usize, is_reduce: bool) -> Result<Tag, &'static str> {
        let start = self.stack.last(arguments)?;
        let first = self.stack.from(start).first().copied();
        self.stack.truncate(start);
        let callee = self.stack.pop()?;
        let index = match (callee, first) {
            (Tag::Global(index), _) => index,
            (Tag::ArrayMethod, Some(Tag::TupleWithGlobal(class))) => return Ok(Tag::Instance(class)),
            _ => return Ok(Tag::Builtin(BuiltinType::Unknown)),
        };
        if !is_reduce {
            return Ok(instance(callee));
        }
        let GlobalName { module, name } = self.globals[index as usize];
        if module == b"_codecs" && name == b"encode" {
            return Ok(Tag::Builtin(BuiltinType::Bytes));
        }
        if let (b"builtins", b"getattr", Some(Tag::TupleWithGlobal(class))) = (module, name, first) {
            let GlobalName { module, name } = self.globals[class as usize];
            if (module, name) == (b"numpy", b"ndarray") {
                return Ok(Tag::ArrayMethod);
            }
        }
        if module.starts_with(b"numpy") && name == b"_frombuffer" {
            return Ok(Tag::Instance(self.global(b"numpy", b"ndarray")?));
        }
        if let (b"numpy", b"dtype", Some(Tag::TupleWithStr(at))) = (module, name, first) {
            return Ok(Tag::Dtype(at));
        }
        if let (true, b"scalar", Some(Tag::TupleWithDtype(at))) = (module.starts_with(b"numpy"), name, first) {
            let scalar = scalar_name(self.text(Tag::Str(at))?);
            return Ok(Tag::Instance(self.global(b"numpy", scalar.as_bytes())?));
        }
        Ok(match first {
            Some(Tag::TupleWithGlobal(class)) if is_private_function(name) => Tag::Instance(class),
            _ => instance(callee),
        })
    }

    /// Stores the name of a class or function, as it is called today, and returns its index in `globals`.
    fn global(&mut self, module: &'a [u8], name: &'a [u8]) -> Result<u32, &'static str> {
        let (module, name) = match current_name(module, name, self.proto) {
            (b"exceptions", name) if self.proto < 3 => (&b"builtins"[..], name),
            named => named,
        };
        self.globals.try_reserve(1).map_err(|_| NO_MEMORY)?;
        self.globals.push(GlobalName { module, name });
        u32::try_from(self.globals.len() - 1).map_err(|_| "too many names")
    }

    /// Returns the text of a str.
    fn text(&self, tag: Tag) -> Result<&'a [u8], &'static str> {
        let Tag::Str(at) = tag else {
            return Err("STACK_GLOBAL without names");
        };
        match OpReader::starting_at(self.data, at as usize).next_op() {
            Ok(Op::Str(text)) => Ok(text),
            _ => Err("STACK_GLOBAL without names"),
        }
    }

    /// Returns the name of an item's type.
    fn describe(&self, tag: Tag) -> String {
        match tag {
            Tag::Builtin(plain) => plain.name().to_owned(),
            Tag::Str(_) => BuiltinType::Str.name().to_owned(),
            Tag::TupleWithGlobal(_) | Tag::TupleWithStr(_) | Tag::TupleWithDtype(_) => {
                BuiltinType::Tuple.name().to_owned()
            }
            Tag::Dtype(_) => "numpy.dtype".to_owned(),
            Tag::ArrayMethod => "getattr".to_owned(),
            Tag::Instance(index) => {
                let GlobalName { module, name } = self.globals[index as usize];
                match module {
                    b"builtins" => printable(name),
                    _ => dotted(module, name),
                }
            }
            // The value is the class or function itself. It is shown with its module, so that `builtins.int` does not
            // look like an int.
            Tag::Global(index) => {
                let GlobalName { module, name } = self.globals[index as usize];
                dotted(module, name)
            }
        }
    }
}

/// Returns the name that numpy 2 gives to the scalars of a dtype.
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

/// Returns the tag of an instance of a class.
fn instance(class: Tag) -> Tag {
    match class {
        Tag::Global(index) => Tag::Instance(index),
        _ => Tag::Builtin(BuiltinType::Unknown),
    }
}

/// Returns `true` for the name of a private function, such as `_reconstructor`. Such a function makes an instance of
/// the first class among its arguments. A class that is called with a class (`defaultdict(list)`) does not.
fn is_private_function(name: &[u8]) -> bool {
    let last = name.rsplit(|&b| b == b'.').next().unwrap_or(name);
    matches!(last, [b'_', b'_' | b'a'..=b'z', ..])
}

/// Returns the name that a class or function has today. Protocols below 3 have the names of Python 2, and Python 3.13
/// wrote the name of a module within `pathlib`.
pub(crate) fn current_name<'a>(module: &'a [u8], name: &'a [u8], proto: u8) -> (&'a [u8], &'a [u8]) {
    match (module, name) {
        (b"__builtin__", b"xrange") if proto < 3 => (b"builtins", b"range"),
        (b"__builtin__", _) if proto < 3 => (b"builtins", name),
        (b"copy_reg", _) if proto < 3 => (b"copyreg", name),
        (b"pathlib._local", _) => (b"pathlib", name),
        _ => (module, name),
    }
}

/// Returns `module.name`, short and printable whatever the bytes are.
pub(crate) fn dotted(module: &[u8], name: &[u8]) -> String {
    format!("{}.{}", printable(module), printable(name))
}

/// Returns a name, cut to [`MAX_NAME`] bytes, in which `?` stands for each character that controls a terminal, that
/// cannot be seen, or that turns the direction of the text around it.
fn printable(name: &[u8]) -> String {
    let short = &name[..name.len().min(MAX_NAME)];
    let shown = |c: char| if is_printable(c) { c } else { '?' };
    String::from_utf8_lossy(short).chars().map(shown).collect()
}

/// Whether a character is shown as itself. The standard library has no such question, but its `Debug` escapes what is
/// not; alone or first in a text also what combines with the character before, which names in many scripts need.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    ['a', c].iter().collect::<String>().escape_debug().count() == 2
}

#[cfg(test)]
#[path = "kind_tests.rs"]
mod tests;
