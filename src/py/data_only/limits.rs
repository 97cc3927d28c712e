//! The most that decoding one value may cost. These are only the numbers; `budget` counts what was spent.

/// The limits of one decoding, one in each field. With the defaults, all plain values that CPython's pickler writes are
/// accepted, except for: containers nested beyond `depth` or `deques`, ints beyond `int_bytes`, keys beyond `key_depth`
/// or `key_weight`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Number of containers inside each other.
    pub depth: u32,
    /// Number of deques inside each other. CPython frees them by recursion in C without a check, some 100 bytes of
    /// stack each.
    pub deques: u32,
    /// Number of containers inside each other in a dict key or set member. CPython hashes by recursion in C without a
    /// check.
    pub key_depth: u32,
    /// Steps to hash or compare one key: 1 for each value in it, and 1 more for each 64 bytes of text. A tuple of
    /// shared tuples can take 2^n steps, because tuples do not remember their hash. A str of 10,000 steps has 640,000
    /// bytes.
    pub key_weight: u32,
    /// Bytes of one int. 65,536 bytes are some 157,000 decimal digits. An int in a Fraction or range, or in a value
    /// that also has a Decimal or Fraction, has 2,048 bytes at most ([`WIDE_INT`]).
    pub int_bytes: usize,
    /// Opcodes in one pickle.
    pub opcodes: u64,
    /// Bytes of Python objects that are built: this many, and `memory_per_byte` more for each byte of the pickle. An
    /// empty set takes 232 bytes from 2, an empty deque 784 from 5; nothing else that CPython writes grows as much.
    pub memory_base: u64,
    /// See `memory_base`.
    pub memory_per_byte: u64,
    /// Processor time of this thread, in nanoseconds: this much, and `cpu_ns_per_byte` more for each byte of the
    /// pickle. This is the bound on hash collisions: ints and tuples hash without a secret, so n chosen keys can make a
    /// dict take n² steps. Honest values take some 0.05 µs for each byte.
    pub cpu_base_ns: u64,
    /// See `cpu_base_ns`.
    pub cpu_ns_per_byte: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            depth: 20_000,
            deques: 2_000,
            key_depth: 200,
            key_weight: 10_000,
            int_bytes: 65_536,
            opcodes: 1 << 32,
            memory_base: 16 << 20,
            memory_per_byte: 160,
            cpu_base_ns: 2_000_000_000,
            cpu_ns_per_byte: 1_000,
        }
    }
}

impl Limits {
    /// The limits for a value that is only looked at, one of many: some milliseconds, whatever it is.
    pub fn of_preview() -> Self {
        Limits { cpu_base_ns: 5_000_000, cpu_ns_per_byte: 200, memory_base: 1 << 20, ..Limits::default() }
    }
}

/// An int of more bytes is not combined with values that calculate with it in quadratic time.
pub(super) const WIDE_INT: usize = 2_048;
