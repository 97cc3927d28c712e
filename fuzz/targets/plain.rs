//! Any bytes as a value of a segment that is not trusted: decoded as pickle decodes them, or a typed error.
//!
//! The input: a byte that says how many of the following pairs of length bytes are buffers' lengths, then these buffers, then
//! the stream. What decodes is compared with `pickle.loads` by `tests/helpers/value_comparison.py`, so numpy must be importable (PYTHONPATH).
#![no_main]

#[path = "../alike.rs"]
mod alike;

use alike::alike;
use libfuzzer_sys::{Corpus, fuzz_target};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

/// Buffers, and the stream behind them.
fn parts(data: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (&count, mut rest) = data.split_first()?;
    let count = usize::from(count & 3);
    let (lengths, behind) = rest.split_at_checked(2 * count)?;
    rest = behind;
    let mut buffers = Vec::new();
    for length in lengths.chunks_exact(2) {
        let (buffer, behind) = rest.split_at_checked(usize::from(u16::from_le_bytes([length[0], length[1]])))?;
        buffers.push(buffer);
        rest = behind;
    }
    Some((buffers, rest))
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((buffers, stream)) = parts(data) else { return Corpus::Reject };
    Python::initialize();
    Python::attach(|py| {
        let copies = || buffers.iter().map(|buffer| PyByteArray::new(py, buffer)).collect::<Vec<_>>();
        match shmvar::fuzz_data_only(py, stream, copies()) {
            Err(why) => assert!(why.chars().count() < 400, "a long message"),
            Ok(value) => {
                let same = alike(py).and_then(|same| same.call1((value, PyBytes::new(py, stream), copies())));
                if let Err(error) = same {
                    error.print(py);
                    panic!("not what pickle makes of it");
                }
            }
        }
    });
    Corpus::Keep
});
