//! How long the object is, and how much of it is mapped. It is made longer as zones come into use, and never shorter; a
//! process maps what there is when it attaches, and more when it meets something behind that.

use crate::error::Result;
use crate::fallible;
use crate::format::Geometry;
use crate::os::fork::ForkMutex;
use crate::os::map::Mapping;
use crate::os::mem::MapExtender;
use crate::os::object::Status;
use crate::process::descriptor::Descriptor;
use std::sync::Arc;

/// Maps longer than the first. They stay: objects, and calls of other threads, have addresses in each.
pub struct Extent {
    pub name: String,
    pub status: Status,
    pub write: bool,
    pub geometry: Geometry,
    pub file: Arc<Descriptor>,
    /// Whoever attached made it.
    pub first: Arc<Mapping>,
    /// Those made since, each longer than the one before.
    pub maps: ForkMutex<Vec<Mapping>>,
}

impl MapExtender for Extent {
    fn extend(&self, least: u64, publish: &mut dyn FnMut(*mut u8, u64)) -> Result<bool> {
        let mut maps = self.maps.lock();
        if maps.last().map_or(self.first.len(), Mapping::len) >= least {
            return Ok(true);
        }
        fallible::reserve(&mut maps, 1, "a list of maps")?;
        let mapped = self.file.with(&self.name, &self.status, self.first.descriptor(), self.write, |fd, found| {
            let length = found.size.min(self.geometry.length);
            if length < least {
                return Ok(None);
            }
            // Where the last map is, if what lies behind it is free: so the addresses are taken once.
            let last = maps.last().unwrap_or(&self.first);
            if last.extend_in_place(length) || last.extend_in_place(least) {
                return Ok(Some(None));
            }
            Mapping::new_or_shorter(fd, length, least, self.write).map(|map| Some(Some(map)))
        })?;
        match mapped? {
            None => return Ok(false),
            Some(map) => maps.extend(map),
        }
        let map = maps.last().unwrap_or(&self.first);
        publish(map.ptr(), map.len());
        Ok(true)
    }
}
