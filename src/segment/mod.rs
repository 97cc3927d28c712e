//! A handle on a segment: the crate's public interface, and what concerns a segment as a whole. From the top down:
//!
//! * `value_ops`: single variables: put, get, remove
//! * `atomic_ops`: what processes do together: versions, counters, waiting, named locks, several variables at once
//! * `queue_ops`: queues
//! * `dump`, `load`: everything to a stream, as of one instant, and back; `dump_reader`: what a dump says, when it is read
//! * `shared_bytes`: bytes that processes change where they lie
//! * `pinned_value`: a pinned value, for the tests of recovery
//! * `repair`: repairing on request; removing stale objects
//! * `handle`: `Segment` itself: attaching, detaching, the segment as a whole
//! * `attach`: attaching to a key: opening or creating, until one of them succeeds
//! * `create`: making a segment and publishing it
//! * `sizes`: how large a new segment is
//! * `initialise`: the first contents of a new segment
//! * `open`: mapping a segment that exists
//! * `attached`: what both give, and giving it back
//! * `limit`: changing the limit
//! * `unlink`: destroying, by key or by handle
//! * `orphan`: lock objects that no segment names
//! * `info`: a segment and a variable, in numbers; the list of all segments
//! * `activity`: what goes on at this moment, for displays: nothing in it waits
//! * `inspect`: every object under our names, for `doctor`
//! * `check/`: the self-check of every invariant
//! * `identify`: reading what an object says of itself, before it is believed
//! * `state_snapshot`: the state of a segment that is not mapped
//! * `trust`: who could have written to a segment
//! * `open_errors`: what it means that the system does not open an object, and what can be done
//! * `options`: how to attach
//! * `batch_tests`, `changes_tests`: tests of batches and of changes in what only the crate itself can arrange

mod activity;
mod atomic_ops;
mod attach;
mod attached;
#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod changes_tests;
mod check;
mod create;
mod dump;
mod dump_reader;
mod handle;
mod identify;
mod info;
mod initialise;
#[cfg(feature = "python")]
mod inspect;
mod limit;
mod load;
mod open;
mod open_errors;
mod options;
mod orphan;
#[cfg(feature = "crash-points")]
mod pinned_value;
mod queue_ops;
#[cfg(feature = "python")]
mod repair;
mod shared_bytes;
mod sizes;
mod state_snapshot;
mod trust;
mod unlink;
mod value_ops;

pub use crate::segment::activity::{Activity, AttachedProcess};
pub use crate::segment::atomic_ops::LockGuard;
pub use crate::segment::check::Report;
pub use crate::segment::dump_reader::{DumpError, DumpPlan, DumpReader, DumpValue};
pub use crate::segment::handle::Segment;
pub use crate::segment::info::{SegmentInfo, Standing, VariableInfo, segments};
#[cfg(feature = "python")]
pub use crate::segment::inspect::{ObjectKind, ObjectReport, SegmentReport, inspect};
pub use crate::segment::load::ItemPart;
pub use crate::segment::options::Options;
#[cfg(feature = "crash-points")]
pub use crate::segment::pinned_value::PinnedValue;
pub use crate::segment::queue_ops::TakenBytes;
#[cfg(feature = "python")]
pub use crate::segment::repair::remove_stale;
pub use crate::segment::shared_bytes::SharedBytes;
#[cfg(feature = "python")]
pub use crate::segment::unlink::destroy_with;
pub use crate::segment::unlink::{destroy, exists};
