//! Map.

mod atomic_ops;
mod attach;
mod attached;
mod check;
mod create;
mod handle;
mod identify;
mod info;
#[cfg(feature = "python")]
mod inspect;
mod limit;
mod open;
mod options;
mod orphan;
#[cfg(feature = "crash-points")]
mod pinned_value;
mod refusals;
#[cfg(feature = "python")]
mod repair;
mod state_snapshot;
mod trust;
mod unlink;
mod value_ops;

pub use crate::segment::atomic_ops::LockGuard;
#[cfg(feature = "python")]
pub use crate::segment::atomic_ops::expires_after;
pub use crate::segment::check::Report;
pub use crate::segment::handle::Segment;
pub use crate::segment::info::{SegmentInfo, Standing, VariableInfo, segments};
#[cfg(feature = "python")]
pub use crate::segment::inspect::{ObjectKind, ObjectReport, SegmentReport, inspect};
pub use crate::segment::options::Options;
#[cfg(feature = "crash-points")]
pub use crate::segment::pinned_value::PinnedValue;
#[cfg(feature = "python")]
pub use crate::segment::repair::remove_stale;
#[cfg(feature = "python")]
pub use crate::segment::unlink::destroy_with;
pub use crate::segment::unlink::{destroy, exists};
