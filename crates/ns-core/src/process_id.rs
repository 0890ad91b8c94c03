//! What tells a process from every other, today and after a reboot: to be written down and found again.
//!
//! A number alone is reused, sooner or later. Since Linux 6.9 each process has an inode of its own in pidfs, which is not
//! given to another until the machine is started again; before, it is told apart by the clock tick in which it started.
//! The kernel draws a new boot id at every start, and so a record that outlived one is known to be stale.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use cellkit_core::{Errno, Error, ProcFd, ProcView, Result, Subject};

use crate::{Process, sys};

/// What tells a process from every other: safe to keep in a file, and to make a handle from later.
///
/// It is text, and reads back as the same: `1234:inode=5678:boot=1b4e28ba-2fa1-11d2-883f-0016d3cca427`. Where the kernel has
/// no inodes for processes (before Linux 6.9) there is `start=`, the clock tick of its start, in the place of `inode=`.
/// Around it nothing is allowed: of a line that was read, [`trim`](str::trim) the end.
///
/// ```
/// use ns_core::{Command, ErrorKind, ProcessId};
///
/// let mut child = Command::new("sleep").arg("100").spawn()?;
/// let record = child.id()?.to_string(); // to a file, say
///
/// let found = record.parse::<ProcessId>()?.open()?; // by another program, much later
/// found.kill()?;
/// child.wait()?;
/// assert_eq!(record.parse::<ProcessId>()?.open().unwrap_err().kind(), ErrorKind::Gone);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See pidfd_open(2), proc_pid_stat(5): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
#[doc(alias = "pidfs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId {
    pid: i32,
    mark: Mark,
    boot: BootId,
}

/// What no two processes of one boot that have the same number have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mark {
    /// Its inode number in pidfs.
    Inode(u64),
    /// Field 22 of `/proc/PID/stat`.
    Start(u64),
}

/// `/proc/sys/kernel/random/boot_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BootId(u128);

impl ProcessId {
    /// That of the process of this pidfd: a [`Child`](crate::Child), [`PausedChild`](crate::PausedChild), [`Process`], or
    /// any other.
    ///
    /// * C call: fstat(2) of the pidfd where it is of pidfs (Linux 6.9), otherwise `/proc/PID/stat`; and, once in a program,
    ///   `/proc/sys/kernel/random/boot_id`. No privileges.
    ///
    /// ```
    /// use ns_core::{Process, ProcessId};
    ///
    /// let me = ProcessId::of(Process::open(std::process::id() as i32)?)?;
    /// println!("{me}");
    /// assert_eq!(me.to_string().parse::<ProcessId>()?, me);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Gone`](crate::ErrorKind::Gone) when the process has ended and been reaped; Invalid for what is no pidfd.
    ///
    /// See pidfd_open(2), proc_pid_stat(5): <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.
    #[doc(alias("pidfs", "starttime", "boot_id"))]
    pub fn of(pidfd: impl AsFd) -> Result<Self> {
        let pidfd = pidfd.as_fd();
        let boot = BootId::current()?;
        if let Some(inode) = pidfs_inode(pidfd)? {
            return Ok(Self { pid: number(pidfd)?, mark: Mark::Inode(inode), boot });
        }
        let (pid, start) = start_of(pidfd)?;
        Ok(Self { pid, mark: Mark::Start(start), boot })
    }

    /// Its number in the pid namespace in which this was made: for messages, not for system calls.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A handle on it, if it still is the same process. It must be asked in the pid namespace in which the id was made.
    ///
    /// * C call: pidfd_open(2), Linux 5.3, then as [`of`](Self::of). No privileges.
    ///
    /// # Errors
    /// [`Gone`](crate::ErrorKind::Gone) when it has ended and been reaped, also when its number is another's by now, or the
    /// machine has been started again.
    ///
    /// See <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    #[doc(alias = "pidfd_open")]
    pub fn open(&self) -> Result<Process> {
        let gone = || Error::gone("pidfd_open", None).on(Subject::Pid(self.pid));
        if self.boot != BootId::current()? {
            return Err(gone());
        }
        let process = Process::open(self.pid).map_err(Error::or_gone)?;
        let same = match self.mark {
            Mark::Inode(inode) => pidfs_inode(process.as_fd())? == Some(inode),
            Mark::Start(start) => start_of(process.as_fd())? == (self.pid, start),
        };
        if same { Ok(process) } else { Err(gone()) }
    }
}

/// Where the kernel has pidfs, and an inode number of 64 bits, the number that is this process's alone.
fn pidfs_inode(pidfd: BorrowedFd<'_>) -> Result<Option<u64>> {
    use std::os::fd::AsRawFd;
    const PIDFS_MAGIC: i64 = 0x5049_4446;
    let failed =
        |call: &'static str| move |errno: Errno| Error::from_errno(call, errno.0).on(Subject::Thing("a pidfd".into()));
    let magic = cellkit_core::sys::fs_magic(pidfd.as_raw_fd()).map_err(failed("fstatfs"))?;
    if magic != PIDFS_MAGIC || cfg!(not(target_pointer_width = "64")) {
        return Ok(None);
    }
    let (inode, _) = cellkit_core::sys::inode(pidfd).map_err(failed("fstat"))?;
    Ok(Some(inode))
}

/// The number of the process, asked of the pidfd itself where the kernel can (Linux 6.13).
pub(crate) fn number(pidfd: BorrowedFd<'_>) -> Result<i32> {
    match sys::pidfd_info(pidfd, 0) {
        Ok(info) => Ok(info.process as i32),
        Err(Errno(libc::ESRCH)) => {
            Err(Error::gone("ioctl PIDFD_GET_INFO", Some(libc::ESRCH)).on(Subject::Thing("a pidfd".into())))
        }
        Err(_) => ProcFd::open(ProcView::Processes)?.pid_of(pidfd),
    }
}

/// Its number and the clock tick of its start.
fn start_of(pidfd: BorrowedFd<'_>) -> Result<(i32, u64)> {
    let process = ProcFd::open(ProcView::Processes)?.process(pidfd)?;
    let stat = process.read(Path::new("stat"))?;
    let start = start_time(&stat)
        .ok_or_else(|| Error::parse("read stat", "field 22 is no number").on(Subject::Pid(process.pid())))?;
    Ok((process.pid(), start))
}

/// Field 22 of proc_pid_stat(5). Field 2 is a name in parentheses, which may hold any byte, parentheses too.
pub(crate) fn start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl BootId {
    fn current() -> Result<Self> {
        static CURRENT: OnceLock<BootId> = OnceLock::new();
        if let Some(boot) = CURRENT.get() {
            return Ok(*boot);
        }
        let path = Path::new("sys/kernel/random/boot_id");
        let text = match ProcFd::open(ProcView::Whole)?.read(path) {
            // Containers have /proc/sys mounted over itself, read-only.
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => Self::covered(path).ok_or(error)?,
            text => text?,
        };
        let boot = std::str::from_utf8(&text).ok().and_then(|text| text.trim_end().parse().ok());
        let boot = boot.ok_or_else(|| Error::parse("read boot_id", "it is no UUID").on(path))?;
        Ok(*CURRENT.get_or_init(|| boot))
    }
}

impl BootId {
    /// What is read where something is mounted on the way, if that is a procfs as well. Another file of procfs there would
    /// only make ids that are never found again, and whoever can mount it can do worse.
    fn covered(path: &Path) -> Option<Vec<u8>> {
        use std::io::Read;
        use std::os::fd::AsRawFd;
        const PROC_SUPER_MAGIC: i64 = 0x9fa0;
        const UUID_AND_NEWLINE: u64 = 37;
        // proc: ProcFd crosses no mount, and here one has to be crossed.
        let file = std::fs::File::open(Path::new("/proc").join(path)).ok()?;
        if cellkit_core::sys::fs_magic(file.as_raw_fd()) != Ok(PROC_SUPER_MAGIC) {
            return None;
        }
        let mut text = Vec::new();
        file.take(UUID_AND_NEWLINE).read_to_end(&mut text).ok()?;
        Some(text)
    }
}

impl fmt::Display for BootId {
    /// As a UUID: 8-4-4-4-12 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |shift: u32, digits: u32| self.0 >> shift & ((1 << (4 * digits)) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 8),
            part(80, 4),
            part(64, 4),
            part(48, 4),
            part(0, 12)
        )
    }
}

impl FromStr for BootId {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let parts: Vec<&str> = text.split('-').collect();
        let lengths = [8, 4, 4, 4, 12];
        if parts.len() != lengths.len() {
            return Err(());
        }
        let mut value = 0u128;
        for (part, length) in parts.into_iter().zip(lengths) {
            if part.len() != length || !part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(());
            }
            value = value << (4 * length) | u128::from_str_radix(part, 16).map_err(drop)?;
        }
        Ok(Self(value))
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, value) = match self.mark {
            Mark::Inode(inode) => ("inode", inode),
            Mark::Start(start) => ("start", start),
        };
        write!(f, "{}:{name}={value}:boot={}", self.pid, self.boot)
    }
}

impl FromStr for ProcessId {
    type Err = Error;

    /// # Errors
    /// [`Parse`](crate::ErrorKind::Parse) for what [`Display`](fmt::Display) does not write.
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut parts = text.split(':');
            let (pid, mark, boot) = (parts.next()?, parts.next()?, parts.next()?);
            let (name, value) = mark.split_once('=')?;
            let value = decimal(value)?;
            let mark = match name {
                "inode" => Mark::Inode(value),
                "start" => Mark::Start(value),
                _ => return None,
            };
            let pid = i32::try_from(decimal(pid)?).ok().filter(|pid| *pid > 0)?;
            let boot = boot.strip_prefix("boot=")?.parse().ok()?;
            parts.next().is_none().then_some(Self { pid, mark, boot })
        };
        parse().ok_or_else(|| {
            Error::parse("process id", "it is not of the form PID:inode=NUMBER:boot=UUID")
                .on(Subject::Value(text.to_owned()))
        })
    }
}

/// Digits as they are printed: no sign, no zero before others.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_id() -> impl Strategy<Value = ProcessId> {
        let mark = prop_oneof![any::<u64>().prop_map(Mark::Inode), any::<u64>().prop_map(Mark::Start)];
        (1..=i32::MAX, mark, any::<u128>().prop_map(BootId)).prop_map(|(pid, mark, boot)| ProcessId { pid, mark, boot })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(id in any_id()) {
            prop_assert_eq!(id.to_string().parse::<ProcessId>().unwrap(), id);
        }

        #[test]
        fn what_reads_is_what_was_written(text in "[0-9]{1,3}:(inode|start)=[0-9]{1,3}:boot=[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}") {
            if let Ok(id) = text.parse::<ProcessId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn no_text_is_a_panic(text in ".*") {
            let _ = text.parse::<ProcessId>();
        }
    }

    #[test]
    fn wrong_texts() {
        let boot = "boot=1b4e28ba-2fa1-11d2-883f-0016d3cca427";
        assert!(format!("1:inode=2:{boot}").parse::<ProcessId>().is_ok());
        for text in [
            String::new(),
            "1".into(),
            "1:inode=2".into(),
            format!("0:inode=2:{boot}"),
            format!("-1:inode=2:{boot}"),
            format!("+1:inode=2:{boot}"),
            format!("2147483648:inode=2:{boot}"),
            format!("1:inode=:{boot}"),
            format!("1:inode=18446744073709551616:{boot}"),
            format!("1:other=2:{boot}"),
            format!("1:inode=2:{boot}:"),
            format!("1:inode=2:{boot} "),
            "1:inode=2:boot=1b4e28ba2fa111d2883f0016d3cca427".into(),
            "1:inode=2:boot=1B4E28BA-2fa1-11d2-883f-0016d3cca427".into(),
        ] {
            let error = text.parse::<ProcessId>().unwrap_err();
            assert_eq!(error.kind(), cellkit_core::ErrorKind::Parse, "{text}");
        }
    }

    #[test]
    fn the_boot_id_is_the_same_across_a_mount() {
        let read = |path: &str| BootId::covered(Path::new(path));
        let text = String::from_utf8(read("sys/kernel/random/boot_id").unwrap()).unwrap();
        assert_eq!(text.trim_end().parse(), Ok(BootId::current().unwrap()));
        assert_eq!(read("../etc/passwd"), None, "what is no procfs is not read");
    }

    #[test]
    fn a_start_time_behind_an_odd_name() {
        let stat = b"7 (a) b) (c) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n";
        assert_eq!(start_time(stat), Some(4242));
        assert_eq!(start_time(b"7 (a S 1"), None);
        assert_eq!(start_time(b""), None);
    }
}
