//! What it means that an object at a segment's name cannot be opened or attached, and what the user can do about it.
//! Which objects are refused, and why, is in docs/protocol.md, "Opening".

use crate::error::Error;
use crate::key::Key;
use crate::os::object;
use crate::process::wait_policy::WAIT_LIMIT;
use rustix::io::Errno;

/// The error for a key that has an object already although the caller must create it.
pub fn exists_already(key: &Key, name: &str) -> Error {
    Error::Exists(format!("key {key}: a segment, or a file of its name, is there already ({}/{name})", object::DIR))
}

/// Adds to an error what can be done about an object at a segment's name that cannot be attached.
pub fn with_remedy(error: Error, key: &Key, name: &str) -> Error {
    let status = object::status_of(name);
    if status.as_ref().is_ok_and(|status| !status.regular) {
        // `destroy` does not remove it, and the error says already what does.
        return error;
    }
    let uid = status.map_or_else(|_| crate::os::euid(), |status| status.uid);
    let remedy = format!(
        "if nobody needs it any more, its owner (uid {uid}) or root can remove it: shmvar.destroy({key}), or `shmvar remove`"
    );
    match error {
        Error::Incompatible(text) => Error::Incompatible(format!("{text}; {remedy}")),
        Error::Corrupt(text) => Error::Corrupt(format!("{text}; {remedy}")),
        other => other,
    }
}

/// The error for an object that is not a regular file. It is not ours to remove, whoever asks.
pub fn not_regular(name: &str, what: &str, remove: &str) -> Error {
    let dir = object::DIR;
    Error::Incompatible(format!(
        "{dir}/{name} is {what}, not a segment; it was not touched; if nobody needs it: {remove} '{dir}/{name}'"
    ))
}

/// The error for what the system answered when it was asked to open the object of a key.
pub fn open_error(key: &Key, name: &str, error: Errno) -> Error {
    let status = object::status_of(name);
    match error {
        Errno::NOTDIR => object::directory().err().unwrap_or_else(|| Error::system(object::DIR, error)),
        Errno::LOOP => not_regular(name, "a symbolic link", "rm"),
        Errno::ISDIR => not_regular(name, "a directory", "rmdir"),
        Errno::NXIO | Errno::NODEV => not_regular(name, "a pipe, socket or device", "rm"),
        Errno::AGAIN => Error::Busy(format!(
            "key {key}: a process has a lease on {}/{name} (fcntl F_SETLEASE; lslocks shows its pid) and has not let go for \
             {} s: end it, or wait, for the kernel takes the lease away (fs.lease-break-time)",
            object::DIR,
            WAIT_LIMIT.as_secs()
        )),
        Errno::ROFS => Error::Access(format!(
            "key {key}: {} is mounted read-only: mount -o remount,rw {0}; or attach with readonly=True",
            object::DIR
        )),
        Errno::ACCESS | Errno::PERM => match status {
            Ok(s) => Error::Access(format!(
                "key {key}: permission denied; the segment {}/{name} belongs to uid {} with mode {:#o}, this process is uid {}",
                object::DIR,
                s.uid,
                s.mode,
                crate::os::euid()
            )),
            Err(_) => Error::Access(format!("key {key}: permission denied in {}", object::DIR)),
        },
        error => Error::system(format!("opening {}/{name}", object::DIR), error),
    }
}
