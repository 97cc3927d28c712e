//! The Rust side of a Python script: reads what it wrote, answers under another index. From the repository's root:
//!
//! ```sh
//! python examples/exchange.py ask
//! cargo run --no-default-features --example exchange
//! python examples/exchange.py answer
//! ```
//!
//! What Python wrote from plain data (numbers, texts, lists, dicts) any serde type reads; what Rust writes is plain data
//! for Python.

use serde::{Deserialize, Serialize};
use shmvar::{Options, Segment};

const KEY: i64 = 31_415;
const QUESTION: i64 = 1;
const ANSWER: i64 = 2;

#[derive(Deserialize)]
struct Series {
    name: String,
    values: Vec<f64>,
}

#[derive(Serialize)]
struct Summary {
    name: String,
    count: usize,
    mean: f64,
    largest: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let segment = Segment::attach(KEY, &Options { create: Some(false), ..Options::default() })?;
    let series: Series = segment.get(QUESTION)?.ok_or("nothing under index 1: python examples/exchange.py ask")?;
    let count = series.values.len();
    if count == 0 {
        return Err(format!("{} has no values", series.name).into());
    }
    let summary = Summary {
        count,
        mean: series.values.iter().sum::<f64>() / count as f64,
        largest: series.values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        name: series.name,
    };
    segment.put(ANSWER, &summary)?;
    println!("answered: {count} values of {}", summary.name);
    Ok(())
}
