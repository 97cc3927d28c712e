//! The bytes of a segment, as `docs/format.md` states them.
//!
//! This floor knows sizes, offsets and how fields are packed into words. It does not know how bytes are reached, who
//! may store them, or in which order: it makes no system call and runs no protocol. It offers the structs of `layout`,
//! packed words ([`SpanEntry`], [`Root`], [`LeafWord`]), [`Geometry`] (where everything is) and `Identity` (what a
//! segment says of itself).
//!
//! | file | what is in it |
//! | --- | --- |
//! | `numbers` | the numbers of the format: sizes, limits and the offsets of the fixed part |
//! | `layout` | the structs in shared memory |
//! | `zeroed` | these structs, all zeros, for models and tests |
//! | `span_entry` | an entry of the span map: what a run of granules is used for |
//! | `size_class` | the block sizes of slabs |
//! | `span_lead` | where a record begins within its span |
//! | `root` | the words that lead to a slot: the root of a table, and the words of its directory |
//! | `slot_flags` | the flags in the tag of a slot |
//! | `eviction` | what a segment evicts where there is no room |
//! | `geometry` | where everything is in a segment, computed from the number of granules alone; the layout's fingerprint |
//! | `identity` | the first bytes of a segment, parsed as hostile input |

pub mod eviction;
pub mod geometry;
#[cfg(not(loom))]
pub mod identity;
#[allow(unsafe_code, reason = "marker impls")]
pub mod layout;
pub mod numbers;
pub mod root;
pub mod size_class;
pub mod slot_flags;
pub mod span_entry;
pub mod span_lead;
#[cfg(any(loom, test))]
mod zeroed;

pub use crate::format::eviction::Eviction;
pub use crate::format::geometry::{Geometry, fingerprint};
pub use crate::format::layout::*;
pub use crate::format::numbers::*;
pub use crate::format::root::{DEPTH_MAX, LEAF_MAX, LeafWord, Root, SLOT, SLOTS_OF_GRANULE};
pub use crate::format::size_class::{
    CLASSES, RECORD_MAX, SLAB_HEAD, blocks_of, class_of, slab_granules, slab_has_all_pages,
};
pub use crate::format::span_entry::{GRANULE, SpanEntry, SpanState};
pub use crate::format::span_lead::lead;
