//! Namespaces that a start joins instead of making its own.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cellkit_core::{Error, Result, Subject};

use super::Command;
use crate::enter::{Here, namespace_of_process, refuse_twice};
use crate::namespaces::Kind;
use crate::ns_fd::{AnyNamespace, NsFd};
use crate::{Namespaces, sys};

/// What was asked for; what it comes to is found out when the plan is made.
#[derive(Debug)]
pub(super) enum Join {
    Namespace(Arc<dyn AnyNamespace>),
    Process { pidfd: std::io::Result<OwnedFd>, kinds: Namespaces },
}

/// # Existing namespaces
impl Command {
    /// Joins an existing namespace of any kind, as nsenter(1) does. Call it once for each; the order does not matter.
    ///
    /// The child joins them after the new ones were made, what it has power over first, then the user namespace, then what
    /// that one gives power over, the mount namespace last among its like.
    ///
    /// * C call: setns(2), Linux 3.8; [`Cgroup`](crate::Cgroup) 4.6, [`Time`](crate::Time) 5.6.
    /// * Memory: the child gets a copy of the caller's instead of sharing it, and is made undumpable before the first
    ///   setns: nobody in the namespaces may trace it, or read its files in /proc, before its program runs. See
    ///   [`Plan::shares_memory`](crate::Plan::shares_memory).
    /// * [`Pid`](crate::Pid): one is in a pid namespace by birth only. The child makes its successor there, as a sibling
    ///   (CLONE_PARENT), hands over and ends; [`Child::pid`](crate::Child::pid) is the successor's. All else stays as
    ///   it is with one process.
    /// * [`User`](crate::User): as in a new user namespace the child becomes its root, user and group 0, unless
    ///   [`user`](Self::user) says otherwise, and drops its supplementary groups, unless
    ///   [`keep_groups`](Self::keep_groups) says otherwise. The caller's own is left out.
    /// * [`Mount`](crate::Mount): root and working directory become the root of that namespace.
    /// * Privileges: CAP_SYS_ADMIN in the user namespace that owns each, held by the child, and in its own; for
    ///   [`Mount`](crate::Mount) CAP_SYS_CHROOT too.
    ///
    /// ```no_run
    /// use std::path::Path;
    ///
    /// use ns_core::{Command, Net, NsFd};
    ///
    /// // ip netns exec web ip addr
    /// let net = NsFd::<Net>::open(Path::new("/run/netns/web"))?;
    /// Command::new("ip").arg("addr").join(net).spawn()?.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// At [`plan`](Self::plan): Invalid when two of a kind are joined, or one is joined and made. At the start: what setns
    /// said and of which namespace, mostly Permission.
    ///
    /// See setns(2): <https://man7.org/linux/man-pages/man2/setns.2.html>.
    #[doc(alias("setns", "nsenter"))]
    pub fn join<K: Kind>(mut self, namespace: NsFd<K>) -> Self {
        self.joins.push(Join::Namespace(Arc::new(namespace)));
        self
    }

    /// Joins the namespaces of these kinds of the process of `pidfd`: with [`Namespaces::all`], what `docker exec` and
    /// `nsenter --all` do.
    ///
    /// Those that the thread which calls [`plan`](Self::plan) is in already are left out. See [`join`](Self::join) for
    /// what each kind brings along. The cgroup is not a namespace: [`cgroup`](Self::cgroup).
    ///
    /// * C call: ioctl(2) PIDFD_GET_*_NAMESPACE (Linux 6.11; before that /proc), then setns(2).
    /// * Privileges: PTRACE_MODE_READ_FSCREDS over the process, as ptrace(2) tells; and those of [`join`](Self::join).
    ///
    /// ```no_run
    /// use std::os::fd::OwnedFd;
    ///
    /// use ns_core::{Command, Namespaces};
    ///
    /// // docker exec CONTAINER ps
    /// fn exec(container: OwnedFd) -> ns_core::Result<()> {
    ///     Command::new("ps").join_process(container, Namespaces::all()).spawn()?.wait()?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// At [`plan`](Self::plan): [`Gone`](crate::ErrorKind::Gone) when the process has died; Permission; Invalid as
    /// [`join`](Self::join).
    ///
    /// See setns(2): <https://man7.org/linux/man-pages/man2/setns.2.html>.
    #[doc(alias("setns", "nsenter", "docker exec"))]
    pub fn join_process(mut self, pidfd: impl AsFd, kinds: Namespaces) -> Self {
        self.joins.push(Join::Process { pidfd: pidfd.as_fd().try_clone_to_owned(), kinds });
        self
    }

    /// The kinds that are joined, of those that are known before the plan is made.
    fn joined_kinds(&self) -> Namespaces {
        self.joins.iter().fold(Namespaces::empty(), |kinds, join| match join {
            Join::Namespace(namespace) => kinds | namespace.kind(),
            Join::Process { kinds: more, .. } => kinds | *more,
        })
    }

    pub(super) fn check_joins(&self) -> Result<()> {
        let mut made = self.namespaces;
        if self.time.is_some() {
            made |= Namespaces::TIME;
        }
        let both = made & self.joined_kinds();
        if !both.is_empty() {
            return Err(Error::invalid("setns", "a namespace of one kind is to be made and another one to be joined")
                .on(Subject::Namespace(both.c_names()))
                .with_hint("a process is in one namespace of each kind: leave out the one or the other"));
        }
        Ok(())
    }

    /// The namespaces to be joined, one of each kind at most, without those that need not be.
    pub(super) fn joined(&self) -> Result<Vec<Arc<dyn AnyNamespace>>> {
        let mut all: Vec<Arc<dyn AnyNamespace>> = Vec::new();
        if self.joins.is_empty() {
            return Ok(all);
        }
        let here = Here::default();
        for join in &self.joins {
            match join {
                // The kernel refuses this one, as it would give back capabilities that were dropped.
                Join::Namespace(namespace)
                    if namespace.kind() == Namespaces::USER && here.is(Namespaces::USER, namespace.id())? => {}
                Join::Namespace(namespace) => all.push(Arc::clone(namespace)),
                Join::Process { pidfd, kinds } => {
                    let pidfd = pidfd.as_ref().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", error))?;
                    for kind in kinds.iter() {
                        let namespace = namespace_of_process(pidfd.as_fd(), kind)?;
                        if !here.is(kind, namespace.id())? {
                            all.push(Arc::from(namespace));
                        }
                    }
                }
            }
        }
        let each: Vec<&dyn AnyNamespace> = all.iter().map(|namespace| &**namespace).collect();
        refuse_twice("setns", &each)?;
        Ok(all)
    }

    /// Whether the child must make a successor to be in what it joins or makes: see
    /// [`EnterStep::Succeed`](crate::step::EnterStep::Succeed).
    pub(super) fn needs_successor(&self, joined: Namespaces) -> bool {
        joined.contains(Namespaces::PID) || (self.new_time().is_some() && !enters_time_at_execve())
    }
}

/// Whether this kernel puts a process into the time namespace it has made at execve, and not its children only.
pub(super) fn enters_time_at_execve() -> bool {
    sys::kernel_release().is_none_or(|release| release >= (6, 3))
}
