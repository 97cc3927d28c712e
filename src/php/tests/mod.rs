//! Tests of PHP's segments.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `php` | a model of what PHP itself does with a segment |
//! | `model` | random calls, of this package and of PHP, against a map of the standard library |
//! | `crash` | each call is stopped at each of its stores |
//! | `hostile` | damaged segments |
//! | `readers` | a writer against readers without a lock |
//! | `handle` | segments of the kernel: attaching, the calls of a handle |

mod crash;
mod handle;
mod hostile;
mod model;
mod php;
mod readers;
