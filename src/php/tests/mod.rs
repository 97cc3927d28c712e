//! Tests of PHP's segments.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `handle` | segments of the kernel: attaching, the calls of a handle, two threads |

mod handle;
