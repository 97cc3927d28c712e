//! Doors to what is private, for the fuzz targets (`fuzz/`): `cfg(fuzzing)` only, never in a build of the crate.

use crate::identity::{CHECK_KEY, Unverified};
use crate::layout::IDENTITY_LEN;
use crate::os::object::Status;

/// Parses an identity as `attach` does; what is believed comes out the same when it is written and parsed again.
pub fn identity(bytes: &[u8], size: u64, sign: bool) {
    let mut bytes = bytes.to_vec();
    if sign && bytes.len() >= IDENTITY_LEN {
        let check = crate::hash::of_bytes(CHECK_KEY, &bytes[..240]);
        bytes[240..248].copy_from_slice(&check.to_le_bytes());
    }
    let status =
        Status { dev: 1, ino: 2, uid: 3, mode: 0o600, nlink: 1, size, resident: 0, regular: true, changed_at: 0 };
    let Ok(parsed) = Unverified::new(&bytes).finalize("fuzzed", &status) else { return };
    let again = Unverified::new(&parsed.to_bytes()).finalize("again", &status).expect("what was believed");
    assert_eq!(parsed, again);
    parsed.key.object_name();
}
