//! Reads what an object says of itself, and decides whether it is a segment. Everything is read by calls: nothing is
//! mapped before it is believed. Protocol: docs/protocol.md, "Opening", steps 1 to 3. Mapping is in `open`, the parsing
//! of the identity's bytes in `format/identity.rs`.

use crate::error::{Error, Result};
use crate::format::identity::{Identity, Unverified};
use crate::format::{IDENTITY_LEN, State, at};
use crate::key::Key;
use crate::os::object::{self, Status};
use crate::segment::open_errors::not_regular;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::ffi::OsStr;

/// Where the word `gone` of the state is in the object.
pub const GONE_AT: u64 = at::STATE + std::mem::offset_of!(State, gone) as u64;

/// Reads and verifies the identity of an open object; if a key is given, the segment must have that key. `None` if the
/// object has lost its name: it was destroyed meanwhile.
pub fn identify(key: Option<&Key>, name: &str, fd: &OwnedFd) -> Result<Option<(Identity, Status)>> {
    let status = object::status(fd).map_err(|e| Error::system("fstat", e))?;
    if !status.regular {
        return Err(not_regular(name, "no regular file", "rm"));
    }
    // More names than one do no harm: owner, mode and key are asked of the object itself.
    if status.nlink == 0 {
        return Ok(None);
    }
    let mut bytes = [0; IDENTITY_LEN];
    let len = object::read_at(fd, &mut bytes, 0).map_err(|e| Error::system("reading the identity", e))?;
    let identity = Unverified::new(&bytes[..len]).finalize(name, status.size)?;
    if key.is_some_and(|key| *key != identity.key) {
        let (key, found) = (key.expect("just asked"), &identity.key);
        return Err(Error::Incompatible(format!("{}/{name} says its key is {found}, not {key}", object::DIR)));
    }
    let mut gone = [0; 4];
    object::read_at(fd, &mut gone, GONE_AT).map_err(|e| Error::system("reading the segment", e))?;
    if gone != [0; 4] {
        return match object::status_of(name) {
            Ok(now) if now.is_same_object(&status) => Err(Error::corrupt(format_args!(
                "{name} says that it was destroyed, and has its name: somebody who had another name for it gave it this one \
                 again, or changed its bytes"
            ))),
            _ => Ok(None),
        };
    }
    Ok(Some((identity, status)))
}

/// Opens the object at a name of ours for reading, and verifies its identity. `None` if it vanished meanwhile.
pub fn identify_by_name(name: &OsStr) -> Result<Option<(OwnedFd, Identity, Status)>> {
    let fd = match object::open(name, false) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ACCESS | Errno::PERM) => return Err(Error::Access("this user may not read it".into())),
        Err(Errno::AGAIN) => return Err(Error::Busy("a process has a lease on it (fcntl F_SETLEASE)".into())),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV) => {
            return Err(Error::Incompatible("it is no regular file".into()));
        }
        Err(error) => return Err(Error::system(format!("opening {}/{}", object::DIR, name.to_string_lossy()), error)),
    };
    let Some(text) = name.to_str() else {
        return Err(Error::Incompatible("its name is no valid text, so it belongs to no key".into()));
    };
    let Some((identity, status)) = identify(None, text, &fd)? else { return Ok(None) };
    if identity.key.object_name() != text {
        let (key, right) = (&identity.key, identity.key.object_name());
        return Err(Error::Incompatible(format!("it says that its key is {key}, whose name would be {right}")));
    }
    Ok(Some((fd, identity, status)))
}

/// Does an error say that this process cannot look at any object, for want of a descriptor or of memory? Then it says
/// nothing of the object.
pub fn concerns_this_process(error: &Error) -> bool {
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(|errno| Some(errno.raw_os_error()));
    matches!(error, Error::System { source, .. } if lacking.contains(&source.raw_os_error()))
}
