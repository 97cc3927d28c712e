//! The floor `process`: a process that is attached to a segment. It knows which processes take part, which of them are
//! alive, and how one of them at a time changes the segment. It knows spans, pins and the order of stores, but neither
//! slabs nor the hash tables. It offers [`Attachment`](attachment::Attachment), a process's half of a segment, and
//! [`Writer`](writer::Writer), the writer lock while it is held.
//!
//! | file | what |
//! | --- | --- |
//! | **the attachment and its parts** | |
//! | `attachment` | [`Attachment`](attachment::Attachment): what a process has of a segment, made of the parts below |
//! | `segment_object` | its kernel objects |
//! | `descriptor` | a descriptor that user code may close |
//! | `extent` | mapping more of the object when it has grown |
//! | `heap_hints`, `table_hints`, `stamps_hints` | what the process remembers to find things sooner |
//! | **participants** | |
//! | `registration` | what the process remembers of itself as a participant (the state of the next four files) |
//! | `claim_number` | registering: claiming a participant number |
//! | `call_guard` | a call that uses the number, which therefore is not released |
//! | `release_number` | releasing the number |
//! | `fork_child` | preparing a forked child: descriptions, a number, pins |
//! | `at_fork` | the table of attachments, the process's mutex, the handlers around a fork |
//! | `liveness` | asking the kernel which participants are alive |
//! | `registry_lock` | the lock for claiming numbers, reaping and other rare acts |
//! | `creation_lock` | who makes a value in place, for whom others wait |
//! | **the writer lock** | |
//! | `writer` | [`Writer`](writer::Writer): the lock while it is held; the calls to floors above |
//! | `writer_acquire` | acquiring it: at once, after a wait, as an heir |
//! | `writer_wait` | waiting for it, and taking it over from a dead owner |
//! | `commit` | making a change: describe, apply, clear |
//! | `repair_intent` | making the change that a dead owner had described |
//! | `after_release` | what is done after the lock was released (state) |
//! | `lock_slices` | how long the lock is held at a time, and yielding it |
//! | **reading** | |
//! | `access` | the two ways to load from a segment: through the map, or by `pread` |
//! | `read_section` | read sections, during which memory is not given back |
//! | `reader_word` | which reader word a thread announces its read sections with |
//! | **spans** | |
//! | `pins` | setting and clearing pin bits, looking at those of other participants |
//! | `pin_table` | how often this process has pinned each span (state) |
//! | `deferred_free` | spans that are freed at the next acquisition of the lock (state) |
//! | `free_spans` | freeing spans under the lock |
//! | `walk_spans` | going through all spans in slices; the sweep |
//! | `pages` | obtaining pages, and the errors where there are none |
//! | `lengthen` | making the object longer; mapping the zones in use |
//! | **death** | |
//! | `reaping` | undoing what a dead process left |
//! | `reaping_progress` | how far a reaping has come (state) |
//! | **waiting** | |
//! | `wait_policy`, `deadline` | how a call waits; the same with a deadline |
//! | `sleep` | what it sleeps on |
//! | `backoff` | what it does between two attempts, and when it gives up |
//! | `notify` | waking those that wait for a variable or a named lock |
//! | `held_locks` | the named locks that this process holds (state) |
//! | `queue_holds` | the items of queues that this process holds (state) |

pub mod access;
pub mod after_release;
pub mod at_fork;
pub mod attachment;
pub mod backoff;
pub mod call_guard;
pub mod claim_number;
pub mod commit;
pub mod creation_lock;
pub mod deadline;
pub mod deferred_free;
pub mod descriptor;
pub mod extent;
pub mod fork_child;
pub mod free_spans;
pub mod heap_hints;
pub mod held_locks;
pub mod lengthen;
pub mod liveness;
pub mod lock_slices;
pub mod notify;
pub mod pages;
pub mod pin_table;
pub mod pins;
pub mod queue_holds;
pub mod read_section;
pub mod reader_word;
pub mod reaping;
pub mod reaping_progress;
pub mod registration;
pub mod registry_lock;
pub mod release_number;
pub mod repair_intent;
pub mod segment_object;
pub mod sleep;
pub mod stamps_hints;
pub mod table_hints;
pub mod wait_policy;
pub mod walk_spans;
pub mod writer;
pub mod writer_acquire;
pub mod writer_wait;
