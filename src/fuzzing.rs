//! Access to private functions for the fuzz targets in `fuzz/`. It exists only under `cfg(fuzzing)`, never in a build
//! of the crate.

use crate::format::IDENTITY_LEN;
use crate::format::identity::{CHECK_KEY, Unverified};

/// Parses an identity as `attach` does. An identity that is accepted must be the same after it was written and parsed
/// again. With `sign`, the checksum is made to match first, so that the other checks are reached.
pub fn identity(bytes: &[u8], size: u64, sign: bool) {
    let mut bytes = bytes.to_vec();
    if sign && bytes.len() >= IDENTITY_LEN {
        let check = crate::hash::of_bytes(CHECK_KEY, &bytes[..240]);
        bytes[240..248].copy_from_slice(&check.to_le_bytes());
    }
    let Ok(parsed) = Unverified::new(&bytes).finalize("fuzzed", size) else { return };
    let again = Unverified::new(&parsed.to_bytes()).finalize("again", size).expect("the identity was accepted");
    assert_eq!(parsed, again);
    parsed.key.object_name();
}
