//! The identity of a segment: its first bytes, which say what the segment is. They are written once, at creation.
//!
//! An opener reads them before it maps the object, and parses them as hostile input: anything may lie at the name of a
//! key. The bytes are described in "Identity" in `docs/format.md`; the protocol is "Opening" in `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::format::geometry::{Geometry, fingerprint};
use crate::format::numbers::{BYTE_ORDER, FORMAT, IDENTITY_LEN, MAGIC, ZONE};
use crate::hash;
use crate::key::{KEY_MAX, Key};

/// The start of the name of a second object that carries the lock bytes.
pub const LOCK_OBJECT_PREFIX: &str = "shmvar-lock.";
/// File offset of the creation id. It is the same in every version of the format.
pub const ID_AT: u64 = 24;
/// Seed of the identity's checksum. It is public: the checksum detects damage, not forgery.
pub const CHECK_KEY: [u64; 2] = [0x7368_6D76_6172_0001, 0x6964_656E_7469_7479];

/// Private to the process: what a segment says of itself, after it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The creation id: 128 random bits.
    pub id: [u8; 16],
    /// Time of creation, in nanoseconds since 1970.
    pub created_at: u64,
    /// Where everything is in the segment.
    pub geometry: Geometry,
    /// The key that the hashes of indexes and names are mixed with.
    pub hash_key: [u64; 2],
    /// Inode of the second object that carries the lock bytes, or 0 if the segment carries them itself.
    pub lock_object: u64,
    /// The key of the segment.
    pub key: Key,
}

/// The first bytes of an object, as the kernel returned them: nothing in them is trusted yet.
pub struct Unverified<'a>(&'a [u8]);

impl<'a> Unverified<'a> {
    /// Wraps what was read from the start of an object. The bytes may be fewer than an identity has.
    pub fn new(bytes: &'a [u8]) -> Self {
        Unverified(bytes)
    }

    /// Copies `N` bytes from an offset. The caller has checked the length.
    fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.0[offset..offset + N].try_into().expect("within the identity")
    }

    /// Reads a number of 8 bytes from an offset. The caller has checked the length.
    fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }

    /// Returns `true` if the checksum matches once the magic number is repaired: then this was a segment, and the magic
    /// number alone was damaged.
    fn is_segment_with_damaged_magic(&self) -> bool {
        let Some(identity) = self.0.get(..IDENTITY_LEN) else { return false };
        let mut bytes: [u8; IDENTITY_LEN] = identity.try_into().expect("the length was checked");
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        self.u64(240) == hash::of_bytes(CHECK_KEY, &bytes[..240])
    }

    /// Verifies the bytes and returns the identity. `name` is the object's name, for error texts; `size` is the
    /// object's length in bytes.
    ///
    /// # Errors
    /// [`Error::Incompatible`] if the object is no segment, or one of another format, byte order or layout;
    /// [`Error::Corrupt`] if it is a segment of this format whose identity is damaged.
    pub fn finalize(self, name: &str, size: u64) -> Result<Identity> {
        let foreign = |text: String| Err(Error::Incompatible(format!("{name}: {text}; nothing was written to it")));
        // The object may be anything: shorter than an identity, or a file of another program.
        if self.0.len() < IDENTITY_LEN || self.bytes(0) != MAGIC {
            let start = &self.0[..self.0.len().min(8)];
            if start == MAGIC {
                return Err(Error::corrupt(format_args!("{name} was cut to {} bytes", size)));
            }
            if self.is_segment_with_damaged_magic() {
                return Err(Error::corrupt(format_args!(
                    "{name}, identity: it begins with {start:02x?}, expected {MAGIC:02x?}"
                )));
            }
            return foreign(format!("not a shmvar segment ({} bytes, begins with {start:02x?})", size));
        }
        // These fields were fixed at creation, possibly by another build of this package.
        let format = u32::from_le_bytes(self.bytes(8));
        let order = u32::from_le_bytes(self.bytes(12));
        if order != BYTE_ORDER {
            return foreign(format!("byte order mark {order:#010x}, this machine's is {BYTE_ORDER:#010x}"));
        }
        if format != FORMAT {
            return foreign(format!("format version {format}, this package reads version {FORMAT}"));
        }
        let (stored, expected) = (self.u64(16), fingerprint());
        if stored != expected {
            return foreign(format!("layout {stored:#018x}, this package's is {expected:#018x}"));
        }
        // A build with this very layout wrote everything below, so a field that does not fit is damage.
        let damaged = |text: &str| Err(Error::corrupt(format_args!("{name}, identity: {text}")));
        if self.u64(240) != hash::of_bytes(CHECK_KEY, &self.0[..240]) {
            return damaged("its check does not match");
        }
        let Some(geometry) = Geometry::new(self.u64(56)) else { return damaged("number of granules") };
        if geometry.length != self.u64(48) {
            return damaged(&format!("length {}, expected {}", self.u64(48), geometry.length));
        }
        let least = geometry.granule_at(ZONE);
        if size < least {
            return damaged(&format!("the object has {} bytes, expected at least {least}", size));
        }
        let key = match self.u64(88) {
            0 => Key::Int(self.u64(96) as i64),
            1 => {
                let len = self.u64(104) as usize;
                let text = (1..=KEY_MAX).contains(&len).then(|| std::str::from_utf8(&self.0[112..112 + len]));
                let Some(Ok(text)) = text else { return damaged("key") };
                Key::Text(text.into())
            }
            _ => return damaged("kind of key"),
        };
        Ok(Identity {
            id: self.bytes(24),
            created_at: self.u64(40),
            geometry,
            hash_key: [self.u64(64), self.u64(72)],
            lock_object: self.u64(80),
            key,
        })
    }
}

impl Identity {
    /// Returns the identity as the bytes that `docs/format.md` states.
    pub fn to_bytes(&self) -> [u8; IDENTITY_LEN] {
        let mut bytes = [0; IDENTITY_LEN];
        let mut put = |offset: usize, part: &[u8]| bytes[offset..offset + part.len()].copy_from_slice(part);
        put(0, &MAGIC);
        put(8, &FORMAT.to_le_bytes());
        put(12, &BYTE_ORDER.to_le_bytes());
        put(16, &fingerprint().to_le_bytes());
        put(24, &self.id);
        let numbers = [self.created_at, self.geometry.length, self.geometry.granules];
        let numbers = numbers.iter().chain(&self.hash_key).chain([&self.lock_object]);
        for (i, number) in numbers.enumerate() {
            put(40 + i * 8, &number.to_le_bytes());
        }
        match &self.key {
            Key::Int(number) => put(96, &number.to_le_bytes()),
            Key::Text(text) => {
                put(88, &1_u64.to_le_bytes());
                put(104, &(text.len() as u64).to_le_bytes());
                put(112, text.as_bytes());
            }
        }
        let check = hash::of_bytes(CHECK_KEY, &bytes[..240]);
        bytes[240..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Returns the name that the second object with the lock bytes has in the segment with this creation id.
    pub fn lock_object_name(id: &[u8; 16]) -> String {
        format!("{LOCK_OBJECT_PREFIX}{:032x}", u128::from_be_bytes(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> (Identity, u64) {
        let geometry = Geometry::new(1 << 22).unwrap();
        let key = Key::Text("état".into());
        let (id, hash_key) = ([7; 16], [1, 2]);
        let size = geometry.length;
        (Identity { id, created_at: 9, geometry, hash_key, lock_object: 5, key }, size)
    }

    #[test]
    fn an_identity_round_trips() {
        let (identity, size) = identity();
        assert_eq!(Unverified::new(&identity.to_bytes()).finalize("x", size).unwrap(), identity);
        let int = Identity { key: Key::Int(-5), lock_object: 0, ..identity };
        assert_eq!(Unverified::new(&int.to_bytes()).finalize("x", size).unwrap(), int);
    }

    #[test]
    fn f28_any_changed_byte_of_the_identity_is_a_typed_error() {
        let (identity, size) = identity();
        let bytes = identity.to_bytes();
        for at in (0..bytes.len()).step_by(if cfg!(miri) { 37 } else { 1 }) {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = bytes;
                bytes[at] ^= flip;
                let result = Unverified::new(&bytes).finalize("x", size);
                assert!(matches!(result, Err(Error::Corrupt(_) | Error::Incompatible(_))), "byte {at}");
            }
        }
        // The bytes begin with the magic number, so this was a segment that was cut short.
        assert!(matches!(Unverified::new(&bytes[..200]).finalize("x", size), Err(Error::Corrupt(_))));
        assert!(matches!(Unverified::new(&bytes[..7]).finalize("x", size), Err(Error::Incompatible(_))));
        assert!(matches!(Unverified::new(&bytes).finalize("x", 4096), Err(Error::Corrupt(_))));
    }

    #[test]
    fn f33_another_version_or_byte_order_names_both() {
        let (identity, size) = identity();
        for (at, expect) in [(8, "version 9"), (12, "byte order")] {
            let mut bytes = identity.to_bytes();
            bytes[at] = 9;
            let text = Unverified::new(&bytes).finalize("x", size).unwrap_err().to_string();
            assert!(text.contains(expect), "{text}");
        }
    }
}
