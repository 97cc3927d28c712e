//! Any bytes as a pickle of containers: what the decoder makes of them is what `pickle.loads` makes of them, or it leaves them.
//!
//! What the decoder takes names no class, so it is safe to unpickle. Compared by `tests/helpers/value_comparison.py`, which
//! imports numpy (PYTHONPATH).
#![no_main]

#[path = "../alike.rs"]
mod alike;

use alike::alike;
use libfuzzer_sys::{Corpus, fuzz_target};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

fuzz_target!(|data: &[u8]| -> Corpus {
    Python::initialize();
    Python::attach(|py| match shmvar::fuzz_containers(py, data) {
        Err(error) => {
            error.print(py);
            panic!("an exception");
        }
        Ok(None) => Corpus::Reject,
        Ok(Some(value)) => {
            let same = alike(py).and_then(|same| same.call1((value, PyBytes::new(py, data), py.None())));
            if let Err(error) = same {
                error.print(py);
                panic!("not what pickle makes of it");
            }
            Corpus::Keep
        }
    })
});
