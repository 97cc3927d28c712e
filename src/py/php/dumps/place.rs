//! Where in a value something is: `value[3]['a']`, in words of Python.

use super::open::Open;
use crate::py::errors;
use pyo3::prelude::*;

/// A key is shown up to so many characters.
const KEY: usize = 40;
/// Of a place with more keys, only so many of the first and of the last are shown.
const ENDS: usize = 8;

/// The place of the item that the walk takes last of each of these containers.
#[cold]
pub(super) fn place(open: &[Open<'_>]) -> PyResult<String> {
    let mut text = String::from("value");
    for (at, one) in open.iter().enumerate() {
        if at == ENDS && open.len() > 2 * ENDS {
            text.push_str(&format!("[... {} more ...]", open.len() - 2 * ENDS));
        }
        if at >= ENDS && at + ENDS < open.len() {
            continue;
        }
        text.push_str(&format!("[{}]", shown(one.key())?));
    }
    Ok(text)
}

/// A key as Python shows it.
pub(super) fn shown(key: Option<Bound<'_, PyAny>>) -> PyResult<String> {
    let repr = key.map(|key| errors::unless_exception(key.py(), key.repr())).transpose()?.flatten();
    let text = repr.map_or_else(|| "?".into(), |repr| repr.to_string_lossy().into_owned());
    Ok(match text.char_indices().nth(KEY) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    })
}
