//! Files by name and their text, where no field says what is wanted.
#![forbid(unsafe_code)]

use std::fmt;

use cellkit_core::Subject;

use super::Setting;
use crate::{Error, Result};

/// Files of a group as text: what an OCI configuration calls `unified`, and the way to files that this library does not
/// know.
///
/// Each line is written by a write(2) of its own. Files keep the order they were added in as far as the safe order of
/// [`Cgroup::apply`](crate::Cgroup::apply) says nothing about them. A file that is set twice has what was said last.
///
/// ```
/// use cgroupfs::{Limits, Unified};
///
/// let files = Unified::new().with("memory.high", "512M")?.with("io.max", "8:0 rbps=1048576\n8:16 wiops=120")?;
/// let limits = Limits::new().unified(files);
/// assert_eq!(limits.controllers().to_string(), "io memory");
///
/// // What runs the group, acts once, or would end it is no limit.
/// for file in ["cgroup.procs", "cgroup.kill", "memory.reclaim", "../x", "max"] {
///     assert!(Unified::new().with(file, "1").is_err());
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#unified>.
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Unified(Vec<(String, String)>);

/// The core files that are limits.
const CORE: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

/// The most that the kernel takes in one write: a page, less the end of the text.
const MOST: usize = 4095;

impl Unified {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// These, and `text` for `file`.
    ///
    /// # Errors
    /// Invalid, saying why: a name that is no interface file's, or of a file that is no limit; a text that the kernel would
    /// read as something else.
    pub fn with(mut self, file: impl Into<String>, text: impl Into<String>) -> Result<Self> {
        let (file, text) = (file.into(), text.into());
        if let Some(why) = fault(&file, &text) {
            return Err(Error::invalid("unified", why).on(Subject::Value(file)));
        }
        self.0.retain(|(known, _)| *known != file);
        self.0.push((file, text));
        Ok(self)
    }

    /// The files and their texts, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(file, text)| (file.as_str(), text.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for (file, text) in self.iter() {
            // An empty text is one line, which empties the file.
            let lines = if text.trim().is_empty() { "\n".lines() } else { text.lines() };
            let lines = lines.filter(|line| text.trim().is_empty() || !line.trim().is_empty());
            settings.extend(lines.map(|line| Setting::raw(file, line, "asked for by name")));
        }
        settings
    }
}

impl fmt::Display for Unified {
    /// `memory.high=512M cpu.weight=50`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (file, text)) in self.iter().enumerate() {
            write!(f, "{}{file}={text:?}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

fn fault(file: &str, text: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let parts: Vec<&str> = file.split('.').collect();
    if parts.len() < 2 || parts.iter().any(|part| part.is_empty()) || !file.bytes().all(allowed) || file.len() > 255 {
        return Some("this is not the name of an interface file: CONTROLLER.PARAMETER");
    }
    if file.starts_with("cgroup.") && !CORE.contains(&file) {
        return Some("this file runs the group and is no limit: there is a method for it");
    }
    match parts.last().copied().unwrap_or_default() {
        "reclaim" => return Some("this acts once and is no limit: there is a method for it"),
        "peak" | "current" | "events" | "stat" | "local" | "effective" | "numa_stat" | "capacity" => {
            return Some("this file only counts");
        }
        "pressure" if file != "cgroup.pressure" => return Some("this file only counts"),
        _ => {}
    }
    if text.contains('\0') || text.lines().any(|line| line.len() > MOST) {
        return Some("a NUL, or a line of more than 4095 bytes");
    }
    // The kernel reads an empty text as 0 bytes: it would kill all.
    let emptied = file.starts_with("cpuset.");
    (text.trim().is_empty() && !emptied).then_some("an empty text, which the kernel reads as 0 or refuses")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_limit_and_what_is() {
        for (file, text) in [
            ("cgroup.procs", "1"),
            ("cgroup.freeze", "1"),
            ("cgroup.type", "threaded"),
            ("cgroup.subtree_control", "-memory"),
            ("memory.reclaim", "1G"),
            ("memory.peak", "reset"),
            ("cpu.pressure", "some 1 2"),
            ("memory", "1"),
            (".max", "1"),
            ("memory..max", "1"),
            ("memory.max/x", "1"),
            ("memory.max", ""),
            ("memory.max", " \n"),
            ("memory.max", "1\0"),
        ] {
            assert!(Unified::new().with(file, text).is_err(), "{file} {text:?}");
        }
        let files = Unified::new()
            .with("cgroup.max.depth", "3")
            .and_then(|files| files.with("cpuset.cpus", ""))
            .and_then(|files| files.with("memory.max", "1"))
            .and_then(|files| files.with("memory.max", "2"))
            .expect("limits");
        assert_eq!(files.to_string(), r#"cgroup.max.depth="3" cpuset.cpus="" memory.max="2""#);
        let contents: Vec<_> = files.settings().iter().map(Setting::content).collect();
        assert_eq!(contents, ["3", "", "2"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(file in "[a-z./]{0,12}", text in "\\PC*") {
            if let Ok(files) = Unified::new().with(file, text) {
                let _ = files.settings();
            }
        }
    }
}
