//! Mapping more of the segment's object. The object is made longer as zones come into use, and never shorter. A process
//! maps what there is when it attaches, and more when it meets something behind the end of its map. Making the object
//! longer stands in `lengthen.rs`. The protocol is "Length" in `docs/protocol.md`.

use crate::error::Result;
use crate::fallible;
use crate::format::Geometry;
use crate::os::fork::ForkMutex;
use crate::os::map::Mapping;
use crate::os::mem::MapExtender;
use crate::os::object::Status;
use crate::process::descriptor::Descriptor;
use std::sync::Arc;

/// Private to the process: its maps of the segment's object, and what it takes to make a longer one. A map stays as
/// long as the attachment, because Python objects and calls of other threads have addresses in it.
pub struct Extent {
    /// The name of the segment's object.
    pub name: String,
    /// What the system said of the segment's object when it was opened.
    pub status: Status,
    /// Whether the maps are for writing.
    pub write: bool,
    /// Where everything lies in the segment.
    pub geometry: Geometry,
    /// A descriptor of the segment's object.
    pub file: Arc<Descriptor>,
    /// The map that was made when the process attached.
    pub first: Arc<Mapping>,
    /// The maps made since, each longer than the one before.
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
            // The last map is made longer in place if the addresses behind it are free: then they are used only once.
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
