//! getsubids(1), which asks the service that knows the subordinate ids when the files do not.
//!
//! With `subid: sss` in `/etc/nsswitch.conf`, newuidmap asks a module of sssd, and `/etc/subuid` means nothing. That
//! module is a shared object made for the programs of the shadow package; loading it here would run its code, and that of
//! whatever it loads, within the caller. So the one program that lists what it says is run instead, as carefully as
//! newuidmap: by absolute path, with an empty environment, in `/`, for at most ten seconds. It has no privilege and needs
//! none. Its answer is believed only as far as it looks exactly as it should: it decides what is planned, and newuidmap
//! has the last word.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cellkit_core::{Error, Result};

use super::row::{number, range};
use crate::IdRange;
use crate::hint::HINTS;
use crate::id_kind::IdKind;
use crate::running::{Failed, Running};

/// Tens of thousands of ranges, where one is usual.
const ANSWER_LIMIT: usize = 1 << 20;

/// What it says when there is no range; and, alas, when the service does not answer.
const NOTHING: &str = "Error fetching ranges";

/// Where the program is and how long it may take. Only tests have another than the default.
#[derive(Clone, Debug)]
pub(crate) struct Getsubids {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) limit: Duration,
}

impl Default for Getsubids {
    fn default() -> Self {
        let paths = vec!["/usr/bin/getsubids".into(), "/bin/getsubids".into()];
        Self { paths, limit: Duration::from_secs(10) }
    }
}

/// What it answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// In its order.
    pub(crate) ranges: Vec<IdRange>,
    /// The first line with numbers that are no range.
    pub(super) malformed: Option<usize>,
    /// What it wrote to standard error.
    pub(super) said: String,
}

impl Getsubids {
    fn path(&self) -> &Path {
        let found = self.paths.iter().find(|path| path.exists()).or(self.paths.first());
        found.map_or(Path::new("getsubids"), PathBuf::as_path)
    }

    /// Asks for the ranges of a user. Without `-g` in front, the name could not be one: no account begins with a hyphen.
    pub(super) fn ask(&self, kind: IdKind, name: &str) -> Result<Answer> {
        let path = self.path();
        let mut command = Command::new(path);
        if kind == IdKind::Gid {
            command.arg("-g");
        }
        let child = command
            .arg(name)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::from_io("execve getsubids", &error).on(path).with_hints(&HINTS))?;
        let ended = Running::new("getsubids", child)
            .and_then(|running| running.wait(self.limit, ANSWER_LIMIT))
            .map_err(|Failed { said, error }| error.on(path).with_kernel_text(said))?;
        let fail = |error: Error| error.on(path).with_kernel_text(ended.said.clone());
        match (ended.status, ended.failure()) {
            (None, _) => Err(fail(Error::other("getsubids", "somebody else took its exit status"))),
            (Some(status), Some(_)) if status.code() == Some(1) && ended.said.contains(NOTHING) => {
                Ok(Answer { said: ended.said, ..Answer::default() })
            }
            (_, Some(why)) => Err(fail(Error::other("getsubids", why))),
            (_, None) => {
                let text = ended.answer.as_deref().ok_or("its answer is longer than 1 MiB".to_owned());
                match text.and_then(|text| parse(text, name)) {
                    Ok(answer) => Ok(Answer { said: ended.said, ..answer }),
                    Err(why) => Err(fail(Error::parse("getsubids", why))),
                }
            }
        }
    }
}

/// Reads lines `INDEX: NAME START COUNT`, counted from 0, of this name and no other.
pub(crate) fn parse(text: &[u8], name: &str) -> Result<Answer, String> {
    let text = std::str::from_utf8(text).map_err(|_| "its answer is not text".to_owned())?;
    let mut answer = Answer::default();
    let Some(lines) = text.strip_suffix('\n') else {
        return if text.is_empty() { Ok(answer) } else { Err("its answer ends within a line".into()) };
    };
    for (index, line) in lines.split('\n').enumerate() {
        let wrong = || {
            let shown: String = line.chars().take(80).collect();
            format!("line {} of its answer, {shown:?}, is not \"{index}: {name} START COUNT\"", index + 1)
        };
        let rest = line.strip_prefix(&format!("{index}: {name} ")).ok_or_else(wrong)?;
        let (start, count) = rest.split_once(' ').ok_or_else(wrong)?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(start) || !digits(count) {
            return Err(wrong());
        }
        // Numbers beyond the ids there are stand in the files of some, and so are not a reason to believe nothing.
        match number(start).zip(number(count)).and_then(|(start, count)| range(start, count)) {
            Some(range) => answer.ranges.push(range),
            None => answer.malformed = answer.malformed.or(Some(index + 1)),
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_it_should_be_or_nothing() {
        let ranges = |text: &str| {
            let answer = parse(text.as_bytes(), "ann")?;
            Ok((answer.ranges.iter().map(ToString::to_string).collect::<Vec<_>>(), answer.malformed))
        };
        assert_eq!(ranges(""), Ok((vec![], None)));
        let two = "0: ann 100000 65536\n1: ann 4294967290 6\n";
        assert_eq!(ranges(two), Ok((vec!["100000:65536".into(), "4294967290:5".into()], None)));
        let odd = "0: ann 0 0\n1: ann 7 1\n2: ann 0 99999999999999999999\n";
        assert_eq!(ranges(odd), Ok((vec!["7:1".into()], Some(1))));
        for wrong in [
            "\n",
            "0: ann 1 1",
            "0: ann 1 1\n\n",
            "1: ann 1 1\n",
            "0: ann 1 1\n0: ann 2 1\n",
            "0: bob 1 1\n",
            "0: ann 1\n",
            "0: ann 1 1 1\n",
            "0: ann -1 1\n",
            "0: ann  1 1\n",
            "0: ann 1 1\r\n",
            "0:ann 1 1\n",
            "ann 1 1\n",
        ] {
            assert!(ranges(wrong).is_err_and(|why: String| !why.contains('\n')), "{wrong:?}");
        }
        assert!(parse(b"0: ann \xff 1\n", "ann").is_err());
    }
}
