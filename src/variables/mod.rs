//! Variables.

pub mod add;
pub mod batch;
pub mod batch_list;
pub mod capacity;
pub mod change;
pub mod clear;
pub mod compact;
pub mod defrag;
pub mod expiry;
pub mod growth;
pub mod leaf;
pub mod pass_over;
pub mod publish;
pub mod read;
pub mod scan;
pub mod snapshot;
pub mod table;
#[cfg(feature = "python")]
pub mod table_iter;
pub mod trim;
