//! This process's participant number of a segment, and what is kept with it.

use crate::os::bytelock::Anchor;
use crate::os::fork::ForkMutex;
use rustix::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// What a forked child was given by the handler that ran before the fork: two descriptions of the lock object that are
/// its own.
#[derive(Default)]
pub struct PreparedChild {
    /// For its anchor, then for its questions.
    pub fds: Option<(OwnedFd, OwnedFd)>,
    /// The process they are meant for: not its children.
    pub pid: u32,
    /// A number that was claimed for it already, because it inherits objects over pinned memory.
    pub number: Option<u32>,
    /// The pins stand still across the fork.
    pub holds_pins: bool,
}

/// This process as a participant of a segment.
#[derive(Default)]
pub struct Registration {
    /// `epoch << 32 | participant number + 1`, or 0 where this process has no number.
    pub member: AtomicU64,
    /// `epoch << 32 |` calls under way that may use the number.
    pub active: AtomicU64,
    /// Keeps the byte of this process's number locked.
    pub anchor: ForkMutex<Option<Anchor>>,
    /// For the next child that is forked.
    pub child: ForkMutex<PreparedChild>,
    /// Where the next look for dead participants begins.
    pub next_look: AtomicU32,
    /// No number was to be had: the next attempt is not made before this time, in milliseconds of `os::monotonic_ms`.
    pub not_before: AtomicU64,
    /// Handles that are not detached.
    pub handles: AtomicU64,
}
