//! The eight kinds of namespace, as a set and as types.
#![forbid(unsafe_code)]

bitflags::bitflags! {
    /// A set of kinds of namespace, for [`Command::namespaces`](crate::Command::namespaces).
    ///
    /// Each needs CAP_SYS_ADMIN in the user namespace that will own it, but for [`USER`](Self::USER) itself, which an
    /// ordinary user may make and in which it then has every capability: ask for both in one set. Its id maps are the
    /// parent's to write, while the child waits: [`Command::spawn_paused`](crate::Command::spawn_paused) shows how.
    ///
    /// ```
    /// use ns_core::Namespaces;
    ///
    /// let kinds = Namespaces::USER | Namespaces::NET;
    /// assert!(kinds.contains(Namespaces::NET) && !kinds.contains(Namespaces::PID));
    /// assert_eq!(kinds.to_string(), "user|net"); // as /proc/PID/ns names them
    /// ```
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
        /// User and group ids, and capabilities. Linux 3.8. It needs id maps: see
        /// [`Command::spawn_paused`](crate::Command::spawn_paused).
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

impl std::fmt::Display for Namespaces {
    /// The names in `/proc/PID/ns`, with `|` between: `net`, `mnt|pid`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.iter().map(Self::name).collect();
        f.pad(&names.join("|"))
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
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("several kinds of", |(_, name)| *name)
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

/// The kinds in the order of their names, and the names as procfs and nsfs write them.
pub(crate) const KINDS: [(Namespaces, &str); 8] = [
    (Namespaces::CGROUP, "cgroup"),
    (Namespaces::IPC, "ipc"),
    (Namespaces::MOUNT, "mnt"),
    (Namespaces::NET, "net"),
    (Namespaces::PID, "pid"),
    (Namespaces::TIME, "time"),
    (Namespaces::USER, "user"),
    (Namespaces::UTS, "uts"),
];

/// A kind of namespace, as a type parameter of [`NsFd`](crate::NsFd).
///
/// It is sealed: the kernel has eight, [`Cgroup`], [`Ipc`], [`Mount`], [`Net`], [`Pid`], [`Time`], [`User`], [`Uts`]. They are
/// names for the compiler; there are no values of them.
///
/// ```
/// use ns_core::{Kind, Net, NsFd, Uts};
///
/// fn is_mine<K: Kind>(pid: i32) -> ns_core::Result<bool> {
///     Ok(NsFd::<K>::of_pid(pid)? == NsFd::<K>::of_this_thread()?)
/// }
/// let me = std::process::id() as i32;
/// assert!(is_mine::<Net>(me)? && is_mine::<Uts>(me)?);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
pub trait Kind: private::Kind + 'static {}

/// A kind of namespace that a process may choose for its children alone: [`Pid`] and [`Time`].
///
/// ```
/// use ns_core::{NsFd, Pid};
///
/// // The same, until unshare(2) or setns(2).
/// assert_eq!(NsFd::<Pid>::for_children_of_this_thread()?, NsFd::<Pid>::of_this_thread()?);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See pid_namespaces(7), time_namespaces(7): <https://man7.org/linux/man-pages/man7/pid_namespaces.7.html>.
#[doc(alias("pid_for_children", "time_for_children"))]
pub trait ForChildren: Kind {}

impl ForChildren for Pid {}
impl ForChildren for Time {}

pub(crate) mod private {
    pub trait Kind {
        /// As `/proc/PID/ns` names it.
        const NAME: &'static str;
        /// The link that says where the children of a process will be.
        const FOR_CHILDREN: &'static str;
        const CLONE_FLAG: i32;
        /// The number of the PIDFD_GET_*_NAMESPACE request (Linux 6.11).
        const PIDFD_REQUEST: u8;
        /// That of the request for where the children will be.
        const FOR_CHILDREN_REQUEST: u8;
        /// The inode number of the one that the machine started with: include/linux/proc_ns.h.
        const INITIAL_INODE: u64;
        /// Whether that number is so on every kernel, or only since 6.17.
        const INITIAL_INODE_ALWAYS: bool;
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $flag:ident, $name:literal = $request:literal,
        $for_children:literal = $children_request:literal, $inode:literal $since:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// ```
        /// use ns_core::NsFd;
        ///
        #[doc = concat!("let here = NsFd::<ns_core::", stringify!($kind), ">::of_this_thread()?;")]
        #[doc = concat!("assert!(here.to_string().starts_with(\"", $name, ":[\"));")]
        /// # Ok::<(), ns_core::Error>(())
        /// ```
        #[derive(Clone, Copy, Debug)]
        pub enum $kind {}
        impl Kind for $kind {}
        impl private::Kind for $kind {
            const NAME: &'static str = $name;
            const FOR_CHILDREN: &'static str = $for_children;
            const CLONE_FLAG: i32 = libc::$flag;
            const PIDFD_REQUEST: u8 = $request;
            const FOR_CHILDREN_REQUEST: u8 = $children_request;
            const INITIAL_INODE: u64 = $inode;
            const INITIAL_INODE_ALWAYS: bool = kinds!(@$since);
        }
    )*};
    (@always) => { true };
    (@since_6_17) => { false };
}

kinds! {
    /// The cgroup namespace: the root of the cgroup tree as it is seen from inside. Linux 4.6.
    ///
    /// See <https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html>.
    #[doc(alias = "CLONE_NEWCGROUP")]
    Cgroup: CLONE_NEWCGROUP, "cgroup" = 1, "cgroup" = 1, 0xefff_fffb always;
    /// The IPC namespace: System V IPC and POSIX message queues. Linux 2.6.19.
    ///
    /// See <https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html>.
    #[doc(alias = "CLONE_NEWIPC")]
    Ipc: CLONE_NEWIPC, "ipc" = 2, "ipc" = 2, 0xefff_ffff always;
    /// The mount namespace: what is mounted where. Linux 2.4.19.
    ///
    /// See <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
    #[doc(alias = "CLONE_NEWNS")]
    Mount: CLONE_NEWNS, "mnt" = 3, "mnt" = 3, 0xefff_fff8 since_6_17;
    /// The network namespace: interfaces, addresses, routes, ports, rules. Linux 2.6.29.
    ///
    /// See <https://man7.org/linux/man-pages/man7/network_namespaces.7.html>.
    #[doc(alias = "CLONE_NEWNET")]
    Net: CLONE_NEWNET, "net" = 4, "net" = 4, 0xefff_fff9 since_6_17;
    /// The pid namespace: process numbers. Linux 2.6.24.
    ///
    /// See <https://man7.org/linux/man-pages/man7/pid_namespaces.7.html>.
    #[doc(alias = "CLONE_NEWPID")]
    Pid: CLONE_NEWPID, "pid" = 5, "pid_for_children" = 6, 0xefff_fffc always;
    /// The time namespace: CLOCK_MONOTONIC and CLOCK_BOOTTIME. Linux 5.6.
    ///
    /// See <https://man7.org/linux/man-pages/man7/time_namespaces.7.html>.
    #[doc(alias = "CLONE_NEWTIME")]
    Time: CLONE_NEWTIME, "time" = 7, "time_for_children" = 8, 0xefff_fffa always;
    /// The user namespace: user and group ids, and capabilities. Linux 3.8.
    ///
    /// See <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
    #[doc(alias = "CLONE_NEWUSER")]
    User: CLONE_NEWUSER, "user" = 9, "user" = 9, 0xefff_fffd always;
    /// The UTS namespace: host name and NIS domain name. Linux 2.6.19.
    ///
    /// See <https://man7.org/linux/man-pages/man7/uts_namespaces.7.html>.
    #[doc(alias = "CLONE_NEWUTS")]
    Uts: CLONE_NEWUTS, "uts" = 10, "uts" = 10, 0xefff_fffe always;
}

/// Calls a generic function with the type of a kind that is known when the program runs.
macro_rules! by_kind {
    ($kind:expr, $kind_type:ident => $call:expr) => {
        match $kind {
            $crate::Namespaces::CGROUP => by_kind!(@as Cgroup, $kind_type, $call),
            $crate::Namespaces::IPC => by_kind!(@as Ipc, $kind_type, $call),
            $crate::Namespaces::MOUNT => by_kind!(@as Mount, $kind_type, $call),
            $crate::Namespaces::NET => by_kind!(@as Net, $kind_type, $call),
            $crate::Namespaces::PID => by_kind!(@as Pid, $kind_type, $call),
            $crate::Namespaces::TIME => by_kind!(@as Time, $kind_type, $call),
            $crate::Namespaces::USER => by_kind!(@as User, $kind_type, $call),
            _ => by_kind!(@as Uts, $kind_type, $call),
        }
    };
    (@as $named:ident, $kind_type:ident, $call:expr) => {{
        type $kind_type = $crate::$named;
        $call
    }};
}

pub(crate) use by_kind;

/// Offsets of a new time namespace's clocks, in whole seconds, to those of the machine.
///
/// ```
/// use ns_core::{Command, TimeOffsets};
///
/// let yesterday = TimeOffsets { boottime: 24 * 60 * 60, ..TimeOffsets::default() };
/// let plan = Command::new("uptime").time_offsets(yesterday).plan()?;
/// assert!(plan.to_string().contains("boottime 86400 0"));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See time_namespaces(7): <https://man7.org/linux/man-pages/man7/time_namespaces.7.html>.
#[doc(alias = "timens_offsets")]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_proc() {
        assert_eq!(Namespaces::NET.to_string(), "net");
        assert_eq!(format!("{:>5}|", Namespaces::MOUNT), "  mnt|");
        assert_eq!((Namespaces::PID | Namespaces::TIME).to_string(), "time|pid");
        assert_eq!(Namespaces::empty().to_string(), "");
        for (kind, name) in Namespaces::all().iter().zip(["time", "mnt", "cgroup", "uts", "ipc", "user", "pid", "net"])
        {
            let link = std::fs::read_link(format!("/proc/self/ns/{name}")).expect(name);
            assert!(link.to_string_lossy().starts_with(&format!("{kind}:[")), "{kind}");
        }
    }
}
