//! Docstrings for the extension module: they are written in its stubs and nowhere else. `python/shmvar/_core.pyi` is the
//! stub of `shmvar._core`, `python/shmvar/php/_native.pyi` that of what `shmvar.php` has in it.
//!
//! Makes a macro with a rule for each item that the stubs document: `#[doc = stub!(Segment.put)]` is what it says of
//! `Segment.put`, and does not compile if it says nothing. Names of `shmvar.php` begin with `php.`.
//!
//! Before that: on a system that shmvar is not written for, the build ends here, with the reason, rather than in the
//! hundred errors that the compiler would find.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

/// The stubs, and the module whose name stands before those of its items: `stub!(php.Segment.put)`.
const STUBS: [(&str, &str); 2] = [("python/shmvar/_core.pyi", ""), ("python/shmvar/php/_native.pyi", "php.")];

fn main() {
    for (stub, _) in STUBS {
        println!("cargo::rerun-if-changed={stub}");
    }
    if !is_written_for(&target("OS"), &target("ARCH")) {
        refuse();
        return;
    }
    if env::var_os("CARGO_FEATURE_PYTHON").is_none() {
        return;
    }
    let mut rules = String::new();
    for (path, module) in STUBS {
        let stub = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        for (item, text) in docstrings(&stub) {
            writeln!(rules, "    ({module}{item}) => {{ {text:?} }};").unwrap();
        }
    }
    let directory = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let path = Path::new(&directory).join("stub.rs");
    fs::write(path, format!("macro_rules! stub {{\n{rules}}}\n")).unwrap();
}

/// What the crate is built for, in the words of `cfg(target_os)` and its kin.
fn target(what: &str) -> String {
    env::var(format!("CARGO_CFG_TARGET_{what}")).expect("cargo sets it")
}

/// Is shmvar written for this system? `src/os/opaque_copy.rs` has the copies of these processors.
fn is_written_for(system: &str, processor: &str) -> bool {
    system == "linux" && ["x86_64", "aarch64"].contains(&processor)
}

/// Ends the build. Cargo prints each of these lines as an error, and pip prints what Cargo does.
fn refuse() {
    println!(
        "cargo::error=shmvar runs on Linux, x86-64 or aarch64. This build is for {}, {}.",
        target("OS"),
        target("ARCH")
    );
    for line in [
        "It promises that a process may be killed at any instruction, and that the others lose nothing and go on.",
        "That rests on what Linux has and no other system offers in this form: locks that the kernel drops with their",
        "process (F_OFD_SETLK), futexes, memory files with holes, /proc. Without them it would be a promise without proof.",
        "On macOS and Windows run the program in a Linux container, in a virtual machine or in WSL 2.",
    ] {
        println!("cargo::error={line}");
    }
}

/// Every `class`, `class.method` and `function` that has a docstring, and `_core` itself.
///
/// No parser of Python: three quotes begin and end a docstring, and it belongs to the last `class` or `def` before it.
/// Where Python understands a stub otherwise, `tests/docs/test_docstrings.py` fails.
fn docstrings(stub: &str) -> Vec<(String, String)> {
    let (mut class, mut item) = ("", "_core".to_owned());
    let mut found = Vec::new();
    let mut pieces = stub.split("\"\"\"");
    while let (Some(code), Some(text)) = (pieces.next(), pieces.next()) {
        for line in code.lines() {
            if let Some(rest) = line.strip_prefix("class ") {
                class = name(rest);
                item = class.to_owned();
            } else if let Some(rest) = line.strip_prefix("def ") {
                item = name(rest).to_owned();
            } else if let Some(rest) = line.strip_prefix("    def ") {
                item = format!("{class}.{}", name(rest));
            }
        }
        // What stands before the quotes stands before each line of the text, too.
        let indent = code.rsplit('\n').next().unwrap_or_default();
        let text = text.replace(&format!("\n{indent}"), "\n");
        found.push((item.clone(), text.trim().to_owned()));
    }
    found
}

/// Of a `class` or `def`, from what follows that word.
fn name(rest: &str) -> &str {
    rest.split(['(', '[', ':']).next().unwrap_or(rest)
}
