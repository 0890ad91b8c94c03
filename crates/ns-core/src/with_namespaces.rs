//! Work inside namespaces, on a thread that is used for nothing else.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cellkit_core::{Error, Result, Subject};

use crate::enter::{Here, refuse_twice, target, threads};
use crate::hint::HINTS;
use crate::namespaces::Namespaces;
use crate::ns_fd::AnyNamespace;
use crate::sys::{self, join};

/// Runs `work` inside these namespaces and answers what it answered.
///
/// It runs on a thread of its own, which is made for it and ends after it: no other thread's namespaces change, and
/// none that has been somewhere else goes back to a pool, where it would surprise whoever gets it next. What it opens
/// stays where it was opened: a socket made inside a network namespace may be used anywhere afterwards.
///
/// ```no_run
/// use std::net::TcpListener;
///
/// use ns_core::{Net, NsFd, with_namespaces};
///
/// let web = NsFd::<Net>::open("/run/netns/web")?;
/// let listener = with_namespaces(&[&web], || TcpListener::bind("127.0.0.1:80"))?;
/// # drop(listener);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// * C calls: clone(2) for the thread; setns(2) for each, in any order that works; unshare(2) CLONE_FS before a mount
///   namespace, whose root and working directory then are this thread's own.
/// * It blocks until `work` has ended. In async code that is a task that does not yield: wrap it in `spawn_blocking` if
///   `work` takes long. Nothing else of the runtime is touched: the thread that is in the namespaces is not one of its
///   own, so that a runtime's handles (tokio's are thread-local) are not there either.
/// * [`Pid`](crate::Pid): it is where the processes that `work` starts will be. It can start no threads then (EINVAL).
/// * A [`Command`](crate::Command) that `work` starts gets a copy of the caller's memory, as one that
///   [joins](crate::Command::join) does.
/// * Privileges: as [`enter`](crate::enter).
///
/// # Panics
/// If `work` does, with the same payload.
///
/// # Errors
/// Invalid, before anything is done, for a user or time namespace other than the caller's own, which the kernel lets no
/// process with threads join: the error says how many there are and what to do instead; and when one kind is named
/// twice. Otherwise what setns(2) said, with a hint; EAGAIN from clone(2) when a limit on threads is reached. `work`
/// has not run then.
///
/// See setns(2): <https://man7.org/linux/man-pages/man2/setns.2.html>.
#[doc(alias("setns", "netns"))]
pub fn with_namespaces<T: Send>(namespaces: &[&dyn AnyNamespace], work: impl FnOnce() -> T + Send) -> Result<T> {
    refuse_twice("setns", namespaces)?;
    let here = Here::default();
    let mut others = Vec::with_capacity(namespaces.len());
    for namespace in namespaces {
        if here.is(namespace.kind(), namespace.id())? {
            continue;
        }
        if (Namespaces::USER | Namespaces::TIME).contains(namespace.kind()) {
            return Err(need_a_process(*namespace));
        }
        others.push(*namespace);
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("in namespaces".into()).spawn_scoped(scope, || {
            join_here(&others)?;
            copy_memory_in_this_thread();
            Ok(work())
        });
        let thread = thread.map_err(|error| {
            let refused = Error::from_io("clone", &error);
            match refused.raw_os_error() {
                Some(libc::EINVAL) => {
                    refused.with_hint("the children of this thread are to be in other namespaces: it starts no threads")
                }
                // pthread_create(3) says so of memory too.
                Some(libc::EAGAIN) => refused.with_hint(
                    "a limit on threads is reached, or there is no memory for one more: see ulimit -u, pids.max of the \
                     cgroup, kernel.threads-max",
                ),
                _ => refused.with_hints(&HINTS),
            }
        })?;
        thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

fn need_a_process(namespace: &dyn AnyNamespace) -> Error {
    // This thread and the one that is to be.
    let threads = threads().unwrap_or(1) + 1;
    let kind = namespace.kind().name();
    let why =
        format!("a {kind} namespace is joined by processes with one thread only, and this one would have {threads}");
    Error::invalid("setns", why)
        .on(Subject::Namespace(namespace.to_string()))
        .with_hint("start a process there with Command::join, or enter before the first thread is started")
}

fn join_here(namespaces: &[&dyn AnyNamespace]) -> Result<()> {
    if namespaces.iter().any(|namespace| namespace.kind() == Namespaces::MOUNT) {
        sys::unshare(libc::CLONE_FS as u64).map_err(|errno| Error::from_errno("unshare", errno.0))?;
    }
    let targets: Vec<_> = namespaces.iter().map(|namespace| target(*namespace)).collect();
    join::join_all(&targets).map_err(|failed| {
        let name = namespaces.get(failed.index).map(ToString::to_string).unwrap_or_default();
        Error::from_errno("setns", failed.errno.0).on(Subject::Namespace(name)).with_hints(&HINTS)
    })
}

thread_local! {
    /// Whether what this thread starts must not share its memory.
    static COPIES: Cell<bool> = const { Cell::new(false) };
}

/// Whether what this process starts must not.
static ALL_COPY: AtomicBool = AtomicBool::new(false);

/// The calling process goes where others may be, who could see and trace its children before their execve.
pub(crate) fn copy_memory_from_now_on() {
    ALL_COPY.store(true, Ordering::Relaxed);
}

/// As [`copy_memory_from_now_on`], for what the calling thread starts.
pub(crate) fn copy_memory_in_this_thread() {
    COPIES.set(true);
}

/// Whether what the calling thread starts now must get a copy of the memory.
pub(crate) fn must_copy_memory() -> bool {
    COPIES.get() || ALL_COPY.load(Ordering::Relaxed)
}
