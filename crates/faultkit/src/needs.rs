//! What a test needs of the machine, and what the machine promised.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{scan, sys};

/// One need of a test: a word of [`require!`](crate::require).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The effective user id is 0.
    Root,
    /// The effective user id is not 0.
    User,
    /// This process may make a user namespace.
    UserNamespace,
    /// The kernel is this version or newer.
    Kernel(&'static str),
    /// A cgroup2 file system is mounted, and its root offers this controller.
    Cgroup2(Option<&'static str>),
    /// systemd is init, and for an ordinary user there is a user manager.
    Systemd,
    /// It runs in a virtual machine of `cargo xtask vm`, whose settings are the test's to change.
    Vm,
    /// This program is in `PATH`.
    Program(&'static str),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::User => f.write_str("an ordinary user"),
            Self::UserNamespace => f.write_str("a user namespace"),
            Self::Kernel(version) => write!(f, "Linux {version}"),
            Self::Cgroup2(None) => f.write_str("a cgroup2 mount"),
            Self::Cgroup2(Some(controller)) => write!(f, "the cgroup2 controller {controller}"),
            Self::Systemd => f.write_str("systemd as init"),
            Self::Vm => f.write_str("a virtual machine"),
            Self::Program(name) => write!(f, "the program {name}"),
        }
    }
}

impl Need {
    /// Whether all `needs` are met. If not, says so: prints and counts a skip of `test`.
    ///
    /// # Panics
    /// When one that is not met was promised by `CELLKIT_EXPECT`, or when a version is not of the form `6.8`.
    #[must_use]
    #[track_caller]
    pub fn all_met(test: &str, needs: &[Self]) -> bool {
        let Some((need, why)) = needs.iter().find_map(|need| Some((need, need.missing()?))) else { return true };
        let expect = std::env::var("CELLKIT_EXPECT").unwrap_or_default();
        assert!(!need.is_promised(&expect), "{test} needs {need}, which CELLKIT_EXPECT={expect} promises: {why}");
        skip(test, &format!("skipped: needs {need} ({why})"));
        false
    }

    /// Why it is not met; `None` when it is.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Root => (sys::euid() != 0).then(|| format!("this is uid {}", sys::euid())),
            Self::User => (sys::euid() == 0).then(|| "this is root".to_owned()),
            Self::UserNamespace => sys::try_user_namespace().err().map(|e| format!("unshare: {e}")),
            Self::Kernel(wanted) => {
                let running = running_kernel();
                let wanted = version(wanted).unwrap_or_else(|| panic!("{wanted:?} is not a kernel version"));
                (version(&running)? < wanted).then(|| format!("this is {running}"))
            }
            Self::Cgroup2(controller) => match (scan::mounts::cgroup2(), controller) {
                (None, _) => Some("no cgroup2 file system is mounted".to_owned()),
                (Some(_), None) => None,
                (Some(mount), Some(wanted)) => {
                    let offered = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
                    let offers = offered.split_whitespace().any(|name| name == wanted);
                    (!offers).then(|| format!("{} offers: {}", mount.display(), offered.trim()))
                }
            },
            // As sd_booted(3) finds it out.
            Self::Systemd if !Path::new("/run/systemd/system").is_dir() => Some("it is not".to_owned()),
            Self::Systemd => {
                let bus = PathBuf::from(format!("/run/user/{}/bus", sys::euid()));
                (sys::euid() != 0 && !bus.exists()).then(|| format!("there is no {}", bus.display()))
            }
            Self::Vm => std::env::var_os("CELLKIT_VM").is_none().then(|| "CELLKIT_VM is not set".to_owned()),
            Self::Program(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found = std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
                (!found).then(|| "not in PATH".to_owned())
            }
        }
    }

    /// Whether a word of `expect` promises it.
    pub(crate) fn is_promised(self, expect: &str) -> bool {
        expect.split(',').any(|promise| {
            let (word, value) = match promise.trim().split_once('=') {
                Some((word, value)) => (word, Some(value)),
                None => (promise.trim(), None),
            };
            match (self, word) {
                (Self::Root, "root") | (Self::User, "user") | (Self::UserNamespace, "userns") => true,
                (Self::Systemd, "systemd") | (Self::Vm, "vm") => true,
                (Self::Kernel(wanted), "kernel") => match value {
                    Some(promised) => version(wanted) <= version(promised),
                    None => true,
                },
                (Self::Cgroup2(wanted), "cgroup2") => wanted.is_none() || value.is_none() || value == wanted,
                (Self::Program(wanted), "program") => value.is_none() || value == Some(wanted),
                _ => false,
            }
        })
    }
}

fn skip(test: &str, line: &str) {
    // Not eprintln!, which the test harness captures and throws away when the test passes, as this one does. One write,
    // so that lines of parallel tests do not mix.
    let _ = std::io::stderr().write_all(format!("{line}: {test}\n").as_bytes());
    if let Some(file) = std::env::var_os("CELLKIT_SKIPS") {
        let written = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&file)
            .and_then(|mut file| file.write_all(format!("{test}\t{line}\n").as_bytes()));
        assert!(written.is_ok(), "the skip of {test} could not be counted in {}: {written:?}", file.display());
    }
}

fn running_kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The first two numbers of `6.18.44-fc`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(version("6.18.44-fc-v595") > version("6.8"));
        assert!(version("6.8.0") == version("6.8"));
        assert!(version("6").is_none());
        assert_eq!(crate::need!(kernel(6.10)), Need::Kernel("6.10"));
    }

    #[test]
    fn promises() {
        assert!(Need::Root.is_promised("root,program"));
        assert!(!Need::Root.is_promised("user"));
        assert!(!Need::Root.is_promised(""));
        assert!(Need::Systemd.is_promised("user,systemd") && !Need::Systemd.is_promised("root,cgroup2,program"));
        assert!(Need::Vm.is_promised("root,vm") && !Need::Vm.is_promised("root"));
        assert!(Need::Program("nft").is_promised("root, program"));
        assert!(Need::Program("nft").is_promised("program=nft"));
        assert!(!Need::Program("nft").is_promised("program=ip"));
        assert!(Need::Kernel("6.8").is_promised("kernel=6.12"));
        assert!(!Need::Kernel("6.13").is_promised("kernel=6.12"));
        assert!(Need::Cgroup2(Some("memory")).is_promised("cgroup2"));
        assert!(!Need::Cgroup2(Some("memory")).is_promised("cgroup2=cpu"));
        assert!(Need::Cgroup2(None).is_promised("cgroup2=cpu"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let why = Need::Program("no-such-program-anywhere").missing();
        assert_eq!(why.as_deref(), Some("not in PATH"));
        assert!(Need::Kernel("999.0").missing().unwrap().starts_with("this is "));
        assert_eq!(Need::Kernel("3.0").missing(), None);
        assert_ne!(Need::Root.missing().is_some(), Need::User.missing().is_some());
    }

    #[test]
    fn a_skip_returns_from_the_test() {
        fn test(reached: &mut bool) {
            // Not require!: this skip is the subject, so it must neither be counted nor fail.
            if Need::Kernel("999.0").missing().is_some() {
                return;
            }
            *reached = true;
        }
        let mut reached = false;
        test(&mut reached);
        assert!(!reached);
    }
}
