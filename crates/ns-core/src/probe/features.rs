//! What the kernel has: asked of each call itself, not guessed from the version.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use cellkit_core::Errno;

use super::{Area, Finding};
use crate::sys::{self, features};

const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;
const SECCOMP_RET_USER_NOTIF: u32 = 0x7fc0_0000;
/// The PIDFD_GET_*_NAMESPACE request of a kind that every kernel has.
const UTS: u8 = 10;

pub(super) fn probe(findings: &mut Vec<Finding>) {
    findings.push(match sys::release() {
        Ok(release) => Finding::fact(Area::Kernel, "kernel release", release),
        Err(errno) => Finding::unknown(Area::Kernel, "kernel release", format!("uname: {errno}")),
    });
    let pidfd = cellkit_core::sys::pidfd_open(std::process::id() as i32);
    let by_pidfd = |ask: &dyn Fn(std::os::fd::BorrowedFd<'_>) -> Result<(), Errno>| match &pidfd {
        Ok(pidfd) => ask(pidfd.as_fd()),
        Err(errno) => Err(*errno),
    };
    let asked = [
        ("clone3", "5.3", "clone(2) is used, which has no set_tid", features::clone3()),
        ("CLONE_INTO_CGROUP", "5.7", "the child joins its cgroup itself", features::clone_into_cgroup()),
        ("pidfd_open", "5.3", "nothing here works without it", by_pidfd(&|_| Ok(()))),
        (
            "PIDFD_GET_*_NAMESPACE",
            "6.11",
            "namespaces of a process are found by /proc",
            by_pidfd(&|pidfd| sys::pidfd_namespace(pidfd, UTS).map(drop)),
        ),
        (
            "PIDFD_GET_INFO",
            "6.13",
            "the end of a child that another one reaped is lost",
            by_pidfd(&|pidfd| sys::pidfd_info(pidfd, 0).map(drop)),
        ),
        ("close_range", "5.9", "descriptors of the caller cannot be closed in a child", features::close_range()),
        ("seccomp filter", "3.5", "no filter can be installed", features::seccomp_action(SECCOMP_RET_ERRNO)),
        (
            "seccomp user notification",
            "5.0",
            "no call can be answered by the caller",
            features::seccomp_action(SECCOMP_RET_USER_NOTIF),
        ),
    ];
    findings.extend(asked.map(|(what, since, otherwise, answer)| finding(what, since, otherwise, answer, "there")));
    let landlock = features::landlock_abi();
    let version = landlock.map_or(String::new(), |abi| format!("version {abi}"));
    findings.push(match landlock {
        // In the kernel, but not among the modules that were switched on.
        Err(errno @ Errno(libc::EOPNOTSUPP)) => {
            let fix = "it is switched off: add landlock to the kernel's parameter lsm= and boot again";
            Finding::no(Area::Kernel, "Landlock", format!("landlock_create_ruleset: {errno}"), fix)
        }
        answer => finding("Landlock", "5.13", "no access can be ruled out by paths", answer.map(drop), &version),
    });
    if let Some(release) = sys::kernel_release() {
        findings.push(match release >= (6, 3) {
            true => Finding::yes(Area::Kernel, "time namespace at execve", "Linux 6.3 or newer"),
            false => Finding::no(
                Area::Kernel,
                "time namespace at execve",
                "this kernel enters it at the next fork only",
                "boot Linux 6.3 or newer to start programs with clock offsets",
            ),
        });
    }
}

fn finding(
    what: &'static str,
    since: &'static str,
    otherwise: &'static str,
    answer: Result<(), Errno>,
    detail: &str,
) -> Finding {
    match answer {
        Ok(()) => Finding::yes(Area::Kernel, what, detail),
        Err(errno) => {
            let hidden = match errno.0 {
                libc::EPERM | libc::EACCES => "a seccomp filter forbids it: allow it in the profile of the container",
                _ if is_at_least(since) => "a seccomp filter hides it: allow it in the profile of the container",
                _ => "it needs a newer kernel",
            };
            Finding::no(Area::Kernel, what, errno.to_string(), format!("{hidden} (Linux {since}); {otherwise}"))
        }
    }
}

fn is_at_least(since: &str) -> bool {
    let mut numbers = since.split('.').map(|number| number.parse().unwrap_or(0));
    let wanted = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    sys::kernel_release().is_some_and(|running| running >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_since_when_and_what_is_done_instead() {
        let found = finding("clone3", "5.3", "clone(2) is used", Err(Errno(libc::ENOSYS)), "");
        assert_eq!(found.detail, "function not implemented (ENOSYS)");
        let fix = "a seccomp filter hides it: allow it in the profile of the container (Linux 5.3); clone(2) is used";
        assert_eq!(found.fix.as_deref(), Some(fix), "every kernel that tests run on has it");
        let found = finding("x", "99.1", "y", Err(Errno(libc::ENOTTY)), "");
        assert_eq!(found.fix.as_deref(), Some("it needs a newer kernel (Linux 99.1); y"));
    }
}
