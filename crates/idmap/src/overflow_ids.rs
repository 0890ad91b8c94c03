//! The ids that stand for ids that a namespace does not have.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::{Error, ProcFd, Result};

use crate::decimal;

/// The ids that stat(2), getuid(2) and the like show for an id that the user namespace of the asking process has not:
/// "nobody", 65534 almost everywhere.
///
/// They say nothing about who it is: every unmapped id looks like this, and so does a file that really belongs to 65534.
/// chown(2) to an id that is not mapped fails (EINVAL); so does nothing that merely looks at it.
///
/// ```
/// use cellkit_core::{ProcFd, ProcView};
/// use idmap::OverflowIds;
///
/// let overflow = OverflowIds::read(&ProcFd::open(ProcView::Whole)?)?;
/// println!("strangers show as {}:{}", overflow.uid, overflow.gid);
/// assert_eq!(OverflowIds::default(), OverflowIds { uid: 65_534, gid: 65_534 });
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See `/proc/sys/kernel/overflowuid` in proc_sys_kernel(5):
/// <https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html>.
#[doc(alias = "overflowuid")]
#[doc(alias = "overflowgid")]
#[doc(alias = "nobody")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OverflowIds {
    /// For users.
    pub uid: u32,
    /// For groups.
    pub gid: u32,
}

impl OverflowIds {
    /// Reads `/proc/sys/kernel/overflowuid` and `overflowgid`, which count for the whole machine. Needs no privilege.
    ///
    /// `proc` shows all of procfs: [`ProcView::Whole`](cellkit_core::ProcView::Whole).
    ///
    /// # Errors
    /// Those of [`ProcFd::read`], NotFound for a view of processes only among them;
    /// [`ErrorKind::Parse`](cellkit_core::ErrorKind::Parse) when a file holds no number.
    pub fn read(proc: &ProcFd) -> Result<Self> {
        let number = |file: &str| {
            let path = Path::new("sys/kernel").join(file);
            let content = proc.read(&path)?;
            let number = std::str::from_utf8(&content).ok().and_then(|text| decimal::parse(text.trim_end()));
            number.ok_or_else(|| Error::parse("read", "this is not a number").on(Path::new("/proc").join(path)))
        };
        Ok(Self { uid: number("overflowuid")?, gid: number("overflowgid")? })
    }
}

impl Default for OverflowIds {
    /// 65534 for both, as the kernel has them until somebody writes another.
    fn default() -> Self {
        Self { uid: 65_534, gid: 65_534 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::{ErrorKind, ProcView};

    #[test]
    fn they_are_what_the_kernel_says() {
        let overflow = OverflowIds::read(&ProcFd::open(ProcView::Whole).expect("proc")).expect("ids");
        let read = |file| std::fs::read_to_string(file).expect(file);
        assert_eq!(format!("{}\n", overflow.uid), read("/proc/sys/kernel/overflowuid"));
        assert_eq!(format!("{}\n", overflow.gid), read("/proc/sys/kernel/overflowgid"));
    }

    #[test]
    fn a_view_of_processes_only_has_none() {
        let proc = ProcFd::open(ProcView::Processes).expect("proc");
        // Without CAP_SYS_ADMIN it is the machine's /proc, which shows everything.
        if proc.is_private() {
            assert_eq!(OverflowIds::read(&proc).expect_err("subset=pid").kind(), ErrorKind::NotFound);
        } else {
            assert!(OverflowIds::read(&proc).is_ok());
        }
    }
}
