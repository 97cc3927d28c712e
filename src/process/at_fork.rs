//! What a process knows of its attachments, and what it does around a fork.

use crate::os::fork::{self, ForkGuard, ForkMutex, Handlers};
use crate::process::attachment::Attachment;
use crate::process::pin_table::PinTable;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Guarded by the process's one mutex for rare acts.
#[derive(Default)]
pub struct Process {
    /// By device, inode, and whether for writing.
    attachments: HashMap<(u64, u64, bool), Weak<Attachment>>,
    /// Kept alive across a fork: dropping the last one needs the mutex that is held meanwhile.
    across_fork: Vec<Arc<Attachment>>,
}

static PROCESS: std::sync::OnceLock<ForkMutex<Process>> = std::sync::OnceLock::new();

fn mutex() -> &'static ForkMutex<Process> {
    PROCESS.get_or_init(|| {
        fork::install(Handlers { before, parent, child });
        ForkMutex::new(Process::default())
    })
}

/// Waits for the process's mutex.
pub fn lock() -> ForkGuard<'static, Process> {
    mutex().lock()
}

/// The process's mutex if it is free.
pub fn try_lock() -> Option<ForkGuard<'static, Process>> {
    mutex().try_lock()
}

impl Process {
    /// The attachment of this object, if one lives. Dropped by the caller after the mutex.
    pub fn find(&self, dev: u64, ino: u64, writable: bool) -> Option<Arc<Attachment>> {
        self.attachments.get(&(dev, ino, writable))?.upgrade()
    }

    /// Adds one.
    pub fn add(&mut self, attachment: &Arc<Attachment>) {
        let status = &attachment.object.status;
        self.attachments.insert((status.dev, status.ino, attachment.mem.writable()), Arc::downgrade(attachment));
    }

    /// Forgets those that are gone.
    pub fn sweep(&mut self) {
        self.attachments.retain(|_, weak| weak.strong_count() > 0);
    }
}

fn before() {
    let mut process = mutex().lock();
    process.across_fork = process.attachments.values().filter_map(Weak::upgrade).collect();
    for attachment in process.across_fork.iter().filter(|a| a.mem.writable()) {
        attachment.prepare_child();
    }
    std::mem::forget(process);
}

fn after(in_child: bool) {
    if in_child {
        mutex().adopt();
    }
    // The handlers run in one thread, which holds the mutex since `before`.
    let kept = mutex().with_forgotten_guard(|process| std::mem::take(&mut process.across_fork));
    for attachment in &kept {
        let mut prepared = attachment.registration.child.lock();
        // Those opened for this very fork; others were made for this process itself when it was the child.
        if prepared.holds_pins || (prepared.fds.is_some() && prepared.pid == 0) {
            if in_child {
                prepared.pid = crate::os::pid();
                if prepared.holds_pins {
                    attachment.pins.adopt();
                    attachment.adopt(&mut prepared);
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
    drop(kept);
}

fn parent() {
    after(false);
}

fn child() {
    after(true);
}
