//! A plan of writes, all or nothing.
#![forbid(unsafe_code)]

use super::order::Step;
use crate::{Error, ErrorKind, Result};

/// The files of one group. Reading and writing take no more descriptors, so that an undo does not fail for want of one.
pub(crate) trait Files {
    fn read(&self, file: &str) -> Result<String>;
    fn write(&self, file: &str, content: &str) -> Result<()>;
}

/// Writes `steps` in their order, then lets `finish` read what came of it. When one fails, what was before is brought back
/// in reverse.
///
/// # Errors
/// The failure; what could not be undone is attached to it.
pub(crate) fn run<T>(files: &impl Files, steps: &[Step], finish: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut done = 0;
    let outcome = steps.iter().filter(|step| step.write).try_for_each(|step| {
        done += 1;
        files.write(&step.setting.file, &step.setting.content())
    });
    outcome.and_then(|()| finish()).map_err(|error| {
        let begun: Vec<&Step> = steps.iter().filter(|step| step.write).take(done).collect();
        let more = roll_back(files, &begun);
        // Of a group that is gone nothing is left to undo.
        let more = more.into_iter().filter(|more| more.kind() != ErrorKind::Gone);
        match Error::all(std::iter::once(error).chain(more)) {
            Err(all) => all,
            Ok(()) => Error::other("undo", "no error"),
        }
    })
}

/// Brings back what was before `begun`, of which the last may have failed. Goes on past errors and returns them.
fn roll_back(files: &impl Files, begun: &[&Step]) -> Vec<Error> {
    let mut errors = Vec::new();
    for (back, step) in begun.iter().rev().enumerate() {
        let now = files.read(&step.setting.file).map(|content| step.setting.value_in(&content));
        // What failed has changed nothing, as far as the file shows.
        if back == 0 && now.is_ok_and(|now| now == step.before) && step.setting.file != "cpu.weight.nice" {
            continue;
        }
        for (file, content) in &step.restore {
            if let Err(error) = files.write(file, content) {
                if let Some(instead) = &step.instead {
                    // The error is told all the same: the file is not as it was.
                    errors.extend(files.write(file, instead).err());
                }
                errors.push(error.context("undoing what was written before"));
            }
        }
    }
    errors
}
