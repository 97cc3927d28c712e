//! [`Registration`]: what a process remembers of itself as a participant of a segment. This file has the state alone;
//! what is done with it stands in `claim_number.rs`, `release_number.rs`, `fork_child.rs` and `call_guard.rs`. The
//! protocol is "The registry lock" in `docs/protocol.md`.

use crate::os::bytelock::Anchor;
use crate::os::description::MarkedFd;
use crate::os::fork::ForkMutex;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Private to the process: what the handler that runs before a fork prepares for the child.
#[derive(Default)]
pub struct PreparedChild {
    /// Two descriptions of the lock object that will be the child's own: one for its anchor, one for its questions.
    pub fds: Option<(MarkedFd, MarkedFd)>,
    /// The pid of the process that the descriptions are meant for. That process's own children must not use them.
    pub pid: u32,
    /// The number that was claimed for the child already, because it inherits objects over pinned memory.
    pub number: Option<u32>,
    /// Whether the mutex of the pins is held across the fork, so that no pin comes or goes meanwhile.
    pub holds_pins: bool,
}

/// Private to the process: the process as a participant of a segment.
#[derive(Default)]
pub struct Registration {
    /// `epoch << 32 | participant number + 1`, or 0 while this process has no number.
    pub registered: AtomicU64,
    /// `epoch << 32 |` number of calls under way that may use the participant number.
    pub active: AtomicU64,
    /// Keeps the byte of this process's number locked.
    pub anchor: ForkMutex<Option<Anchor>>,
    /// What is prepared for the next child that is forked.
    pub child: ForkMutex<PreparedChild>,
    /// The participant number at which the next look for dead participants begins.
    pub next_look: AtomicU32,
    /// No number could be claimed: the next attempt is not made before this time, in milliseconds of
    /// `os::monotonic_ms`.
    pub not_before: AtomicU64,
    /// Number of handles that are not detached.
    pub handles: AtomicU64,
}
