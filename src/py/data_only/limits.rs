//! What the decoding of one untrusted value may cost at most.
//!
//! Only the numbers: [`super::budget`] counts what was spent.

/// Bounds on one decoding. With the defaults, of what CPython's pickler makes of plain values only this is refused:
/// nesting beyond `depth` or `deques`, ints beyond `int_bytes`, keys beyond `key_depth` or `key_weight`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Containers inside each other.
    pub depth: u32,
    /// Deques inside each other: freeing them recurses in C without a check of its own, some 100 bytes of stack each.
    pub deques: u32,
    /// The same for dict keys and set members: hashing recurses in C without a check of its own.
    pub key_depth: u32,
    /// Steps to hash or compare one key: 1 for each value in it, and 1 more for each 64 bytes of text. A tuple of shared
    /// tuples can take 2^n of them, since tuples do not remember their hash. A str of 10,000 steps has 640,000 bytes.
    pub key_weight: u32,
    /// Length of one int. 65,536 bytes are some 157,000 decimal digits. Those that go into a Fraction or range, or stand
    /// beside a Decimal or Fraction, have 2,048 at most.
    pub int_bytes: usize,
    /// Opcodes in one pickle.
    pub opcodes: u64,
    /// Bytes of Python objects built: this much, and so much more for each byte of the pickle. An empty set takes 232
    /// bytes from 2, an empty deque 784 from 5; nothing that CPython writes grows more.
    pub memory_base: u64,
    /// See `memory_base`.
    pub memory_per_byte: u64,
    /// Processor time of this thread. It is what bounds collisions: ints and tuples hash without a secret, so n chosen
    /// keys can make a dict take n² steps. Honest values take some 0.05 µs a byte.
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

/// Wider ints count as such, in bytes.
pub(super) const WIDE_INT: usize = 2_048;
