//! Any bytes at the start of an object: an identity, or a typed error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte says whether its check is made right, the next eight the length of the object.
    let Some((&sign, rest)) = data.split_first() else { return };
    let Some((size, bytes)) = rest.split_first_chunk() else { return };
    shmvar::fuzzing::identity(bytes, u64::from_le_bytes(*size), sign & 1 == 1);
});
