//! The eight kinds of namespace, as a set and as types.
#![forbid(unsafe_code)]

bitflags::bitflags! {
    /// A set of kinds of namespace, for [`Command::namespaces`](crate::Command::namespaces).
    ///
    /// Each needs CAP_SYS_ADMIN in the user namespace that will own it, but for [`USER`](Self::USER) itself, which an
    /// ordinary user may make and in which it then has every capability: ask for both in one set.
    ///
    /// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Namespaces: u64 {
        /// The clocks CLOCK_MONOTONIC and CLOCK_BOOTTIME. Linux 5.6; a start enters a new one since 6.3 only. See
        /// [`TimeOffsets`].
        #[doc(alias = "CLONE_NEWTIME")]
        const TIME = 0x0000_0080;
        /// Mounts: what is mounted where. Linux 2.4.19.
        #[doc(alias = "CLONE_NEWNS")]
        const MOUNT = 0x0002_0000;
        /// The root of the cgroup tree as it is seen from inside. Linux 4.6.
        #[doc(alias = "CLONE_NEWCGROUP")]
        const CGROUP = 0x0200_0000;
        /// Host name and NIS domain name. Linux 2.6.19.
        #[doc(alias = "CLONE_NEWUTS")]
        const UTS = 0x0400_0000;
        /// System V IPC and POSIX message queues. Linux 2.6.19.
        #[doc(alias = "CLONE_NEWIPC")]
        const IPC = 0x0800_0000;
        /// User and group ids, and capabilities. Linux 3.8.
        #[doc(alias = "CLONE_NEWUSER")]
        const USER = 0x1000_0000;
        /// Process ids: the child is PID 1, and its end ends all. Linux 2.6.24.
        #[doc(alias = "CLONE_NEWPID")]
        const PID = 0x2000_0000;
        /// Interfaces, addresses, routes, ports, rules. Linux 2.6.29.
        #[doc(alias = "CLONE_NEWNET")]
        const NET = 0x4000_0000;
    }
}

impl Namespaces {
    /// What a container is usually given: every kind but [`TIME`](Self::TIME), which kernels before 6.3 do not enter at
    /// execve.
    ///
    /// ```
    /// use ns_core::Namespaces;
    ///
    /// assert_eq!(Namespaces::CONTAINER | Namespaces::TIME, Namespaces::all());
    /// ```
    pub const CONTAINER: Self = Self::all().difference(Self::TIME);

    /// The kind's name in `/proc/PID/ns`, for a set of exactly one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CGROUP => "cgroup",
            Self::IPC => "ipc",
            Self::MOUNT => "mnt",
            Self::NET => "net",
            Self::PID => "pid",
            Self::TIME => "time",
            Self::USER => "user",
            Self::UTS => "uts",
            _ => "several kinds of",
        }
    }

    /// The C names, as strace prints them: `CLONE_NEWNS|CLONE_NEWPID`.
    pub(crate) fn c_names(self) -> String {
        let names = [
            (Self::USER, "CLONE_NEWUSER"),
            (Self::PID, "CLONE_NEWPID"),
            (Self::MOUNT, "CLONE_NEWNS"),
            (Self::NET, "CLONE_NEWNET"),
            (Self::UTS, "CLONE_NEWUTS"),
            (Self::IPC, "CLONE_NEWIPC"),
            (Self::CGROUP, "CLONE_NEWCGROUP"),
            (Self::TIME, "CLONE_NEWTIME"),
        ];
        let set = names.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name);
        set.collect::<Vec<_>>().join("|")
    }
}

/// A kind of namespace, as a type parameter of [`NsFd`](crate::NsFd).
pub trait Kind: private::Kind + 'static {}

pub(crate) mod private {
    pub trait Kind {
        /// As `/proc/PID/ns` names it.
        const NAME: &'static str;
        /// The link that says where the children of a process will be.
        const FOR_CHILDREN: &'static str;
        const CLONE_FLAG: i32;
        /// The number of the PIDFD_GET_*_NAMESPACE request (Linux 6.11).
        const PIDFD_REQUEST: u8;
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $name:literal, $for_children:literal, $flag:ident, $request:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $kind {}
        impl Kind for $kind {}
        impl private::Kind for $kind {
            const NAME: &'static str = $name;
            const FOR_CHILDREN: &'static str = $for_children;
            const CLONE_FLAG: i32 = libc::$flag;
            const PIDFD_REQUEST: u8 = $request;
        }
    )*};
}

kinds! {
    /// The cgroup namespace.
    Cgroup: "cgroup", "cgroup", CLONE_NEWCGROUP, 1;
    /// The IPC namespace.
    Ipc: "ipc", "ipc", CLONE_NEWIPC, 2;
    /// The mount namespace.
    Mount: "mnt", "mnt", CLONE_NEWNS, 3;
    /// The network namespace.
    Net: "net", "net", CLONE_NEWNET, 4;
    /// The pid namespace.
    Pid: "pid", "pid_for_children", CLONE_NEWPID, 5;
    /// The time namespace.
    Time: "time", "time_for_children", CLONE_NEWTIME, 7;
    /// The user namespace.
    User: "user", "user", CLONE_NEWUSER, 9;
    /// The UTS namespace.
    Uts: "uts", "uts", CLONE_NEWUTS, 10;
}

/// Offsets of a new time namespace's clocks, in whole seconds, to those of the machine.
///
/// See time_namespaces(7): <https://man7.org/linux/man-pages/man7/time_namespaces.7.html>.
// Not #[non_exhaustive]: the kernel has these two clocks, and a struct literal is how one says them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOffsets {
    /// Seconds added to CLOCK_MONOTONIC.
    pub monotonic: i64,
    /// Seconds added to CLOCK_BOOTTIME, which is what uptime(1) shows.
    pub boottime: i64,
}

impl TimeOffsets {
    /// What `/proc/self/timens_offsets` takes in one write.
    pub(crate) fn text(self) -> String {
        format!("monotonic {} 0\nboottime {} 0\n", self.monotonic, self.boottime)
    }
}
