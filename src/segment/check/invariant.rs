//! How the check states an invariant. The invariants themselves are in docs/format.md, "Invariants"; each stands in the
//! file of what it is about.

/// Returns [`Error::Corrupt`](crate::error::Error::Corrupt) with the number of the invariant and a text if the
/// condition does not hold.
macro_rules! ensure {
    ($condition:expr, $invariant:literal, $($text:tt)*) => {
        if !$condition {
            return Err($crate::error::Error::corrupt(format_args!(
                concat!("invariant ", $invariant, ": {}"), format_args!($($text)*)
            )));
        }
    };
}
pub(super) use ensure;

/// What a check's private lists are called in the error if there is no memory for them.
pub(super) const LISTS: &str = "the lists of a check";
