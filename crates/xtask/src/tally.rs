//! Counts what the test harness says.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A test: its binary and its path in it.
type Test = (String, String);

/// The sum of all test runs. A test that skips itself passes for the harness; here it counts as skipped, and only if no
/// run of it, as another user or on another kernel, did its work.
#[derive(Debug, Default)]
pub struct Tally {
    passed: usize,
    failed: usize,
    failures: Vec<String>,
    ran: BTreeSet<Test>,
    skipped: BTreeMap<Test, String>,
}

/// What one run of one test binary added.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Tally {
    /// Adds a run of `binary`: what the harness printed, the lines of `CELLKIT_SKIPS`, and whether its status was 0.
    pub fn add(&mut self, phase: &str, binary: &str, stdout: &str, skips: &str, success: bool) -> Run {
        let key = |test: &str| (binary.to_owned(), test.to_owned());
        let reasons: BTreeMap<&str, &str> = skips.lines().filter_map(|line| line.split_once('\t')).collect();
        let mut run = Run::default();
        let ended = stdout.lines().any(|line| line.starts_with("test result: "));
        // After the verdicts comes what failed tests printed, in which there may be verdicts of a process of theirs.
        for line in stdout.lines().take_while(|line| *line != "failures:") {
            let Some((test, verdict)) = verdict(line) else { continue };
            match (verdict, reasons.get(test)) {
                ("ok", Some(why)) => {
                    self.skipped.insert(key(test), (*why).to_owned());
                    run.skipped += 1;
                }
                ("ok", None) => {
                    self.ran.insert(key(test));
                    run.passed += 1;
                }
                ("FAILED", _) => {
                    self.ran.insert(key(test));
                    self.failures.push(format!("{phase}: {binary}: {test}"));
                    run.failed += 1;
                }
                // Not a test but a part of one, which starts it as a process of its own: #[ignore = "run by ..."].
                (ignored, _) if ignored.starts_with("ignored, run ") => {}
                _ => {
                    self.skipped.insert(key(test), verdict.to_owned());
                    run.skipped += 1;
                }
            }
        }
        if run.failed == 0 && !(success && ended) {
            self.failures.push(format!("{phase}: {binary} did not end by itself, or badly"));
            run.failed += 1;
        }
        self.passed += run.passed;
        self.failed += run.failed;
        run
    }

    /// Counts something that is not a test and went wrong: a phase.
    pub fn fail(&mut self, what: impl Into<String>) {
        self.failures.push(what.into());
        self.failed += 1;
    }

    /// Adds passed tests of which only the number is known.
    pub fn pass(&mut self, count: usize) {
        self.passed += count;
    }

    /// What failed, by name.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The tests that no run did, and why.
    pub fn skipped(&self) -> impl Iterator<Item = (&Test, &String)> {
        self.skipped.iter().filter(|(test, _)| !self.ran.contains(*test))
    }
}

impl fmt::Display for Tally {
    /// The closing line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped().count())
    }
}

/// `test root::mounts ... ok` as name and verdict.
fn verdict(line: &str) -> Option<(&str, &str)> {
    let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    // The harness notes what a test is expected to do behind its name.
    let name = name.split(" - should panic").next()?;
    Some((name, verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\nrunning 4 tests\ntest a ... ok\ntest root::b - should panic ... ok\ntest c ... FAILED\n\
        test d ... ignored, slow\n\
        test e ... ignored, run by the next test\n\nfailures:\n\n---- c stdout ----\ntest c ... FAILED\n\ntest result: FAILED. 2 passed; 1 failed; 1 ignored;\n";

    #[test]
    fn every_verdict() {
        let mut tally = Tally::default();
        let run = tally.add("root", "x", OUTPUT, "a\tskipped: needs root\n", false);
        assert_eq!(run, Run { passed: 1, failed: 1, skipped: 2 });
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
        assert_eq!(tally.failures(), ["root: x: c"]);
    }

    #[test]
    fn a_test_skipped_here_and_run_there_was_run() {
        let mut tally = Tally::default();
        let output = "test a ... ok\ntest result: ok.\n";
        tally.add("root", "x", output, "a\tskipped: needs Linux 9\n", true);
        assert_eq!(tally.to_string(), "0 passed, 0 failed, 1 skipped");
        tally.add("vm", "x", output, "", true);
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 0 skipped");
        tally.add("vm", "y", output, "a\tskipped\n", true);
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_binary_that_dies_has_failed() {
        let mut tally = Tally::default();
        assert_eq!(tally.add("root", "x", "test a ... ok\n", "", false).failed, 1);
        assert_eq!(tally.add("root", "x", "test a ... ok\n", "", true).failed, 1);
        assert_eq!(tally.failures().len(), 2);
    }
}
