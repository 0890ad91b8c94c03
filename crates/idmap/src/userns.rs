//! A user namespace with given maps, as a handle.
//!
//! # Theory of operation
//!
//! The kernel makes a user namespace only around a process, and its maps can only be written from outside while there is
//! one in it. So there is a child, for a moment:
//!
//! ```text
//!   pipe2, mmap of a stack
//!   clone(CLONE_NEWUSER|CLONE_VM|CLONE_PIDFD) ────► prctl(PR_SET_PDEATHSIG, SIGKILL), close_range
//!   MapPlan::write of its pidfd                     read of the pipe, until its end
//!   ioctl(PIDFD_GET_USER_NAMESPACE)                      .
//!   close of the pipe, SIGKILL ───────────────────► end
//!   waitid
//! ```
//!
//! A library that makes a child owes the program that calls it five things:
//!
//! * *It costs the same in a large program as in a small one.* The child shares the caller's memory (CLONE_VM), so nothing
//!   of it is copied, and has its own stack. What grows is the copy of the table of descriptors, by some nanoseconds for
//!   each; the child closes its copies at once, so that no pipe or lock of the caller's is held open.
//! * *It does nothing to that memory.* It makes system calls only, and not through the C library, whose `errno` would be the
//!   calling thread's. All its signals are blocked from before it is made, so no handler of the caller's runs in it.
//! * *Nobody notices.* Its end sends no SIGCHLD (the exit signal is 0), and a wait(2) for any child, in whatever thread, does
//!   not see it: the kernel shows such children only to __WALL and __WCLONE. This thread waits for it by its pidfd.
//! * *It is never left.* A guard ends and reaps it whatever fails. When the caller is killed, the kernel kills the child
//!   (PR_SET_PDEATHSIG); and when that comes before the child has asked for it, the pipe has an end, as it has when another
//!   thread executes a program. Then it is the kernel's to reap.
//! * *It works where containers do.* clone(2) has been let through since long before clone3(2), which many filters hide.
#![forbid(unsafe_code)]

mod cache;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use cellkit_core::{Errno, Error, ErrorKind, Observer, ProcFd, ProcView, Result, StepText, Subject};

pub use self::cache::UsernsCache;
use crate::hint::HINTS;
use crate::sys::clone::Parked;
use crate::sys::{self, namespace};
use crate::{Caller, IdMaps, MapPlan, Setgroups, SubIds};

/// What names a user namespace: the device and inode number of its file, which are its own as long as it lives.
///
/// Printed it is what `readlink /proc/PID/ns/user` says.
///
/// ```no_run
/// use idmap::{IdMaps, UsernsFd};
///
/// let userns = UsernsFd::with_maps(&IdMaps::contiguous(100_000, 100_000, 65_536)?)?;
/// println!("{}", userns.id()); // user:[4026532567]
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UsernsId {
    dev: u64,
    inode: u64,
}

impl UsernsId {
    /// The device number of nsfs, the same for all namespaces.
    #[must_use]
    pub fn dev(self) -> u64 {
        self.dev
    }

    /// The inode number: the one that `lsns` and `/proc/PID/ns` show.
    #[must_use]
    pub fn inode(self) -> u64 {
        self.inode
    }
}

impl fmt::Display for UsernsId {
    /// As `/proc/PID/ns/user` has it: `user:[4026532567]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user:[{}]", self.inode)
    }
}

/// A user namespace as a descriptor, with no process in it: for idmapped mounts, and for joining.
///
/// The namespace lives as long as the handle, a copy of it, a mount that was idmapped with it, or a process in it. Two
/// handles are equal when they are on the same namespace.
///
/// ```no_run
/// use idmap::{IdMaps, UsernsFd};
///
/// // What belongs to 0 to 65535 on the disk belongs to 100000 and above through a mount with this map:
/// // mountkit::Bind::new("/srv/base").idmap(&userns).mount()?
/// let userns = UsernsFd::with_maps(&IdMaps::contiguous(100_000, 100_000, 65_536)?)?;
/// assert_eq!(userns.owner_uid()?, 0);
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// To join it: `ns_core::NsFd::<User>::from_fd(userns.into())`, setns(2), or `nsenter --user=/proc/PID/fd/N`.
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Debug)]
#[doc(alias = "CLONE_NEWUSER")]
#[must_use = "the namespace is gone as soon as the handle is dropped"]
pub struct UsernsFd {
    fd: OwnedFd,
    id: UsernsId,
    made_with: Option<(IdMaps, Setgroups)>,
}

const A_NEW_ONE: &str = "a new user namespace";

impl UsernsFd {
    /// A new user namespace with the maps of `plan`, which are written and read back.
    ///
    /// For that there is a child for a moment, which shares the caller's memory and runs nothing of it: it takes as long in
    /// a program of many gigabytes, and no thread, signal handler or wait(2) of the caller's notices it. It has ended
    /// and been reaped when this returns, on errors too, and when the caller is killed it is killed.
    ///
    /// A process of the caller's effective uid, in the caller's user namespace, has all capabilities in the new one. So it
    /// may trace that child, and through it read and write the caller's memory, even if it may not trace the caller: one
    /// that has more capabilities, or that Yama protects. Who is such a caller, and shares its uid with programs that it
    /// does not trust, makes the namespace in a program that it executes without capabilities, and is handed the descriptor.
    /// While the caller is not dumpable, nobody without capabilities above may do this; nor can an ordinary user's maps be
    /// written then.
    ///
    /// Blocks as [`MapPlan::write`] does, which may run newuidmap(1) and newgidmap(1).
    ///
    /// * C calls: [clone(2)](https://man7.org/linux/man-pages/man2/clone.2.html) with CLONE_NEWUSER, CLONE_VM and
    ///   CLONE_PIDFD; write(2) of its maps; ioctl(2) PIDFD_GET_USER_NAMESPACE; waitid(2).
    /// * Kernel: 5.4. Before 6.11 the descriptor comes from `/proc/PID/ns/user`.
    /// * Privileges: those of the plan, see [`Way`](crate::Way). An ordinary user may.
    ///
    /// ```no_run
    /// use idmap::{Caller, MapPlan, SubIds, UsernsFd};
    ///
    /// let caller = Caller::current()?;
    /// let plan = MapPlan::auto(&caller, &SubIds::of(&caller)?)?;
    /// let userns = UsernsFd::new(&plan)?;
    /// assert_eq!(userns.maps(), Some(plan.maps()));
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// * Permission (EPERM): user namespaces are not allowed here, which the hint tells more about; or the kernel refused
    ///   a map. EACCES for an ordinary user's process that is not dumpable, see PR_SET_DUMPABLE in prctl(2).
    /// * Limit: `user.max_user_namespaces` is reached here or further up, or it would be more than 32 levels deep (ENOSPC; EUSERS
    ///   before 4.9); processes (EAGAIN); descriptors (EMFILE).
    /// * Invalid (EINVAL): the kernel was built without user namespaces.
    /// * Those of [`MapPlan::write`].
    pub fn new(plan: &MapPlan) -> Result<Self> {
        Self::make(plan, &ProcFd::open(ProcView::Processes)?, &mut ())
    }

    /// A new user namespace with exactly these maps, as far as the caller may: [`MapPlan::explicit`] for the calling
    /// thread, and [`new`](Self::new).
    ///
    /// ```no_run
    /// let userns = idmap::UsernsFd::with_maps(&"100000:100000:65536".parse()?)?;
    /// # drop(userns);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Caller::current`], [`SubIds::of`], [`MapPlan::explicit`] and [`new`](Self::new).
    pub fn with_maps(maps: &IdMaps) -> Result<Self> {
        let caller = Caller::current()?;
        Self::new(&MapPlan::explicit(maps.clone(), &caller, &SubIds::of(&caller)?)?)
    }

    /// As [`new`](Self::new), through a `proc` that the caller has, and telling `observer` of each step once it is made:
    /// those of [`describe`](Self::describe). It saves making a procfs each time.
    ///
    /// ```no_run
    /// use cellkit_core::{ProcFd, ProcView};
    /// use idmap::{Caller, MapPlan, SubIds, UsernsFd};
    ///
    /// let (caller, proc) = (Caller::current()?, ProcFd::open(ProcView::Processes)?);
    /// let subids = SubIds::of(&caller)?;
    /// for maps in ["100000:100000:65536", "200000:200000:65536"] {
    ///     let plan = MapPlan::explicit(maps.parse()?, &caller, &subids)?;
    ///     println!("{}", UsernsFd::make(&plan, &proc, &mut ())?.id());
    /// }
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn make(plan: &MapPlan, proc: &ProcFd, observer: &mut dyn Observer) -> Result<Self> {
        let [clone, take, end] = own_steps();
        let tell = |step, observer: &mut dyn Observer, begun: Instant| {
            if observer.listens() {
                observer.made(step, begun.elapsed());
            }
        };
        let begun = Instant::now();
        let child = Parked::new().map_err(|(call, errno)| {
            Error::from_errno(call, errno.0).on(Subject::Namespace(A_NEW_ONE.into())).with_hints(&HINTS)
        })?;
        tell(clone, observer, begun);
        plan.write(&child, proc, observer).map_err(not_dumpable)?;
        let begun = Instant::now();
        let fd = match of_pidfd(&child)? {
            Some(fd) => fd,
            None => proc.process(&child)?.namespace("user")?,
        };
        tell(take, observer, begun);
        let begun = Instant::now();
        drop(child);
        tell(end, observer, begun);
        Self::verified(fd, Some((plan.maps().clone(), plan.setgroups())))
    }

    /// The steps that making one by `plan` takes, in words, in their order. `CHILD` stands for the process.
    ///
    /// ```no_run
    /// use idmap::{Caller, MapPlan, SubIds, UsernsFd};
    ///
    /// let caller = Caller::current()?;
    /// let plan = MapPlan::auto(&caller, &SubIds::of(&caller)?)?;
    /// assert_eq!(UsernsFd::describe(&plan)[0].call, "clone");
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn describe(plan: &MapPlan) -> Vec<StepText> {
        let [clone, take, end] = own_steps();
        let mut steps = vec![clone];
        steps.extend(plan.describe());
        steps.extend([take, end]);
        steps
    }

    /// Takes a descriptor of a user namespace, from `/proc/PID/ns/user`, say.
    ///
    /// * C call: ioctl(2) NS_GET_NSTYPE, by which it is verified; Linux 4.11.
    ///
    /// ```
    /// let fd = std::fs::File::open("/proc/self/ns/user").unwrap();
    /// let own = idmap::UsernsFd::from_fd(fd.into())?;
    /// assert_eq!(own.maps(), None);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid: it is no user namespace.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Self::verified(fd, None)
    }

    fn verified(fd: OwnedFd, made_with: Option<(IdMaps, Setgroups)>) -> Result<Self> {
        let subject = || Subject::Thing(format!("fd {}", fd.as_raw_fd()));
        let refuse = |why: &'static str| Err(Error::invalid("ioctl NS_GET_NSTYPE", why).on(subject()));
        match namespace::kind(fd.as_fd()) {
            Ok(libc::CLONE_NEWUSER) => {}
            Ok(_) => return refuse("this is a namespace of another kind, and not a user namespace"),
            Err(Errno(libc::ENOTTY)) => return refuse("this is no namespace"),
            Err(errno) => return Err(Error::from_errno("ioctl NS_GET_NSTYPE", errno.0).on(subject())),
        }
        let (dev, inode) =
            namespace::id(fd.as_fd()).map_err(|errno| Error::from_errno("fstat", errno.0).on(subject()))?;
        Ok(Self { fd, id: UsernsId { dev, inode }, made_with })
    }

    /// Another descriptor of the same namespace.
    ///
    /// # Errors
    /// Limit (EMFILE).
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        Ok(Self { fd, id: self.id, made_with: self.made_with.clone() })
    }

    /// The maps that it was made with; `None` for one that was [taken](Self::from_fd), as the kernel tells them only to who
    /// has a process in it.
    #[must_use]
    pub fn maps(&self) -> Option<&IdMaps> {
        self.made_with.as_ref().map(|(maps, _)| maps)
    }

    /// Whether setgroups(2) is allowed in it; `None` for one that was [taken](Self::from_fd).
    #[must_use]
    pub fn setgroups(&self) -> Option<Setgroups> {
        self.made_with.as_ref().map(|(_, setgroups)| *setgroups)
    }

    /// The uid of who made it, as the caller's own user namespace has it: who has all capabilities in it, from the
    /// namespace above. 65534 when the caller's namespace does not have that uid.
    ///
    /// * C call: ioctl(2) NS_GET_OWNER_UID, Linux 4.11. Needs no privilege.
    ///
    /// # Errors
    /// None that the kernel is known to have for a user namespace.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_GET_OWNER_UID")]
    pub fn owner_uid(&self) -> Result<u32> {
        namespace::owner_uid(self.fd.as_fd())
            .map_err(|errno| Error::from_errno("ioctl NS_GET_OWNER_UID", errno.0).on(self.subject()))
    }

    /// What names it.
    #[must_use]
    pub fn id(&self) -> UsernsId {
        self.id
    }

    fn subject(&self) -> Subject {
        Subject::Namespace(self.id.to_string())
    }
}

/// What is done beside writing the maps: before it, and twice after it.
fn own_steps() -> [StepText; 3] {
    let step = |call, arguments: &'static str, reason: &'static str| {
        StepText::new(call, arguments, reason).on(Subject::Namespace(A_NEW_ONE.into()))
    };
    [
        step(
            "clone",
            "CLONE_NEWUSER|CLONE_VM|CLONE_PIDFD",
            "a user namespace is made around a process: one that waits, and runs nothing",
        ),
        step("ioctl", "CHILD, PIDFD_GET_USER_NAMESPACE", "a descriptor keeps the namespace without the process"),
        step("waitid", "P_PIDFD, CHILD, WEXITED|__WALL", "killed and reaped: no process is left behind"),
    ]
}

/// The user namespace of a process; `None` before Linux 6.11, or where a filter knows no such request.
fn of_pidfd(pidfd: &impl AsFd) -> Result<Option<OwnedFd>> {
    match namespace::of_pidfd(pidfd.as_fd()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(None),
        Err(errno) => Err(Error::from_errno("ioctl PIDFD_GET_USER_NAMESPACE", errno.0)
            .on(Subject::Thing("a pidfd".into()))
            .or_gone()),
    }
}

/// The child has the caller's memory, and so whether it may be looked at.
fn not_dumpable(error: Error) -> Error {
    if error.kind() != ErrorKind::Permission || sys::is_dumpable() {
        return error;
    }
    error.with_hint(
        "this process is not dumpable, since it has changed its ids or is set-user-id, so that its files in /proc are \
         root's, and those of its children: drop privileges by executing a program, or say prctl(PR_SET_DUMPABLE, 1) if \
         nothing in its memory is to be kept from the user",
    )
}

impl PartialEq for UsernsFd {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for UsernsFd {}

impl AsFd for UsernsFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<UsernsFd> for OwnedFd {
    fn from(userns: UsernsFd) -> Self {
        userns.fd
    }
}

impl TryFrom<OwnedFd> for UsernsFd {
    type Error = Error;

    /// [`UsernsFd::from_fd`].
    fn try_from(fd: OwnedFd) -> Result<Self> {
        Self::from_fd(fd)
    }
}
