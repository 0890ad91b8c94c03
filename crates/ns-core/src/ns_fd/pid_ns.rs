//! Pid namespaces: a process's number in one of them, and the process behind such a number.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use cellkit_core::{Errno, Error, ErrorKind, ProcFd, ProcView, Result, Subject};

use super::NsFd;
use crate::Process;
use crate::namespaces::Pid;
use crate::status;
use crate::sys::nsfs::{self, Translation};

impl NsFd<Pid> {
    /// The number that the process of `pidfd` has in this pid namespace.
    ///
    /// * C call: ioctl(2) NS_GET_TGID_IN_PIDNS, Linux 6.11; before that the line NSpid of `/proc/PID/status`, which
    ///   needs ptrace access to the process.
    ///
    /// ```
    /// use ns_core::{Command, Namespaces, NsFd, Pid};
    ///
    /// # if !ns_core::probe()?.can_make.contains(Namespaces::PID) { return Ok(()) }
    /// let mut child = Command::new("/bin/sleep").arg("60").namespaces(Namespaces::PID).spawn()?;
    /// assert_eq!(NsFd::<Pid>::of_process(&child)?.pid_of(&child)?, 1);
    /// # child.kill()?;
    /// # child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// NotFound (ESRCH) when the process is neither in this namespace nor in one below it;
    /// [`Gone`](ErrorKind::Gone) when it has ended, or cannot be seen from where the caller is.
    ///
    /// See ioctl_nsfs(2), pid_namespaces(7): <https://man7.org/linux/man-pages/man7/pid_namespaces.7.html>.
    #[doc(alias("NS_GET_TGID_IN_PIDNS", "NSpid"))]
    pub fn pid_of(&self, pidfd: impl AsFd) -> Result<i32> {
        let pidfd = pidfd.as_fd();
        let proc = ProcFd::open(ProcView::Processes)?;
        let here = proc.pid_of(pidfd)?;
        let there = match nsfs::translate(self.as_fd(), Translation::TGID_IN, here) {
            Ok(pid) => pid,
            Err(Errno(libc::ENOTTY)) => return self.pid_by_proc(&proc, pidfd),
            Err(errno) => return Err(self.fail_on("ioctl NS_GET_TGID_IN_PIDNS", errno, here)),
        };
        // The number here was this process's own all the time if it is not free yet.
        is_alive(pidfd, here)?;
        Ok(there)
    }

    /// For kernels without the request: NSpid lists the process's numbers from the procfs's pid namespace down to its
    /// own, and the parents of its own say which of them is this one.
    fn pid_by_proc(&self, proc: &ProcFd, pidfd: BorrowedFd<'_>) -> Result<i32> {
        let process = proc.process(pidfd)?;
        let numbers = nspid(&process.read(Path::new("status"))?)?;
        let mut level = NsFd::<Pid>::of_process(pidfd)?;
        for number in numbers.into_iter().rev() {
            if level == *self {
                return Ok(number);
            }
            match level.parent() {
                Ok(Some(parent)) => level = parent,
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::Permission => break,
                Err(error) => return Err(error),
            }
        }
        Err(self.fail_on("read NSpid", Errno(libc::ESRCH), process.pid()))
    }

    /// A handle on the process that has this number in this pid namespace.
    ///
    /// The number is somebody else's once the process has ended; the answer is of whoever had it at one moment during
    /// the call, and stays theirs.
    ///
    /// * C calls: ioctl(2) NS_GET_PID_FROM_PIDNS, Linux 6.11; pidfd_open(2).
    /// * Privileges: none.
    ///
    /// ```no_run
    /// use ns_core::{NsFd, Pid};
    ///
    /// // The init of a container, of whose pid namespace there is a pin.
    /// let init = NsFd::<Pid>::open("/run/web/pid")?.open_process(1)?;
    /// init.signal(15)?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// NotFound (ESRCH) when there is no such process, or it cannot be seen from where the caller is; Invalid for the
    /// number of a thread that is not its process's first; [`Unsupported`](ErrorKind::Unsupported) on older kernels.
    ///
    /// See ioctl_nsfs(2), pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    #[doc(alias("NS_GET_PID_FROM_PIDNS", "pidfd_open"))]
    pub fn open_process(&self, pid: i32) -> Result<Process> {
        let here = self.pid_from_pidns(pid)?;
        let opened = cellkit_core::sys::pidfd_open(here);
        let pidfd = opened.map_err(|errno| match errno {
            // ENOENT since Linux 6.15.
            Errno(libc::EINVAL | libc::ENOENT) => Error::invalid("pidfd_open", "this is a thread and not a process"),
            errno => Error::from_errno("pidfd_open", errno.0),
        });
        let pidfd = pidfd.map_err(|error| error.on(Subject::Pid(pid)))?;
        // Between the two calls the number here may have gone to another: then that one's number there is another.
        if self.pid_in_pidns(here)? != pid {
            return Err(Error::gone("pidfd_open", None).on(Subject::Pid(pid)));
        }
        is_alive(pidfd.as_fd(), pid)?;
        Ok(Process::new(pidfd, here))
    }

    /// The number here of the thread that has number `pid` in this pid namespace. Numbers are given again: where you
    /// can, use [`open_process`](Self::open_process).
    ///
    /// * C call: ioctl(2) NS_GET_PID_FROM_PIDNS, Linux 6.11. "Here" is the caller's pid namespace. Privileges: none.
    ///
    /// ```
    /// use ns_core::{ErrorKind, NsFd, Pid};
    ///
    /// let me = std::process::id() as i32;
    /// match NsFd::<Pid>::of_this_thread()?.pid_from_pidns(me) {
    ///     Ok(here) => assert_eq!(here, me), // "here" is there
    ///     Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// NotFound (ESRCH); [`Unsupported`](ErrorKind::Unsupported) on older kernels.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_GET_PID_FROM_PIDNS")]
    pub fn pid_from_pidns(&self, pid: i32) -> Result<i32> {
        self.translate("ioctl NS_GET_PID_FROM_PIDNS", Translation::PID_FROM, pid)
    }

    /// As [`pid_from_pidns`](Self::pid_from_pidns), the number of that thread's process.
    ///
    /// * C call: ioctl(2) NS_GET_TGID_FROM_PIDNS, Linux 6.11.
    ///
    /// # Errors
    /// As [`pid_from_pidns`](Self::pid_from_pidns).
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_GET_TGID_FROM_PIDNS")]
    pub fn tgid_from_pidns(&self, pid: i32) -> Result<i32> {
        self.translate("ioctl NS_GET_TGID_FROM_PIDNS", Translation::TGID_FROM, pid)
    }

    /// The number in this pid namespace of the thread that has number `pid` here. For a process,
    /// [`pid_of`](Self::pid_of) a pidfd cannot mean another.
    ///
    /// * C call: ioctl(2) NS_GET_PID_IN_PIDNS, Linux 6.11. "Here" is the caller's pid namespace. Privileges: none.
    ///
    /// # Errors
    /// NotFound (ESRCH) when there is none, or it is neither in this namespace nor below;
    /// [`Unsupported`](ErrorKind::Unsupported) on older kernels.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_GET_PID_IN_PIDNS")]
    pub fn pid_in_pidns(&self, pid: i32) -> Result<i32> {
        self.translate("ioctl NS_GET_PID_IN_PIDNS", Translation::PID_IN, pid)
    }

    /// As [`pid_in_pidns`](Self::pid_in_pidns), the number of that thread's process.
    ///
    /// * C call: ioctl(2) NS_GET_TGID_IN_PIDNS, Linux 6.11.
    ///
    /// # Errors
    /// As [`pid_in_pidns`](Self::pid_in_pidns).
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_GET_TGID_IN_PIDNS")]
    pub fn tgid_in_pidns(&self, pid: i32) -> Result<i32> {
        self.translate("ioctl NS_GET_TGID_IN_PIDNS", Translation::TGID_IN, pid)
    }

    fn translate(&self, call: &'static str, translation: Translation, pid: i32) -> Result<i32> {
        nsfs::translate(self.as_fd(), translation, pid).map_err(|errno| match errno {
            Errno(libc::ENOTTY) => {
                Error::unsupported(call, "translating process numbers between pid namespaces", Some("6.11"))
            }
            errno => self.fail_on(call, errno, pid),
        })
    }

    fn fail_on(&self, call: &'static str, errno: Errno, pid: i32) -> Error {
        self.fail(call, errno).on(Subject::Thing(format!("pid {pid} and {self}")))
    }
}

fn is_alive(pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
    cellkit_core::sys::is_alive(pidfd)
        .map_err(|errno| Error::from_errno("pidfd_send_signal", errno.0).on(Subject::Pid(pid)).or_gone())
}

/// The numbers of the line NSpid.
pub(crate) fn nspid(status: &[u8]) -> Result<Vec<i32>> {
    let numbers = status::field(status, "NSpid").filter(|numbers| !numbers.is_empty());
    numbers
        .and_then(|numbers| numbers.split_whitespace().map(|word| word.parse().ok()).collect())
        .ok_or_else(|| Error::parse("read status", "it has no line NSpid, or one without numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_nspid() {
        assert_eq!(nspid(b"Name:\tNSpid:\nNSpid:\t4\t17\t1\nNSpgid:\t4\n").expect("numbers"), [4, 17, 1]);
        for wrong in [&b"Name:\ta\n"[..], b"NSpid:\tx\n", b""] {
            assert_eq!(nspid(wrong).expect_err("no numbers").kind(), ErrorKind::Parse);
        }
    }

    proptest::proptest! {
        #[test]
        fn numbers_come_back_as_they_were(numbers in proptest::collection::vec(1..i32::MAX, 1..33)) {
            let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let status = format!("Name:\tNSpid: 7\nNSpid:\t{}\nNSsid:\t1\n", words.join("\t"));
            proptest::prop_assert_eq!(nspid(status.as_bytes()).expect("numbers"), numbers);
        }

        #[test]
        fn whatever_a_status_holds_is_no_panic(status in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = nspid(&[b"NSpid:", status.as_slice()].concat());
            let _ = nspid(&status);
        }
    }

    mod root {
        use super::*;
        use crate::{Command, Namespaces};

        #[test]
        fn without_the_request_proc_knows_as_much() {
            faultkit::require!(root);
            faultkit::isolated!(|| {
                let mut outer =
                    Command::new("/bin/sleep").arg("60").namespaces(Namespaces::PID).spawn().expect("sleep");
                let (here, inside) = (NsFd::<Pid>::of_this_thread(), NsFd::<Pid>::of_process(&outer));
                let (here, inside) = (here.expect("here"), inside.expect("inside"));
                let proc = ProcFd::open(ProcView::Processes).expect("proc");
                let by_proc = |ns: &NsFd<Pid>| ns.pid_by_proc(&proc, outer.as_fd());
                assert_eq!(by_proc(&here).expect("here"), outer.pid());
                assert_eq!(by_proc(&inside).expect("inside"), 1);
                // This process is not inside.
                let me = cellkit_core::sys::pidfd_open(std::process::id() as i32).expect("pidfd_open");
                let error = inside.pid_by_proc(&proc, me.as_fd()).expect_err("outside");
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::NotFound, Some(libc::ESRCH)), "{error:#}");
                outer.kill().expect("kill");
                outer.wait().expect("wait");
            });
        }
    }
}
