//! Putting processes and threads into a group.
//!
//! The kernel takes numbers only: `cgroup.procs` and `cgroup.threads` hold them as the writer's pid namespace has them. A
//! number may be given to another process when its own has ended. A pidfd closes that gap: the number cannot be reused
//! before the process is reaped, so a process that lives after the write is the one that was moved.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use cellkit_core::{Errno, ProcFd, ProcView, Subject, sys};

use crate::{Cgroup, Error, ErrorKind, Result, sys as own_sys};

impl Cgroup {
    /// Writes `cgroup.procs`: moves the process of `pidfd`, with all its threads, into this group.
    ///
    /// The calling process's own children are better born in the group (CLONE_INTO_CGROUP, see [`AsFd`]): moving a process
    /// takes a lock that every fork and exit of the machine waits for.
    ///
    /// * C call: ioctl(2) PIDFD_GET_INFO for the number (Linux 6.13), else `/proc/self/fdinfo`; then write(2).
    /// * Privileges: write access to `cgroup.procs` of this group and of the nearest group that is above both this one and
    ///   the one the process is in.
    ///
    /// ```no_run
    /// use cgroupfs::{Hierarchy, Result};
    /// use std::os::fd::OwnedFd;
    ///
    /// fn into_web(pidfd: &OwnedFd) -> Result<()> {
    ///     Hierarchy::detect()?.open("/web")?.attach(pidfd)
    /// }
    /// ```
    ///
    /// See cgroups(7): <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
    ///
    /// # Errors
    /// Gone when the process has ended, or this group has been removed; Invalid when this is not a pidfd; Busy when this
    /// group passes controllers down; Unsupported when it is threaded or made invalid by a threaded one; Permission.
    #[doc(alias = "cgroup.procs")]
    pub fn attach(&self, pidfd: impl AsFd) -> Result<()> {
        let pidfd = pidfd.as_fd();
        let number = number_of(pidfd)?.process;
        self.attach_pid(number)?;
        still_alive(pidfd, "write cgroup.procs", number)
    }

    /// The same by number, as this pid namespace has it. Only for a process that cannot be reaped meanwhile: a child that
    /// was not waited for yet, or the calling process.
    ///
    /// # Errors
    /// Invalid for 0 and below; as [`attach`](Self::attach).
    #[doc(alias = "cgroup.procs")]
    pub fn attach_pid(&self, pid: i32) -> Result<()> {
        self.attach_number("cgroup.procs", pid)
    }

    /// The same for the calling process. It keeps what it has open and mapped, but what it allocates from now on is this
    /// group's.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    #[doc(alias = "cgroup.procs")]
    pub fn attach_self(&self) -> Result<()> {
        self.write("cgroup.procs", "0")
    }

    /// `cgroup.threads`: the threads in the group itself, in no order. One that this pid namespace cannot see is 0.
    ///
    /// * Kernel: 4.14.
    ///
    /// # Errors
    /// Gone.
    #[doc(alias = "cgroup.threads")]
    pub fn threads(&self) -> Result<Vec<i32>> {
        crate::group::parse_procs(&self.read("cgroup.threads")?)
    }

    /// Writes `cgroup.threads`: moves the thread of `pidfd` alone into this group, one of the threaded subtree that the
    /// process is in.
    ///
    /// * Kernel: 4.14; 6.9 for a pidfd of a thread (pidfd_open(2) with PIDFD_THREAD).
    /// * Privileges: as [`attach`](Self::attach).
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#threads>.
    ///
    /// # Errors
    /// Invalid when this is not the pidfd of a thread: that of a process means all of them. Unsupported when this group and
    /// the thread's are not in one threaded subtree; as [`attach`](Self::attach).
    #[doc(alias("cgroup.threads", "PIDFD_THREAD"))]
    pub fn attach_thread(&self, pidfd: impl AsFd) -> Result<()> {
        const WRITE: &str = "write cgroup.threads";
        let pidfd = pidfd.as_fd();
        let flags = nix::fcntl::fcntl(pidfd, nix::fcntl::FcntlArg::F_GETFL)
            .map_err(|errno| Error::from_errno("fcntl F_GETFL", errno as i32))?;
        let number = number_of(pidfd)?.thread;
        // PIDFD_THREAD has this number, and stays visible.
        if flags & libc::O_EXCL == 0 {
            let why = "this pidfd is of a process, not of a thread: pidfd_open with PIDFD_THREAD makes one";
            return Err(Error::invalid(WRITE, why).on(Subject::Pid(number)));
        }
        self.attach_tid(number)?;
        still_alive(pidfd, WRITE, number)
    }

    /// The same by the thread's number. Only for a thread that cannot end meanwhile.
    ///
    /// # Errors
    /// Invalid for 0 and below; as [`attach_thread`](Self::attach_thread).
    #[doc(alias = "cgroup.threads")]
    pub fn attach_tid(&self, tid: i32) -> Result<()> {
        self.attach_number("cgroup.threads", tid)
    }

    /// The same for the calling thread.
    ///
    /// # Errors
    /// As [`attach_thread`](Self::attach_thread).
    #[doc(alias = "cgroup.threads")]
    pub fn attach_this_thread(&self) -> Result<()> {
        self.write("cgroup.threads", "0")
    }

    fn attach_number(&self, file: &'static str, number: i32) -> Result<()> {
        if number <= 0 {
            // 0 would be the caller.
            let why = "this is no number of a process: one that is listed as 0 is of another pid namespace";
            return Err(Error::invalid(format!("write {file}"), why).on(Subject::Pid(number)));
        }
        self.write(file, &number.to_string()).map_err(|error| match error.raw_os_error() {
            // The group is there: its file was opened.
            Some(libc::ESRCH) => error.or_gone().on(Subject::Pid(number)),
            _ => error,
        })
    }
}

struct Number {
    process: i32,
    thread: i32,
}

/// The number of the process, as the calling process sees it.
fn number_of(pidfd: BorrowedFd<'_>) -> Result<Number> {
    const INFO: &str = "ioctl PIDFD_GET_INFO";
    match own_sys::pidfd_numbers(pidfd) {
        Ok((thread, process)) => Ok(Number { process, thread }),
        Err(Errno(errno @ libc::ESRCH)) => Err(Error::gone(INFO, Some(errno)).on(Subject::Thing("a pidfd".into()))),
        // An older kernel, or not a pidfd: procfs knows both.
        Err(_) => {
            let number = ProcFd::open(ProcView::Processes)?.pid_of(pidfd)?;
            Ok(Number { process: number, thread: number })
        }
    }
}

/// Whether the number that was written was still the one of `pidfd`.
fn still_alive(pidfd: BorrowedFd<'_>, operation: &'static str, number: i32) -> Result<()> {
    match sys::is_alive(pidfd) {
        Ok(()) => Ok(()),
        // Whose it is may not be ours to signal, and it is there.
        Err(Errno(libc::EPERM)) => Ok(()),
        Err(errno) => {
            let error = Error::from_errno(operation, errno.0).on(Subject::Pid(number)).or_gone();
            Err(if error.kind() == ErrorKind::Gone { error.with_hint("the process ended meanwhile") } else { error })
        }
    }
}
