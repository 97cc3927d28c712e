//! Stating an invariant.

macro_rules! hold {
    ($condition:expr, $invariant:literal, $($text:tt)*) => {
        if !$condition {
            return Err($crate::error::Error::corrupt(format_args!(
                concat!("invariant ", $invariant, ": {}"), format_args!($($text)*)
            )));
        }
    };
}
pub(super) use hold;

/// What is collected is called so where there is no memory for it.
pub(super) const LISTS: &str = "the lists of a check";
