//! What one write sets, and the few things to know about the shapes of the files: how an old value is found, compared and
//! put back.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use cellkit_core::StepText;

use crate::words::number;
use crate::{Controller, interface};

/// One thing that a file holds: all of `memory.max`, or the line of `8:0` in `io.max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub file: Cow<'static, str>,
    /// The first word of its line, in a file that has a line for each disk, resource or region.
    pub key: Option<String>,
    /// The rest of the line.
    pub value: String,
    /// Whether a new group begins so: then it need not be written to one, and takes no controller.
    pub initial: bool,
    pub reason: &'static str,
}

/// How a file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One value.
    Whole,
    /// A line a key. A key without a line has this value.
    Lines { absent: &'static str },
    /// A line a key, of `NAME=VALUE` words. A name that is not there has this value.
    Pairs { absent: &'static str },
}

fn shape(file: &str) -> Shape {
    match file {
        "io.max" | "rdma.max" => Shape::Pairs { absent: "max" },
        "io.latency" => Shape::Pairs { absent: "0" },
        "io.weight" | "io.bfq.weight" => Shape::Lines { absent: "default" },
        "misc.max" | "dmem.max" => Shape::Lines { absent: "max" },
        "dmem.min" | "dmem.low" => Shape::Lines { absent: "0" },
        _ => Shape::Whole,
    }
}

impl Setting {
    pub fn new(file: impl Into<Cow<'static, str>>, value: impl ToString, reason: &'static str) -> Self {
        Self { file: file.into(), key: None, value: value.to_string(), initial: false, reason }
    }

    /// The same, of one line.
    pub fn of(mut self, key: impl ToString) -> Self {
        self.key = Some(key.to_string());
        self
    }

    /// The same, where a new group may begin so already.
    pub fn initial_if(mut self, initial: bool) -> Self {
        self.initial = initial;
        self
    }

    /// A line of raw text for `file`: its first word is the key, in files that have one.
    pub fn raw(file: &str, line: &str, reason: &'static str) -> Self {
        let line = line.trim();
        let setting = Self::new(file.to_owned(), line, reason);
        match (shape(file), line.split_once(char::is_whitespace)) {
            (Shape::Whole, _) => setting,
            (_, Some((key, rest))) => Self { key: Some(key.to_owned()), value: rest.trim().to_owned(), ..setting },
            // The default weight may be written without its word.
            (Shape::Lines { absent: "default" }, None) => setting.of("default"),
            (_, None) => setting,
        }
    }

    /// What is written.
    pub fn content(&self) -> String {
        content(self.key.as_deref(), &self.value)
    }

    pub fn controller(&self) -> Option<Controller> {
        match interface::find(&self.file) {
            Some(known) => known.controller,
            None => self.file.split_once('.').and_then(|(prefix, _)| prefix.parse().ok()),
        }
    }

    pub fn operation(&self) -> String {
        format!("write {}", self.file)
    }

    pub fn describe(&self) -> StepText {
        StepText::new(self.operation(), format!("{:?}", self.content()), self.reason)
    }

    /// Whether both set the same thing.
    pub fn is_of(&self, other: &Self) -> bool {
        self.file == other.file && self.key == other.key
    }

    /// The value that a file with this content has, of what this sets.
    pub fn value_in(&self, content: &str) -> String {
        match shape(&self.file) {
            Shape::Whole => content.trim().to_owned(),
            Shape::Lines { absent } => self.line_in(content).unwrap_or(absent).to_owned(),
            Shape::Pairs { absent } => {
                let line = self.line_in(content).unwrap_or_default();
                let names = pairs(&self.value).map(|(name, _)| {
                    let found = pairs(line).find(|(other, _)| *other == name);
                    format!("{name}={}", found.map_or(absent, |(_, value)| value))
                });
                names.collect::<Vec<_>>().join(" ")
            }
        }
    }

    fn line_in<'a>(&self, content: &'a str) -> Option<&'a str> {
        let key = self.key.as_deref().unwrap_or_default();
        content.lines().find_map(|line| {
            let (first, rest) = line.trim().split_once(char::is_whitespace)?;
            (first == key).then_some(rest.trim())
        })
    }

    /// Whether writing this where `before` stands would change nothing.
    pub fn is_in_force(&self, before: &str) -> bool {
        let (asked, before) = (self.value.trim(), before.trim());
        if asked == before {
            return true;
        }
        match &*self.file {
            "cpu.max" => {
                let mut before = before.split_ascii_whitespace();
                !asked.is_empty() && asked.split_ascii_whitespace().all(|word| before.next() == Some(word))
            }
            "cpu.uclamp.min" | "cpu.uclamp.max" => match (asked.parse::<f64>(), before.parse::<f64>()) {
                (Ok(asked), Ok(before)) => asked == before,
                _ => false,
            },
            file => match (amount(asked), amount(before), unit(file)) {
                (Some(asked), Some(before), Some(unit)) => asked / unit == before / unit && asked != u64::MAX,
                _ => false,
            },
        }
    }

    /// The writes that bring `before` back.
    pub fn restore(&self, before: &str) -> Vec<String> {
        match (shape(&self.file), &*self.file) {
            // The kernel adds why a partition is not valid.
            (_, "cpuset.cpus.partition") => vec![first_word(before).to_owned()],
            // No more than one line is read of a write.
            (Shape::Whole, _) if before.lines().count() > 1 => before.lines().map(str::to_owned).collect(),
            // An empty list is a line without words: a write of no bytes does not reach the kernel's parser.
            (Shape::Whole, _) if before.is_empty() => vec!["\n".to_owned()],
            _ => vec![content(self.key.as_deref(), before)],
        }
    }
}

fn content(key: Option<&str>, value: &str) -> String {
    match key {
        Some(key) => format!("{key} {value}"),
        None => value.to_owned(),
    }
}

fn pairs(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split_ascii_whitespace().filter_map(|word| word.split_once('='))
}

pub(crate) fn first_word(text: &str) -> &str {
    text.split_ascii_whitespace().next().unwrap_or_default()
}

/// A number as the kernel's files take it, with the suffixes that some take; `max` is the greatest.
pub(crate) fn amount(text: &str) -> Option<u64> {
    let text = text.trim();
    if text == "max" {
        return Some(u64::MAX);
    }
    let shift = match text.bytes().last()?.to_ascii_lowercase() {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        b'p' => 50,
        b'e' => 60,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { text.get(..text.len().checked_sub(1)?)? };
    number::<u64>(digits)?.checked_mul(1 << shift)
}

/// What the kernel rounds the file's values down to.
fn unit(file: &str) -> Option<u64> {
    if let Some(rest) = file.strip_prefix("hugetlb.") {
        return amount(rest.split_once('B')?.0).filter(|&size| size > 0);
    }
    let is_amount = file.starts_with("memory.") && !matches!(file, "memory.oom.group" | "memory.zswap.writeback");
    is_amount.then(page_size)
}

/// sysconf(3): bytes a page.
pub(crate) fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).filter(|&size| size > 0).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_values_are_found_and_put_back() {
        let disks = "8:0 rbps=max wbps=5 riops=max wiops=7\n8:16 rbps=1 wbps=max riops=max wiops=max\n";
        let asked = Setting::raw("io.max", "8:0 wiops=9 rbps=3", "");
        assert_eq!(asked.value_in(disks), "wiops=7 rbps=max");
        assert_eq!(asked.restore("wiops=7 rbps=max"), ["8:0 wiops=7 rbps=max"]);
        assert_eq!(Setting::raw("io.max", "8:32 wbps=9", "").value_in(disks), "wbps=max");

        let weights = "default 100\n8:16 200\n";
        let all = Setting::raw("io.weight", "50", "");
        assert_eq!((all.content().as_str(), all.value_in(weights).as_str()), ("default 50", "100"));
        let one = Setting::raw("io.weight", "8:0 50", "");
        assert_eq!(
            (one.value_in(weights).as_str(), one.restore("default")),
            ("default", vec!["8:0 default".to_owned()])
        );

        let none = Setting::new("cpuset.cpus", "0-3", "");
        assert_eq!(none.restore(&none.value_in("\n")), ["\n"]);
        let partition = Setting::new("cpuset.cpus.partition", "member", "");
        assert_eq!(partition.restore("root invalid (Cpu list in cpuset.cpus not exclusive)"), ["root"]);
        let unknown = Setting::raw("misc.future", "a 1", "");
        assert_eq!((unknown.key.clone(), unknown.restore("a 0\nb 2")), (None, vec!["a 0".into(), "b 2".into()]));
    }

    #[test]
    fn what_changes_nothing() {
        for (file, asked, before, same) in [
            ("memory.max", "max", "max", true),
            ("memory.max", "1048577", "1048576", true),
            ("memory.max", "1M", "1048576", true),
            ("memory.max", "1052672", "1048576", false),
            ("memory.oom.group", "1", "0", false),
            ("hugetlb.2MB.max", "3000000", "2097152", true),
            ("hugetlb.1GB.rsvd.max", "3000000", "2097152", true),
            ("hugetlb.2MB.max", "2097152", "0", false),
            ("cpu.max", "max", "max 50000", true),
            ("cpu.max", "max 100000", "max 50000", false),
            ("cpu.max", "", "max 50000", false),
            ("cpu.uclamp.min", "20", "20.00", true),
            ("cpu.uclamp.max", "max", "20.00", false),
            ("pids.max", "12", "13", false),
            ("cpuset.cpus", "", "", true),
            ("cpuset.cpus.partition", "root", "root invalid (x)", false),
        ] {
            assert_eq!(Setting::raw(file, asked, "").is_in_force(before), same, "{file} {asked:?} {before:?}");
        }
    }

    #[test]
    fn amounts() {
        for (text, number) in [
            ("0", Some(0)),
            ("4k", Some(4096)),
            ("2M", Some(2 << 20)),
            ("max", Some(u64::MAX)),
            ("-1", None),
            ("", None),
            ("k", None),
            ("1.5M", None),
            ("16e", None),
        ] {
            assert_eq!(amount(text), number, "{text}");
        }
    }
}
