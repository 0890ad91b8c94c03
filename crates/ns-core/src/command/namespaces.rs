//! New namespaces of the payload, and what is set up in them.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::Path;

use cellkit_core::{ChildSteps, Error, Result, Subject};

use super::{Command, join};
use crate::namespaces::TimeOffsets;
use crate::{MountPropagation, Namespaces};

/// # New namespaces
impl Command {
    /// The kinds of namespace that the payload gets new ones of.
    ///
    /// In a new mount namespace all mounts are made private, as unshare(1) does, or what the payload mounts would appear on
    /// the machine where that is shared: see [`propagation`](Self::propagation).
    ///
    /// With [`Namespaces::USER`] the payload is user and group 0 of that namespace, unless [`user`](Self::user) says
    /// otherwise, and somebody has to write id maps in which they are: see [`spawn_paused`](Self::spawn_paused).
    ///
    /// [`Namespaces::TIME`] alone is as [`time_offsets`](Self::time_offsets) with offsets of zero.
    ///
    /// * C call: clone3(2) with the CLONE_NEW* flags. [`Namespaces`] has the kernel versions.
    /// * Privileges: CAP_SYS_ADMIN, but with [`Namespaces::USER`].
    ///
    /// ```
    /// use ns_core::{Command, Namespaces, probe};
    ///
    /// let kinds = Namespaces::UTS | Namespaces::IPC;
    /// let command = Command::new("readlink").arg("/proc/self/ns/uts").namespaces(kinds);
    /// # if !probe()?.can_make.contains(kinds) { return Ok(()) }
    /// let inside = command.output()?.stdout;
    /// let outside = Command::new("readlink").arg("/proc/self/ns/uts").output()?.stdout;
    /// assert_ne!(inside, outside);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
    #[doc(alias("unshare", "CLONE_NEWNS", "CLONE_NEWUSER", "CLONE_NEWPID"))]
    pub fn namespaces(mut self, kinds: Namespaces) -> Self {
        self.namespaces |= kinds;
        self
    }

    /// How the mounts of a new mount namespace hang together with the caller's: private unless asked otherwise. A root made
    /// by [`steps`](Self::steps) brings its own rule, and this one is not used. Without a new mount namespace,
    /// [`plan`](Self::plan) answers Invalid.
    ///
    /// * C call: mount(2) with MS_REC and MS_PRIVATE, MS_SLAVE or MS_SHARED, on `/`.
    ///
    /// ```
    /// use ns_core::{Command, MountPropagation, Namespaces};
    ///
    /// let command = Command::new("/bin/sh").namespaces(Namespaces::MOUNT).propagation(MountPropagation::Slave);
    /// assert!(command.plan()?.to_string().contains("MS_REC|MS_SLAVE"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
    #[doc(alias("MS_REC", "mount --make-rprivate"))]
    pub fn propagation(mut self, propagation: MountPropagation) -> Self {
        self.propagation = propagation;
        self
    }

    /// Gives the payload a time namespace with these offsets. Linux 6.3.
    ///
    /// Older kernels (5.6) do not enter it at execve: there the child makes a successor in it, as for a pid namespace that
    /// is [joined](Self::join). With a new pid namespace that cannot be, and [`plan`](Self::plan) answers
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    ///
    /// * C calls: unshare(2) CLONE_NEWTIME, a write to `/proc/self/timens_offsets`, in the child.
    /// * Privileges: CAP_SYS_ADMIN, and CAP_SYS_TIME for offsets.
    ///
    /// ```
    /// use ns_core::{Command, TimeOffsets};
    /// # if !ns_core::probe()?.can_make.contains(ns_core::Namespaces::TIME) { return Ok(()) }
    ///
    /// // A machine that has been up for a day longer.
    /// let offsets = TimeOffsets { boottime: 24 * 60 * 60, ..TimeOffsets::default() };
    /// let uptime = Command::new("cat").arg("/proc/uptime").time_offsets(offsets).output()?.stdout;
    /// let seconds: f64 = String::from_utf8_lossy(&uptime).split(' ').next().unwrap().parse().unwrap();
    /// assert!(seconds > 24.0 * 60.0 * 60.0);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See time_namespaces(7): <https://man7.org/linux/man-pages/man7/time_namespaces.7.html>.
    #[doc(alias("CLONE_NEWTIME", "timens_offsets"))]
    pub fn time_offsets(mut self, offsets: TimeOffsets) -> Self {
        self.time = Some(offsets);
        self
    }

    /// Brings the loopback interface of a new network namespace up: `ip link set lo up`.
    ///
    /// * C call: ioctl(2) SIOCSIFFLAGS. Needs CAP_NET_ADMIN there, which the child has.
    ///
    /// ```
    /// use ns_core::{Command, Namespaces};
    ///
    /// let error = Command::new("/bin/true").loopback_up().check().unwrap_err();
    /// assert_eq!(error.hint(), Some("add Namespaces::NET"));
    /// let plan = Command::new("/bin/true").namespaces(Namespaces::NET).loopback_up().plan()?;
    /// assert!(plan.to_string().contains("SIOCSIFFLAGS(\"lo\", IFF_UP)"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See netdevice(7): <https://man7.org/linux/man-pages/man7/netdevice.7.html>.
    #[doc(alias = "SIOCSIFFLAGS")]
    pub fn loopback_up(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// Sets the host name: with [`Namespaces::UTS`], or it would be the machine's. At most 64 bytes.
    ///
    /// * C call: sethostname(2). Needs CAP_SYS_ADMIN there, which the child has.
    ///
    /// ```
    /// use ns_core::{Command, Namespaces};
    ///
    /// let command = Command::new("hostname").namespaces(Namespaces::UTS).hostname("web");
    /// # if !ns_core::probe()?.can_make.contains(Namespaces::UTS) { return Ok(()) }
    /// assert_eq!(command.output()?.stdout, b"web\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See sethostname(2): <https://man7.org/linux/man-pages/man2/sethostname.2.html>.
    #[doc(alias = "sethostname")]
    pub fn hostname(mut self, name: impl AsRef<OsStr>) -> Self {
        self.hostname = Some(name.as_ref().to_owned());
        self
    }

    /// Sets the NIS domain name: with [`Namespaces::UTS`]. At most 64 bytes.
    ///
    /// * C call: setdomainname(2), with the same privilege as [`hostname`](Self::hostname).
    ///
    /// See getdomainname(2): <https://man7.org/linux/man-pages/man2/getdomainname.2.html>.
    #[doc(alias = "setdomainname")]
    pub fn domainname(mut self, name: impl AsRef<OsStr>) -> Self {
        self.domainname = Some(name.as_ref().to_owned());
        self
    }

    /// Adds steps of another crate that the child runs once it is in its namespaces: `mountkit`'s root file system.
    ///
    /// They need [`Namespaces::MOUNT`], and without it the plan is refused: they would change the machine's own root. The
    /// umask is 0 while they run. Several lists run in the order in which they were added.
    ///
    /// * C calls: those of the steps, which the plan shows.
    ///
    /// See pivot_root(2), mount_namespaces(7): <https://man7.org/linux/man-pages/man2/pivot_root.2.html>.
    pub fn steps(mut self, steps: ChildSteps) -> Self {
        self.roots.push(steps);
        self
    }

    /// The clocks of a new time namespace, if there is to be one.
    pub(super) fn new_time(&self) -> Option<TimeOffsets> {
        self.time.or_else(|| self.namespaces.contains(Namespaces::TIME).then(TimeOffsets::default))
    }

    pub(super) fn check_namespaces(&self) -> Result<()> {
        for (call, name) in [("sethostname", &self.hostname), ("setdomainname", &self.domainname)] {
            let Some(name) = name else { continue };
            let subject = || Subject::Value(name.to_string_lossy().into_owned());
            if name.is_empty() || name.len() > 64 {
                return Err(Error::invalid(call, "a name has 1 to 64 bytes").on(subject()));
            }
            if !self.namespaces.contains(Namespaces::UTS) {
                return Err(Error::invalid(call, "without a UTS namespace this would rename the machine")
                    .on(subject())
                    .with_hint("add Namespaces::UTS"));
            }
        }
        if !self.roots.is_empty() && !self.namespaces.contains(Namespaces::MOUNT) {
            let why = "without a mount namespace these steps would change the machine's own root";
            return Err(Error::invalid("pivot_root", why).with_hint("add Namespaces::MOUNT"));
        }
        if self.loopback && !self.namespaces.contains(Namespaces::NET) {
            let why = "without a network namespace this would be the machine's own";
            return Err(Error::invalid("ioctl SIOCSIFFLAGS", why)
                .on(Subject::Interface("lo".into()))
                .with_hint("add Namespaces::NET"));
        }
        if let (MountPropagation::Slave | MountPropagation::Shared, false) =
            (self.propagation, self.namespaces.contains(Namespaces::MOUNT))
        {
            let why = "without a mount namespace this would change the machine's own mounts";
            return Err(Error::invalid("mount", why).on(Path::new("/")).with_hint("add Namespaces::MOUNT"));
        }
        if self.new_time().is_some() && !join::enters_time_at_execve() && self.namespaces.contains(Namespaces::PID) {
            return Err(Error::unsupported(
                "unshare CLONE_NEWTIME",
                "entering a time namespace at execve",
                Some("6.3"),
            )
            .with_hint("PID 1 of a new pid namespace enters it in no other way: leave one of the two out"));
        }
        Ok(())
    }
}
