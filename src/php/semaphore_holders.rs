//! What a process knows of all its handles: whether a thread that would wait for a semaphore is itself the one who holds
//! it, through another handle. Then nobody would ever wake it.

use crate::os::fork::ForkMutex;
use std::sync::{Arc, Weak};

/// Private to the process: what a handle knows of its own holders.
pub trait Places: Send + Sync {
    /// Whether a place is held through this handle by this thread, or by this greenlet of it.
    fn is_held(&self, thread: u64, greenlet: u64) -> bool;
}

/// Private to the process: a handle, by the id of its set.
struct Handle {
    id: i32,
    places: Weak<dyn Places>,
}

/// The handles that are open. A forked child keeps them: each of them knows of itself that it holds nothing there.
static HANDLES: ForkMutex<Vec<Handle>> = ForkMutex::new(Vec::new());

/// Adds a handle. Those that are gone are left out from now on.
pub fn add(id: i32, places: &Arc<impl Places + 'static>) {
    let mut handles = HANDLES.lock();
    handles.retain(|handle| handle.places.strong_count() > 0);
    // Without memory for it, a thread that waits for itself waits, as in PHP.
    if handles.try_reserve(1).is_ok() {
        let places: Weak<dyn Places> = Arc::<_>::downgrade(places) as Weak<dyn Places>;
        handles.push(Handle { id, places });
    }
}

/// How many places of the set with this id a thread holds, through all handles together.
#[cold]
pub fn held(id: i32, thread: u64, greenlet: u64) -> usize {
    let handles = HANDLES.lock();
    let of_the_set = handles.iter().filter(|handle| handle.id == id).filter_map(|handle| handle.places.upgrade());
    of_the_set.filter(|places| places.is_held(thread, greenlet)).count()
}
