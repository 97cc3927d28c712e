//! Doors to what is private, for the fuzz targets (`fuzz/`): `cfg(fuzzing)` only, never in a build of the crate.

use crate::format::IDENTITY_LEN;
use crate::format::identity::{CHECK_KEY, Unverified};

/// Parses an identity as `attach` does; what is believed comes out the same when it is written and parsed again.
pub fn identity(bytes: &[u8], size: u64, sign: bool) {
    let mut bytes = bytes.to_vec();
    if sign && bytes.len() >= IDENTITY_LEN {
        let check = crate::hash::of_bytes(CHECK_KEY, &bytes[..240]);
        bytes[240..248].copy_from_slice(&check.to_le_bytes());
    }
    let Ok(parsed) = Unverified::new(&bytes).finalize("fuzzed", size) else { return };
    let again = Unverified::new(&parsed.to_bytes()).finalize("again", size).expect("what was believed");
    assert_eq!(parsed, again);
    parsed.key.object_name();
}
