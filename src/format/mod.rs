//! The bytes of a segment, as `docs/format.md` states them, and nothing that uses them.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `layout` | the structs in shared memory, sizes and offsets |
//! | `span_entry` | an entry of the span map: what a run of granules is used for |
//! | `size_class` | the sizes of a slab's blocks |
//! | `root` | the words that name a table and its leaves |
//! | `slot_flags` | the flags of a slot's tag |
//! | `geometry` | where everything is, from the number of granules alone |
//! | `identity` | what a segment says of itself, parsed as if an enemy had written it |

pub mod geometry;
#[cfg(not(loom))]
pub mod identity;
#[allow(unsafe_code, reason = "marker impls")]
pub mod layout;
pub mod root;
pub mod size_class;
pub mod slot_flags;
pub mod span_entry;

pub use crate::format::geometry::{Geometry, fingerprint};
pub use crate::format::layout::*;
pub use crate::format::root::{DEPTH_MAX, LEAF_MAX, LeafWord, Root, SLOT, SLOTS_OF_GRANULE};
pub use crate::format::size_class::{
    CLASSES, RECORD_MAX, SLAB_HEAD, blocks_of, class_of, slab_granules, slab_is_whole,
};
pub use crate::format::span_entry::{GRANULE, SpanEntry, SpanState};
