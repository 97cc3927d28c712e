//! Attaching to a key: opening, or creating.

use crate::coordination::above::Above;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::os::object;
use crate::process::wait_policy::WaitPolicy;
use crate::process::writer::set_above;
use crate::segment::attached::Attached;
use crate::segment::create::create;
use crate::segment::open::{open, open_patiently};
use crate::segment::options::Options;
use crate::segment::refusals::{refused, with_remedy};
use rustix::io::Errno;

/// Tries at a key that others create and destroy meanwhile.
const TRIES: u32 = 1000;

/// Attaches. See [`Options`].
pub fn attach(key: &Key, options: &Options, policy: &dyn WaitPolicy) -> Result<Attached> {
    set_above(&Above);
    options.check()?;
    let name = key.object_name();
    let none = || Error::NotFound(format!("no segment of key {key} ({}/{name})", object::DIR));
    for _ in 0..TRIES {
        match open_patiently(&name, !options.readonly, policy)? {
            Ok(fd) => {
                if options.create == Some(true) {
                    return Err(Error::Exists(format!(
                        "key {key}: a segment, or a file of its name, is there already ({}/{name})",
                        object::DIR
                    )));
                }
                let opened = open(key, &name, fd, options, policy);
                if let Some(attached) = opened.map_err(|error| with_remedy(error, key, &name))? {
                    return Ok(attached);
                }
            }
            Err(Errno::NOENT) if options.create == Some(false) || options.readonly || options.id.is_some() => {
                object::directory()?;
                return Err(none());
            }
            Err(Errno::NOENT) => {
                if let Some(attached) = create(key, &name, options, policy)? {
                    return Ok(attached);
                }
            }
            Err(error) => return Err(refused(key, &name, error)),
        }
        policy.interrupted()?;
    }
    Err(Error::Busy(format!("key {key}: it is created and destroyed faster than it can be opened: try again")))
}
