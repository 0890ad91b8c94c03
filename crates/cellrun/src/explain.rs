//! The plan in print: before it is done (`--explain`) and while it is done (`--trace`).
#![forbid(unsafe_code)]

use std::io::Write;
use std::time::Duration;

use cellkit_core::{Observer, StepText};

/// Prints a numbered list of steps with their reasons, and the notes above it.
///
/// # Errors
/// Those of writing to `out`.
pub fn print(out: &mut dyn Write, notes: &[String], steps: &[StepText]) -> std::io::Result<()> {
    for note in notes {
        writeln!(out, "note: {note}")?;
    }
    for (number, step) in (1..).zip(steps) {
        writeln!(out, "{number:>3}. {step}\n       {}", step.reason)?;
    }
    Ok(())
}

/// Prints each step, numbered as `--explain` numbers it, with its time, on standard error.
#[derive(Debug)]
pub struct Trace {
    listens: bool,
    number: usize,
}

impl Trace {
    /// `listens` is whether `--trace` was given.
    #[must_use]
    pub fn new(listens: bool) -> Self {
        Self { listens, number: 0 }
    }
}

impl Observer for Trace {
    fn made(&mut self, step: StepText, took: Duration) {
        if self.listens {
            self.number += 1;
            let micros = took.as_secs_f64() * 1e6;
            // Standard error may be closed; a trace is not worth ending the container for.
            let _ = writeln!(std::io::stderr(), "{:>3}. {micros:>9.1} µs  {step}\n       {}", self.number, step.reason);
        }
    }

    fn listens(&self) -> bool {
        self.listens
    }
}
