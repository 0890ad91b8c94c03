//! Moves the calling process into namespaces: existing ones by setns(2), new ones by unshare(2).
//!
//! A start in namespaces is [`Command`](crate::Command)'s, and work in them that has an end is
//! [`with_namespaces`](crate::with_namespaces)'s. These functions are for a program that itself moves and stays: a
//! small launcher, a test.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use cellkit_core::{Errno, Error, ErrorKind, ProcFd, ProcView, Result, Subject};

use crate::hint::HINTS;
use crate::namespaces::{Kind, Namespaces, by_kind};
use crate::ns_fd::{AnyNamespace, NsFd, NsId, ThisThread};
use crate::status;
use crate::sys::{self, join};
use crate::with_namespaces::{copy_memory_from_now_on, copy_memory_in_this_thread};

/// Moves the calling process, which has one thread, into all of these namespaces, as nsenter(1) does.
///
/// The order in which they are given does not matter. Each is joined when it can be: what the caller has power over
/// first, then the user namespace, then what that one gives power over, the mount namespace last. Those that the caller
/// is in already are left out, also the user namespace, which the kernel would not let it join again.
///
/// * C call: setns(2), one for each. To join several of one process at once, or none of them, use [`enter_process`].
/// * [`Pid`](crate::Pid) and [`Time`](crate::Time): a pid namespace gets the children of the process, not the process
///   itself; a time namespace gets both.
/// * [`Mount`](crate::Mount): root and working directory become the root of that namespace. Open what you need before.
/// * A [`Command`](crate::Command) that is started afterwards gets a copy of the memory, as one that
///   [joins](crate::Command::join) does.
/// * Trust: who has power in the user namespace may trace this process as soon as it sees it, and reach its memory and
///   its descriptors. For a command in a container that is not yours use [`Command::join`](crate::Command::join), which
///   closes and hides what it must.
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns each, also in the caller's own for all kinds but
///   [`User`](crate::User); [`Mount`](crate::Mount) needs CAP_SYS_CHROOT too.
///
/// ```no_run
/// use std::path::Path;
///
/// use ns_core::{Mount, Net, NsFd, enter};
///
/// // ip netns exec web ip addr
/// let net = NsFd::<Net>::open(Path::new("/run/netns/web"))?;
/// enter(&[&net])?;
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// # Errors
/// Invalid, before anything is done: the process has more than one thread (the error says how many), or one kind is
/// named twice. Otherwise what setns(2) said of the first that could not be joined, with a hint. The process may then
/// be in some of them; the error says in how many. There is no way back out of a user namespace, so end it.
///
/// See setns(2): <https://man7.org/linux/man-pages/man2/setns.2.html>.
#[doc(alias("setns", "nsenter"))]
pub fn enter(namespaces: &[&dyn AnyNamespace]) -> Result<()> {
    refuse_twice("setns", namespaces)?;
    need_one_thread("setns", "namespaces are joined by one thread, which would be alone in them", JOIN_HINT)?;
    let here = Here::default();
    let mut targets = Vec::with_capacity(namespaces.len());
    let mut named = Vec::with_capacity(namespaces.len());
    for namespace in namespaces {
        if !here.is(namespace.kind(), namespace.id())? {
            targets.push(target(*namespace));
            named.push(namespace);
        }
    }
    if !targets.is_empty() {
        copy_memory_from_now_on();
    }
    join::join_all(&targets).map_err(|failed| {
        let name = named.get(failed.index).map(ToString::to_string).unwrap_or_default();
        let error = Error::from_errno("setns", failed.errno.0).on(Subject::Namespace(name)).with_hints(&HINTS);
        match failed.joined {
            0 => error,
            joined => error.context(format!("entered {joined} of {} namespaces", targets.len())),
        }
    })
}

const JOIN_HINT: &str = "enter before the first thread is started; or run what is to be done there in with_namespaces, \
                         or start it with Command::join";

pub(crate) fn target(namespace: &dyn AnyNamespace) -> join::Target {
    join::Target { fd: namespace.as_fd().as_raw_fd(), flag: namespace.kind().bits() as i32 }
}

/// One of each kind: of two, the second would silently win.
pub(crate) fn refuse_twice(call: &'static str, namespaces: &[&dyn AnyNamespace]) -> Result<()> {
    let mut seen = Namespaces::empty();
    for namespace in namespaces {
        if seen.intersects(namespace.kind()) {
            let why = format!("a second {} namespace: a process is in one of each kind", namespace.kind().name());
            return Err(Error::invalid(call, why).on(Subject::Namespace(namespace.to_string())));
        }
        seen |= namespace.kind();
    }
    Ok(())
}

/// Moves the calling process, which has one thread, into the namespaces of these kinds of the process of `pidfd`: all
/// of them or, on error, none.
///
/// Kinds of which the caller is in the same namespace already are left out. For the rest see [`enter`].
///
/// * C call: setns(2) on a pidfd, with several CLONE_NEW* flags. Linux 5.8.
/// * Privileges: PTRACE_MODE_READ_FSCREDS over the process, and those of [`enter`].
///
/// ```no_run
/// use std::os::fd::OwnedFd;
///
/// use ns_core::{Namespaces, enter_process};
///
/// fn nsenter_all(pidfd: OwnedFd) -> ns_core::Result<()> {
///     enter_process(&pidfd, Namespaces::all())
/// }
/// ```
///
/// # Errors
/// Invalid when the process has more than one thread; [`Gone`](crate::ErrorKind::Gone) when the other one has died;
/// otherwise what setns(2) said, with a hint. Nothing has changed then.
///
/// See setns(2): <https://man7.org/linux/man-pages/man2/setns.2.html>.
#[doc(alias("setns", "nsenter"))]
pub fn enter_process(pidfd: impl AsFd, kinds: Namespaces) -> Result<()> {
    need_one_thread("setns", "namespaces are joined by one thread, which would be alone in them", JOIN_HINT)?;
    let pidfd = pidfd.as_fd();
    let here = Here::default();
    let mut wanted = Namespaces::empty();
    for kind in kinds.iter() {
        if !here.is(kind, of_process(pidfd, kind)?)? {
            wanted |= kind;
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    copy_memory_from_now_on();
    join::setns(pidfd.as_raw_fd(), wanted.bits() as i32).map_err(|errno| {
        let subject = Subject::Namespace(format!("the {} of a process", wanted.c_names()));
        Error::from_errno("setns", errno.0).on(subject).with_hints(&HINTS).or_gone()
    })
}

fn of_process(pidfd: BorrowedFd<'_>, kind: Namespaces) -> Result<NsId> {
    namespace_of_process(pidfd, kind).map(|namespace| namespace.id())
}

/// The namespace that the process of `pidfd` is in, of a kind that is known when the program runs.
pub(crate) fn namespace_of_process(pidfd: BorrowedFd<'_>, kind: Namespaces) -> Result<Box<dyn AnyNamespace>> {
    fn of<K: Kind>(pidfd: BorrowedFd<'_>) -> Result<Box<dyn AnyNamespace>> {
        NsFd::<K>::of_process(pidfd).map(|namespace| Box::new(namespace) as Box<dyn AnyNamespace>)
    }
    by_kind!(kind, K => of::<K>(pidfd))
}

/// Where the calling thread is; for pid and time, where its children will be.
#[derive(Default)]
pub(crate) struct Here(ThisThread);

impl Here {
    /// Whether the thread is in that namespace already. What /proc does not show (a pid namespace without its first
    /// process) it cannot be in.
    pub(crate) fn is(&self, kind: Namespaces, id: NsId) -> Result<bool> {
        fn id_of<K: Kind>(thread: &ThisThread) -> Result<NsId> {
            thread.for_children::<K>().map(|namespace| namespace.id())
        }
        match by_kind!(kind, K => id_of::<K>(&self.0)) {
            Ok(here) => Ok(here == id),
            // Or there is no /proc, and nothing can be left out.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Moves the calling thread into new namespaces of these kinds, as unshare(1) does.
///
/// Only the calling thread moves, and threads that it starts later; to move a whole program, call this before the first
/// thread is started. What clone(2) shares beside namespaces (memory, descriptors, signal handlers) is not offered: a
/// thread that stopped sharing those with its process would break what Rust takes for granted.
///
/// * C call: unshare(2).
/// * [`PID`](Namespaces::PID) and [`TIME`](Namespaces::TIME) concern children only: the next child is PID 1. After
///   either, the kernel starts no further *threads* for the caller (EINVAL from whatever starts one); and after
///   [`TIME`](Namespaces::TIME), before Linux 6.3, no vfork(2), as which the standard library starts programs. A
///   [`Command`](crate::Command) starts all the same.
/// * [`MOUNT`](Namespaces::MOUNT): the new one is a copy, whose mounts still propagate to and from the old one where
///   they were shared: make them private or slaves before you mount.
/// * [`USER`](Namespaces::USER): no id is mapped in it until somebody writes the maps.
/// * Privileges: CAP_SYS_ADMIN, but for [`USER`](Namespaces::USER), which gives it for all others asked for at once.
///
/// ```
/// use ns_core::{ErrorKind, Namespaces, unshare};
///
/// std::thread::spawn(|| {
///     let error = unshare(Namespaces::USER).expect_err("a process with threads");
///     assert_eq!(error.kind(), ErrorKind::Invalid);
///     assert!(error.to_string().contains("threads"));
/// })
/// .join()
/// .unwrap();
/// ```
///
/// # Errors
/// Invalid, before anything is done, for a user namespace in a process with more than one thread: the error says how
/// many there are. Permission; [`Limit`](crate::ErrorKind::Limit) when a limit is reached or they are nested too deep
/// (ENOSPC: 32 user or pid namespaces in each other). Each with a hint.
///
/// See unshare(2): <https://man7.org/linux/man-pages/man2/unshare.2.html>.
#[doc(alias = "CLONE_NEWNS")]
pub fn unshare(kinds: Namespaces) -> Result<()> {
    if kinds.is_empty() {
        return Ok(());
    }
    let subject = || Subject::Namespace(format!("new namespaces {}", kinds.c_names()));
    if kinds.contains(Namespaces::USER) {
        let hint = "unshare before the first thread is started; or start a process there: Command::namespaces";
        need_one_thread("unshare", "a user namespace is entered by whole processes only", hint)
            .map_err(|error| error.on(subject()))?;
    }
    if kinds.contains(Namespaces::TIME) && sys::kernel_release().is_none_or(|release| release < (6, 3)) {
        // Until then the kernel refuses a child that shares memory across two time namespaces.
        copy_memory_in_this_thread();
    }
    sys::unshare(kinds.bits()).map_err(|errno| Error::from_errno("unshare", errno.0).on(subject()).with_hints(&HINTS))
}

/// How long a thread that has been joined may still count: the kernel wakes the joiner before it lets go of the thread.
const LAST_BREATH: Duration = Duration::from_millis(50);

/// Refuses with the number of threads, when there is more than one.
pub(crate) fn need_one_thread(call: &'static str, why: &str, hint: &'static str) -> Result<()> {
    let step = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        // The kernel's own condition: this does nothing in a process with one thread, and fails in others.
        let threads = match sys::unshare(libc::CLONE_THREAD as u64) {
            Ok(()) => return Ok(()),
            Err(Errno(libc::EINVAL)) if waited < LAST_BREATH => 2,
            // For the message; or there is a filter that forbids unshare.
            Err(_) => threads()?,
        };
        match threads {
            0 | 1 => return Ok(()),
            _ if waited < LAST_BREATH => {
                std::thread::sleep(step);
                waited += step;
            }
            threads => {
                return Err(Error::invalid(call, format!("{why}, and this one has {threads} threads")).with_hint(hint));
            }
        }
    }
}

/// The number of threads of the calling process.
pub(crate) fn threads() -> Result<usize> {
    let path = format!("{}/status", std::process::id());
    let status = ProcFd::open(ProcView::Processes)?.read(path.as_ref())?;
    thread_count(&status).ok_or_else(|| Error::parse("read status", "it has no number of threads"))
}

pub(crate) fn thread_count(status: &[u8]) -> Option<usize> {
    status::field(status, "Threads")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Net, Uts};

    #[test]
    fn the_number_of_threads_is_read() {
        assert_eq!(thread_count(b"Name:\tThreads:9\nThreads:\t12\nSigQ:\t0\n"), Some(12));
        for wrong in [&b"Threads:\tmany\n"[..], b"", b"Threads:"] {
            assert_eq!(thread_count(wrong), None);
        }
    }

    #[test]
    fn a_second_one_of_a_kind_is_refused() {
        let net = NsFd::<Net>::of_this_thread().expect("net");
        let uts = NsFd::<Uts>::of_this_thread().expect("uts");
        assert!(refuse_twice("setns", &[&net, &uts]).is_ok());
        let error = refuse_twice("setns", &[&net, &uts, &net]).expect_err("twice");
        assert!(error.to_string().contains("a second net namespace"), "{error}");
    }
}
