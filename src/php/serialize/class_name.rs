//! Which names of classes PHP reads.

/// Whether PHP reads this name of a class: letters, digits, `_`, `\` between others, and bytes from 0x7f on.
pub fn is_class_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name[0] != b'\\'
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'\\' || byte >= 0x7f)
}
