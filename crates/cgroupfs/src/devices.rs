//! Which devices the processes of a group may open and make.
//!
//! # Theory of operation
//!
//! cgroup v2 has no files for devices. A program is attached to the group instead, which the kernel runs whenever a
//! process in the group or below it opens or makes a device node. Programs of the group and of all groups above it are
//! run, and every one of them must allow it.
//!
//! ```text
//!   DeviceRules ──► Table ──► DeviceProgram ──BPF_PROG_LOAD──► descriptor ──BPF_PROG_ATTACH──► group
//! ```
//!
//! A group can have programs of several owners. Ours is known by its name, which the kernel keeps, so a process that knows
//! nothing but the group finds it again. It is put in the place of its predecessor in one step, so at no time is there
//! none, and never are there two for longer than two callers race to attach the first. (Then the one that was attached
//! last stays. While there are two, only what both allow is allowed.)
//!
//! The attachment belongs to the group: it outlives whoever made it, and ends with the group. That is why this is no
//! `bpf_link`, which ends with the process that holds it, and would let a container out when its runtime is killed.
#![forbid(unsafe_code)]

pub(crate) mod program;
pub(crate) mod rule;
pub(crate) mod rules;
mod table;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cellkit_core::{Errno, StepText};

use crate::hint::HINTS;
use crate::sys::bpf;
use crate::{Cgroup, DeviceProgram, DeviceRules, Error, Result, open};

/// The name of our programs, as `bpftool prog` shows it.
const NAME: &[u8; bpf::NAME_LEN] = b"cellkit_dev\0\0\0\0\0";

/// How often somebody else may change the programs of the group in the middle of our change of them.
const TRIES: u32 = 64;

/// The devices of a group: a program of type BPF_PROG_TYPE_CGROUP_DEVICE that is attached to it.
///
/// ```no_run
/// use cgroupfs::{DeviceRules, Hierarchy};
///
/// let group = Hierarchy::detect()?.open("/web")?;
/// group.devices().attach(&DeviceRules::oci_default())?;
/// // One device more, without an instant in which all are allowed:
/// group.devices().attach(&DeviceRules::oci_default().allow("c 10:229 rwm".parse()?))?;
/// for program in group.devices().attached()?.programs {
///     println!("{} {:?}", program.id, program.name); // 42 Some("cellkit_dev")
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// * Kernel: 5.6 for BPF_F_REPLACE, with CONFIG_CGROUP_BPF; no controller is needed.
/// * Privileges: CAP_BPF and CAP_NET_ADMIN in the first user namespace, and CAP_SYS_ADMIN where a program is attached
///   already, to see whose it is. CAP_SYS_RESOURCE is not needed. In another user namespace there are no device programs,
///   nor are they missed: the kernel lets nobody make a device node there, and those that exist have owners and modes.
///
/// A descriptor that is open stays usable, whatever is attached afterwards; so do what is passed in and what was inherited.
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#device-controller>.
#[derive(Clone, Copy, Debug)]
pub struct Devices<'a>(&'a Cgroup);

/// How programs of a group and of the groups below it get along.
///
/// See BPF_PROG_ATTACH in bpf(2): <https://man7.org/linux/man-pages/man2/bpf.2.html>.
///
/// ```no_run
/// # let group = cgroupfs::Hierarchy::detect()?.open("/web")?;
/// if group.devices().attached()?.mode == Some(cgroupfs::AttachMode::Alone) {
///     println!("groups below can have no program of their own");
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttachMode {
    /// One program, and none below: no flag.
    Alone,
    /// One program, which one below takes the place of.
    #[doc(alias = "BPF_F_ALLOW_OVERRIDE")]
    Override,
    /// Several programs, and more below: all of them are run. [`Devices::attach`] attaches so.
    #[doc(alias = "BPF_F_ALLOW_MULTI")]
    Multi,
}

/// The device programs that are attached to a group itself. See [`Devices::attached`].
///
/// ```no_run
/// # let group = cgroupfs::Hierarchy::detect()?.open("/web")?;
/// let attached: cgroupfs::DevicePrograms = group.devices().attached()?;
/// assert!(attached.programs.iter().any(|program| program.is_ours()));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See bpf(2): <https://man7.org/linux/man-pages/man2/bpf.2.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DevicePrograms {
    /// How they were attached; `None` when there is none.
    pub mode: Option<AttachMode>,
    /// The programs, in the order in which they are run.
    pub programs: Vec<AttachedProgram>,
}

/// A program that is attached to a group.
///
/// ```no_run
/// # let group = cgroupfs::Hierarchy::detect()?.open("/web")?;
/// let foreign = |program: &cgroupfs::AttachedProgram| !program.is_ours();
/// println!("{} of others", group.devices().attached()?.programs.iter().filter(|&program| foreign(program)).count());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See BPF_OBJ_GET_INFO_BY_FD in bpf(2): <https://man7.org/linux/man-pages/man2/bpf.2.html>.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AttachedProgram {
    /// Its number, as `bpftool prog show id` takes it.
    pub id: u32,
    /// Its name, which may be empty. `None` when that cannot be asked, for want of CAP_SYS_ADMIN.
    pub name: Option<String>,
    /// A digest of its instructions: programs from rules that mean the same have the same. `None` as for the name.
    pub tag: Option<[u8; 8]>,
}

impl AttachedProgram {
    /// Whether it was attached by this library, in this process or another.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.name.as_deref().is_some_and(|name| name.as_bytes() == name_of(NAME))
    }
}

impl Cgroup {
    /// Which devices may be used in the group.
    #[must_use]
    pub fn devices(&self) -> Devices<'_> {
        Devices(self)
    }
}

impl Devices<'_> {
    /// BPF_PROG_LOAD and BPF_PROG_ATTACH: lets these rules decide, instead of those that this library attached before, if
    /// it did. Programs of others stay, and must allow as well; and so must those of the groups above.
    ///
    /// There is no instant without one or the other, also when it fails: then the former rules are still in force, or these
    /// already. It may be called from several processes at once: one of the calls is the last.
    ///
    /// * Kernel, privileges: see [`Devices`].
    ///
    /// # Errors
    /// Invalid when there are too many rules; Permission, with what is lacking, or with who has attached a program so that
    /// no other can be; Unsupported without CONFIG_CGROUP_BPF; what the verifier says, as
    /// [`kernel_text`](Error::kernel_text), when it does not take the program; Gone.
    #[doc(alias = "BPF_PROG_ATTACH")]
    #[doc(alias = "devices.allow")]
    pub fn attach(self, rules: &DeviceRules) -> Result<()> {
        let program = self.load(&rules.compile()?)?;
        for _ in 0..TRIES {
            let ours = self.ours()?;
            match bpf::attach(self.0.as_fd(), program.as_fd(), ours.last().map(AsFd::as_fd)) {
                Ok(()) if ours.len() == 1 => return Ok(()),
                Ok(()) => return self.keep_the_last(),
                // Somebody else has replaced what was to be replaced.
                Err(Errno(libc::ENOENT)) if !ours.is_empty() && self.0.exists() => {}
                Err(errno) => return Err(self.not_attached(errno)),
            }
        }
        Err(self.not_attached(Errno(libc::ENOENT)))
    }

    /// What [`attach`](Self::attach) would do to the group at `path`, in words. Nothing is asked or changed.
    #[must_use]
    pub fn describe_attach(path: impl AsRef<Path>, rules: &DeviceRules) -> StepText {
        let path = path.as_ref();
        let instructions = rules.compile().map_or(0, |program| program.as_bytes().len() / 8);
        let arguments = format!("{path:?}, BPF_CGROUP_DEVICE, {instructions} instructions, BPF_F_ALLOW_MULTI");
        StepText::new("BPF_PROG_ATTACH", arguments, "a filter, so that no other device is opened or made in the group")
            .on(path)
    }

    /// BPF_PROG_QUERY: the programs that are attached to this group itself, whoever attached them.
    ///
    /// * Privileges: CAP_NET_ADMIN; CAP_SYS_ADMIN for their names.
    ///
    /// # Errors
    /// Permission; Gone.
    #[doc(alias = "BPF_PROG_QUERY")]
    pub fn attached(self) -> Result<DevicePrograms> {
        let (flags, ids) = bpf::query(self.0.as_fd()).map_err(|errno| self.fail("BPF_PROG_QUERY", errno))?;
        let mode = match flags {
            _ if ids.is_empty() => None,
            flags if flags & bpf::F_ALLOW_MULTI != 0 => Some(AttachMode::Multi),
            flags if flags & bpf::F_ALLOW_OVERRIDE != 0 => Some(AttachMode::Override),
            _ => Some(AttachMode::Alone),
        };
        let mut programs = Vec::new();
        for id in ids {
            match open_program(id) {
                Ok((_, program)) => programs.push(program),
                Err(errno) if errno.0 == libc::EPERM => programs.push(AttachedProgram { id, name: None, tag: None }),
                // Replaced since.
                Err(Errno(libc::ENOENT)) => {}
                Err(errno) => return Err(self.fail("BPF_PROG_GET_FD_BY_ID", errno)),
            }
        }
        Ok(DevicePrograms { mode, programs })
    }

    /// BPF_PROG_DETACH: lets the rules that this library attached decide no more. Whether there were any is no matter, and
    /// programs of others stay.
    ///
    /// A group that is removed takes its programs with it: nothing has to be detached before.
    ///
    /// # Errors
    /// Permission; Gone.
    #[doc(alias = "BPF_PROG_DETACH")]
    pub fn detach(self) -> Result<()> {
        for _ in 0..TRIES {
            let ours = self.ours()?;
            if ours.is_empty() {
                return Ok(());
            }
            for program in ours {
                self.detach_one(&program)?;
            }
        }
        Err(self.fail("BPF_PROG_DETACH", Errno(libc::ENOENT)))
    }

    fn load(self, program: &DeviceProgram) -> Result<OwnedFd> {
        let code = program.as_bytes();
        let mut attempt = bpf::load(code, NAME, None);
        for _ in 0..TRIES {
            // A signal came while it was verified.
            match attempt {
                Err(Errno(libc::EAGAIN)) => attempt = bpf::load(code, NAME, None),
                _ => break,
            }
        }
        attempt.map_err(|errno| not_loaded(code, errno).on(self.0.path()))
    }

    /// Our programs that are attached to the group, in order: one, or none, unless several callers are at it.
    fn ours(self) -> Result<Vec<OwnedFd>> {
        let (_, ids) = bpf::query(self.0.as_fd()).map_err(|errno| self.fail("BPF_PROG_QUERY", errno))?;
        let mut ours = Vec::new();
        for id in ids {
            match open_program(id) {
                Ok((program, about)) if about.is_ours() => ours.push(program),
                Ok(_) | Err(Errno(libc::ENOENT)) => {}
                // Whether it is ours must be known: a second one would stay for ever.
                Err(errno) => return Err(self.fail("BPF_PROG_GET_FD_BY_ID", errno)),
            }
        }
        Ok(ours)
    }

    /// Detaches all of ours but the last. There is more than one when two callers attached the first at once, or when one
    /// of them was killed before it could come here.
    fn keep_the_last(self) -> Result<()> {
        for _ in 0..TRIES {
            let mut ours = self.ours()?;
            ours.pop();
            if ours.is_empty() {
                return Ok(());
            }
            for program in ours {
                self.detach_one(&program)?;
            }
        }
        Err(self.fail("BPF_PROG_DETACH", Errno(libc::ENOENT)))
    }

    fn detach_one(self, program: &OwnedFd) -> Result<()> {
        match bpf::detach(self.0.as_fd(), program.as_fd()) {
            Ok(()) => Ok(()),
            // Somebody else was faster, unless the group is what is gone.
            Err(Errno(libc::ENOENT)) if self.0.exists() => Ok(()),
            Err(errno) => Err(self.fail("BPF_PROG_DETACH", errno)),
        }
    }

    /// EPERM has two reasons, of which the kernel does not say which. A group above or this one may have a program that
    /// wants to be alone.
    fn not_attached(self, errno: Errno) -> Error {
        let error = self.fail("BPF_PROG_ATTACH", errno);
        match self.who_is_alone() {
            Some(hint) if errno.0 == libc::EPERM => error.with_hint(hint),
            _ => error,
        }
    }

    fn who_is_alone(self) -> Option<String> {
        let (flags, here) = bpf::query(self.0.as_fd()).ok()?;
        if let Some(id) = here.first().filter(|_| flags & bpf::F_ALLOW_MULTI == 0) {
            return Some(alone(self.0.path(), *id));
        }
        let mut path = self.0.path();
        let mut above = open::above(self.0.as_fd());
        while let (Ok(dir), Some(parent)) = (above, path.parent()) {
            path = parent;
            let (flags, programs) = bpf::query(dir.as_fd()).ok()?;
            if let Some(id) = programs.first() {
                // The nearest group that has one decides for all below it.
                let shares = flags & (bpf::F_ALLOW_MULTI | bpf::F_ALLOW_OVERRIDE) != 0;
                return (!shares).then(|| alone(path, *id));
            }
            above = open::above(dir.as_fd());
        }
        None
    }

    fn fail(self, operation: &'static str, errno: Errno) -> Error {
        self.0.fail(operation, errno)
    }
}

fn alone(path: &Path, id: u32) -> String {
    format!(
        "the group {path:?} has a device program that was attached without BPF_F_ALLOW_MULTI, so there can be no other: \
         see bpftool prog show id {id}"
    )
}

/// The error of a program that was not taken: loaded once more, for the verifier's reasons.
fn not_loaded(code: &[u8], errno: Errno) -> Error {
    let error = Error::from_errno("BPF_PROG_LOAD", errno.0).with_hints(&HINTS);
    if matches!(errno.0, libc::EPERM | libc::ENOSYS | libc::ENOMEM) {
        return error; // It was not looked at.
    }
    let mut log = vec![0; 1 << 16];
    let again = bpf::load(code, NAME, Some(&mut log));
    let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    // The end says why; before it is the whole program.
    let last = text.lines().rfind(|line| !line.starts_with("processed ")).unwrap_or_default();
    match again {
        Err(Errno(libc::EINVAL)) if last.is_empty() => {
            error.or_unsupported("a device program (CONFIG_CGROUP_BPF)", "4.15")
        }
        _ => error.with_kernel_text(last),
    }
}

fn open_program(id: u32) -> Result<(OwnedFd, AttachedProgram), Errno> {
    let program = bpf::by_id(id)?;
    let info = bpf::info(program.as_fd())?;
    let name = String::from_utf8_lossy(name_of(&info.name)).into_owned();
    Ok((program, AttachedProgram { id, name: Some(name), tag: Some(info.tag) }))
}

fn name_of(name: &[u8; bpf::NAME_LEN]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
