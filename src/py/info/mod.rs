//! The classes of what `Segment.info`, `Segment.stat` and `Segment.check` return. The numbers come from
//! `crate::segment`.
//!
//! | file | class |
//! | --- | --- |
//! | `segment_info` | `SegmentInfo` |
//! | `variable_info` | `VariableInfo` |
//! | `check_report` | `CheckReport` |
//! | `fields` | what the classes share |

mod check_report;
mod fields;
mod segment_info;
mod variable_info;

pub use check_report::{_check_report, PyCheckReport};
pub use segment_info::{_segment_info, PySegmentInfo};
pub use variable_info::{_variable_info, PyVariableInfo};
