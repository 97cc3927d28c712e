//! Attaching to a key: opens what is at its name, or creates it, until one of the two succeeds. How each is done is in
//! `open` and `create`. Protocol: docs/protocol.md, "Opening".

use crate::coordination::above::Above;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::os::object;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::set_above;
use crate::segment::attached::AttachedSegment;
use crate::segment::create::create;
use crate::segment::open::{open, open_object};
use crate::segment::open_errors::{exists_already, open_error, with_remedy};
use crate::segment::options::Options;
use rustix::io::Errno;

/// How often an attach begins again because others create and destroy the segment meanwhile.
const TRIES: u32 = 1000;

/// Attaches to the segment of a key. [`Options`] say how.
pub fn attach(key: &Key, options: &Options, policy: &dyn WaitPolicy) -> Result<AttachedSegment> {
    set_above(&Above);
    options.check()?;
    let name = key.object_name();
    for _ in 0..TRIES {
        match open_object(&name, !options.readonly, policy)? {
            Ok(_) if options.create == Some(true) => return Err(exists_already(key, &name)),
            Ok(fd) => {
                let opened = open(key, &name, fd, options, policy);
                if let Some(attached) = opened.map_err(|error| with_remedy(error, key, &name))? {
                    return Ok(attached);
                }
            }
            Err(Errno::NOENT) if options.create == Some(false) || options.readonly || options.id.is_some() => {
                object::directory()?;
                return Err(Error::NotFound(format!("no segment of key {key} ({}/{name})", object::DIR)));
            }
            Err(Errno::NOENT) => {
                if let Some(attached) = create(key, &name, options, policy)? {
                    return Ok(attached);
                }
            }
            Err(error) => return Err(open_error(key, &name, error)),
        }
        policy.interrupted()?;
    }
    Err(Error::Busy(format!("key {key}: it is created and destroyed faster than it can be opened: try again")))
}
