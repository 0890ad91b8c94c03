//! A root for the process that calls, and not for a child.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use cellkit_core::{Error, ProcFd, ProcView, Result, Subject};

use super::Rootfs;
use crate::sys;

impl Rootfs {
    /// Runs the [`steps`](Self::steps) in the *calling* process, which lives in this root from then on: its `/` is the new
    /// one, the old one is gone, and the working directory is `/`. For a program that has unshared its mount namespace
    /// and starts nothing by `ns-core`; and for trying a root out.
    ///
    /// This is the one call of this crate that changes the calling process, and it cannot be undone. The umask is 0 while
    /// the steps run. When a step fails, the process has a root that is neither the old one nor the new: end it, and with
    /// its mount namespace all is gone.
    ///
    /// The process must have one thread, and be in a mount namespace other than that of PID 1: `ns_core::unshare` makes
    /// one. Descriptors that lead out of the root are the caller's to close: they stay a way out.
    ///
    /// * Calls: those of the steps.
    /// * Privileges: as [`Rootfs`].
    ///
    /// ```no_run
    /// use mountkit::{Rootfs, Volume};
    ///
    /// // after ns_core::unshare(Namespaces::MOUNT)?
    /// Rootfs::bind("/srv/root").volume(Volume::bind("/usr", "/usr").read_only()).enter()?;
    /// assert_eq!(std::env::current_dir().ok().as_deref(), Some("/".as_ref()));
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`steps`](Self::steps), and of the first of them that fails. Invalid, before anything is done: there are
    /// other threads, or the mount namespace is PID 1's.
    #[doc(alias = "pivot_root")]
    #[doc(alias = "switch_root")]
    pub fn enter(&self) -> Result<()> {
        refuse_bad_places()?;
        let steps = self.steps()?;
        sys::enter::without_umask(|| sys::enter::run_here(&steps))
    }
}

/// Threads share the root and the working directory, and the machine's own mounts are not to be changed.
fn refuse_bad_places() -> Result<()> {
    let refuse = |why: String, hint| {
        let subject = Subject::Thing("the calling process".to_owned());
        Err(Error::invalid("pivot_root", why).on(subject).with_hint(hint))
    };
    let proc = ProcFd::open(ProcView::Processes)?;
    let own = proc.this_thread()?;
    let status = own.read("status".as_ref())?;
    let threads = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Threads:"));
    let threads = threads.unwrap_or_default().trim_ascii();
    if threads != b"1" {
        let threads = String::from_utf8_lossy(threads).into_owned();
        return refuse(format!("it has {threads} threads, which share one root"), "enter before threads are started");
    }
    // Where it may not be looked at, the caller is not who could change it.
    let first = sys::enter::pidfd_of_init().ok().and_then(|init| proc.process(init).ok());
    let first = first.and_then(|init| init.namespace("mnt").ok());
    let Some(first) = first else { return Ok(()) };
    let inode = |fd: std::os::fd::BorrowedFd<'_>| cellkit_core::sys::inode(fd).map(|(inode, _)| inode).ok();
    if inode(first.as_fd()) == inode(own.namespace("mnt")?.as_fd()) {
        let hint = "unshare the mount namespace first: ns_core::unshare(Namespaces::MOUNT)";
        return refuse("it is in the mount namespace of PID 1, whose root this would change".to_owned(), hint);
    }
    Ok(())
}
