//! Counts what one decoding has spent, against [`Limits`]: memory and processor time. Also keeps apart what would be
//! slow to compare.

use super::error::{DataOnlyResult, too_much};
use super::limits::{Limits, WIDE_INT};
use crate::os::thread_cpu_ns;

/// What is left to spend in one decoding.
pub struct Budget<'a> {
    pub limits: &'a Limits,
    memory_left: u64,
    memory: u64,
    cpu_end: u64,
    cpu: u64,
    ticks: u32,
}

/// Number of insertions between two looks at the clock, because a look costs a system call.
const TICKS: u32 = 64;

impl<'a> Budget<'a> {
    /// The budget for an input of this length in bytes.
    pub fn new(limits: &'a Limits, input: usize) -> Self {
        let scaled = |base: u64, each: u64| base.saturating_add(each.saturating_mul(input as u64));
        let memory = scaled(limits.memory_base, limits.memory_per_byte);
        let cpu = scaled(limits.cpu_base_ns, limits.cpu_ns_per_byte);
        Budget { limits, memory_left: memory, memory, cpu_end: thread_cpu_ns().saturating_add(cpu), cpu, ticks: 0 }
    }

    /// Spends memory.
    pub fn memory(&mut self, bytes: usize) -> DataOnlyResult<()> {
        match self.memory_left.checked_sub(bytes as u64) {
            Some(left) => {
                self.memory_left = left;
                Ok(())
            }
            None => Err(too_much("bytes of memory", self.memory)),
        }
    }

    /// Called for each insertion of a key, the only step of built-in containers whose time is not bounded by the length
    /// of the pickle.
    pub fn tick(&mut self) -> DataOnlyResult<()> {
        self.ticks += 1;
        if self.ticks < TICKS {
            return Ok(());
        }
        self.look()
    }

    /// Looks at the clock: fails if too much processor time was spent.
    pub fn look(&mut self) -> DataOnlyResult<()> {
        self.ticks = 0;
        if thread_cpu_ns() > self.cpu_end {
            return Err(too_much("nanoseconds of processor time", self.cpu));
        }
        Ok(())
    }

    /// Does not charge the time since `since`, because the pickle did not cause it.
    pub fn forgive(&mut self, since: u64) {
        self.cpu_end = self.cpu_end.saturating_add(thread_cpu_ns().saturating_sub(since));
    }
}

/// Whether the value holds something that would be slow to compare: a giant int, together with a Decimal, a Fraction or
/// a long double. These compare with ints by arithmetic, which takes quadratic time in C.
#[derive(Default)]
pub struct EqualityCost {
    wide_int: bool,
    slow_value: bool,
}

impl EqualityCost {
    /// Notes an int of more than [`WIDE_INT`] bytes.
    pub fn meet_wide_int(&mut self) -> DataOnlyResult<()> {
        self.wide_int = true;
        self.check()
    }

    /// Notes a value that is slow to compare with giant ints.
    pub fn meet_slow_value(&mut self) -> DataOnlyResult<()> {
        self.slow_value = true;
        self.check()
    }

    /// Whether such a value was noted.
    pub fn has_slow_value(&self) -> bool {
        self.slow_value
    }

    fn check(&self) -> DataOnlyResult<()> {
        match self.wide_int && self.slow_value {
            true => Err(too_much("bytes of an int beside a Decimal, Fraction or long double", WIDE_INT as u64)),
            false => Ok(()),
        }
    }
}
