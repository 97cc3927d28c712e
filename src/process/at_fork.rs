//! The table of this process's attachments, the one mutex of the process for rare acts, which guards the table, and the
//! handlers that run around a fork. What is prepared for a child stands in `fork_child.rs`. The protocol is "Fork" in
//! `docs/protocol.md`.

use crate::os::fork::{self, ForkGuard, ForkMutex, Handlers};
use crate::process::attachment::Attachment;
use crate::process::pin_table::PinTable;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Private to the process: its attachments, guarded by the process's mutex.
#[derive(Default)]
pub struct AttachmentTable {
    /// The attachments by device and inode of the segment's object, and by whether they are for writing.
    attachments: HashMap<(u64, u64, bool), Weak<Attachment>>,
    /// Attachments that are kept alive across a fork: dropping the last reference takes the mutex, which is held
    /// meanwhile.
    across_fork: Vec<Arc<Attachment>>,
}

static PROCESS: std::sync::OnceLock<ForkMutex<AttachmentTable>> = std::sync::OnceLock::new();

fn mutex() -> &'static ForkMutex<AttachmentTable> {
    PROCESS.get_or_init(|| {
        fork::install(Handlers { before, parent, child });
        ForkMutex::new(AttachmentTable::default())
    })
}

/// Waits for the process's mutex.
pub fn lock() -> ForkGuard<'static, AttachmentTable> {
    mutex().lock()
}

/// Takes the process's mutex if it is free.
pub fn try_lock() -> Option<ForkGuard<'static, AttachmentTable>> {
    mutex().try_lock()
}

impl AttachmentTable {
    /// Returns the attachment of this object, if there is one. The caller drops it after it has released the mutex.
    pub fn find(&self, dev: u64, ino: u64, writable: bool) -> Option<Arc<Attachment>> {
        self.attachments.get(&(dev, ino, writable))?.upgrade()
    }

    /// Adds an attachment.
    pub fn add(&mut self, attachment: &Arc<Attachment>) {
        let status = &attachment.object.status;
        self.attachments.insert((status.dev, status.ino, attachment.mem.writable()), Arc::downgrade(attachment));
    }

    /// Forgets attachments that were dropped.
    pub fn forget_dropped(&mut self) {
        self.attachments.retain(|_, weak| weak.strong_count() > 0);
    }
}

/// Runs before each fork. The mutex stays locked until the fork is over.
fn before() {
    let mut process = mutex().lock();
    process.across_fork = process.attachments.values().filter_map(Weak::upgrade).collect();
    for attachment in process.across_fork.iter().filter(|a| a.mem.writable()) {
        attachment.prepare_child();
    }
    std::mem::forget(process);
}

/// Runs after each fork, in the parent and in the child.
fn after(in_child: bool) {
    if in_child {
        mutex().adopt();
    }
    // The handlers run in one thread, which has held the mutex since `before`.
    let attachments = mutex().with_forgotten_guard(|process| std::mem::take(&mut process.across_fork));
    for attachment in &attachments {
        let mut prepared = attachment.registration.child.lock();
        // Only what was prepared for this very fork. Descriptions with a pid were prepared for this process when it was
        // itself a child.
        if prepared.holds_pins || (prepared.fds.is_some() && prepared.pid == 0) {
            if in_child {
                prepared.pid = crate::os::pid();
                if prepared.holds_pins {
                    attachment.pins.adopt();
                    attachment.become_prepared(&mut prepared);
                }
            }
            if prepared.holds_pins {
                if !in_child && prepared.number.is_none() {
                    attachment.pins.with_forgotten_guard(PinTable::keep_for_child);
                }
                prepared.holds_pins = false;
                attachment.pins.force_unlock();
            }
            if !in_child {
                *prepared = Default::default();
            }
        }
    }
    mutex().force_unlock();
    drop(attachments);
}

fn parent() {
    after(false);
}

fn child() {
    after(true);
}
