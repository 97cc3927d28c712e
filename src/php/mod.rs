//! What PHP shares through System V: segments of `shm_attach`, semaphores, message queues, raw segments, and the text
//! that `serialize` makes of a value. `docs/php.md` is the authority.
//!
//! This floor stands beside `segment`, which does not know it, and uses `os` alone.
//!
//! | file or folder | what is in it |
//! | --- | --- |
//! | `serialize` | the format of `serialize`: a strict reader and a writer |

pub mod serialize;
