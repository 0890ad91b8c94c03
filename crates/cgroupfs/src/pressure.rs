//! Pressure stall information of a group.
#![forbid(unsafe_code)]

pub(crate) mod stall;

use crate::{Cgroup, Error, ErrorKind, Pressure, Result};

/// The pressure files of a group, which belong to no controller: how much time its processes lost waiting. Made by
/// [`Cgroup::pressure`].
///
/// They are there for every group, the root too, unless the machine or the group has them off.
///
/// ```no_run
/// use cgroupfs::Hierarchy;
///
/// let group = Hierarchy::detect()?.own_group()?;
/// if let Some(some) = group.pressure().memory()?.some {
///     println!("{} % of the last ten seconds went by waiting for memory", some.avg10);
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html#cgroup2-interface>.
#[derive(Clone, Copy, Debug)]
pub struct PressureFiles<'a>(&'a Cgroup);

impl Cgroup {
    /// The pressure files.
    #[must_use]
    pub fn pressure(&self) -> PressureFiles<'_> {
        PressureFiles(self)
    }
}

impl PressureFiles<'_> {
    /// `cpu.pressure`: time lost waiting for a processor. Linux 4.20; its line `full` 5.13.
    ///
    /// # Errors
    /// Unsupported, with what to do, when pressure is not accounted for, by the machine or for this group; Gone.
    #[doc(alias = "cpu.pressure")]
    pub fn cpu(self) -> Result<Pressure> {
        self.read("cpu.pressure")
    }

    /// `memory.pressure`: time lost waiting for memory: reclaim, refaults, swapping in. Linux 4.20.
    ///
    /// # Errors
    /// As [`cpu`](Self::cpu).
    #[doc(alias = "memory.pressure")]
    pub fn memory(self) -> Result<Pressure> {
        self.read("memory.pressure")
    }

    /// `io.pressure`: time lost waiting for disks. Linux 4.20.
    ///
    /// # Errors
    /// As [`cpu`](Self::cpu).
    #[doc(alias = "io.pressure")]
    pub fn io(self) -> Result<Pressure> {
        self.read("io.pressure")
    }

    /// `irq.pressure`: time lost to interrupts; it has the line `full` only. Linux 6.1, built with
    /// `CONFIG_IRQ_TIME_ACCOUNTING`.
    ///
    /// # Errors
    /// As [`cpu`](Self::cpu); Unsupported on a kernel without it.
    #[doc(alias = "irq.pressure")]
    pub fn irq(self) -> Result<Pressure> {
        self.read("irq.pressure")
    }

    fn read(self, file: &str) -> Result<Pressure> {
        self.0.get(file).map_err(|error| explain(self.0, file, error))
    }
}

/// Why a pressure file cannot be read or written, when it is off.
pub(crate) fn explain(group: &Cgroup, file: &str, error: Error) -> Error {
    let off_here = || group.raw("cgroup.pressure").read().is_ok_and(|text| text.trim() == "0");
    match error.raw_os_error() {
        // The kernel hides the files of such a group.
        Some(libc::ENOENT) if error.kind() == ErrorKind::Unsupported && off_here() => error
            .as_unsupported("pressure, which is switched off for this group", None)
            .with_hint("write 1 to its cgroup.pressure"),
        Some(libc::EOPNOTSUPP | libc::ENOENT) if error.kind() != ErrorKind::Gone && file == "irq.pressure" => error
            .as_unsupported(file.to_owned(), Some("6.1"))
            .with_hint("the kernel needs CONFIG_IRQ_TIME_ACCOUNTING, and psi=1 where pressure is off by default"),
        Some(libc::EOPNOTSUPP | libc::ENOENT) if error.kind() != ErrorKind::Gone => {
            error.as_unsupported("pressure stall information, which is switched off on this machine", None).with_hint(
                "boot with psi=1 on the kernel's command line, and without cgroup_disable=pressure; the kernel needs \
                 CONFIG_PSI",
            )
        }
        _ => error,
    }
}
