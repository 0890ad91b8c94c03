//! Runs the steps that change the child's credentials: raw system calls on prepared data, and nothing else.
#![allow(unsafe_code)]

use cellkit_core::sys::syscall;
use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

use super::{Done, numbers, prctl};
use crate::CapabilitySet;
use crate::step::CredentialStep;

// SAFETY: every arm makes raw system calls on data that `self` owns or on its own stack, and does nothing else: no
// allocation, no C library, no lock, no panic (slices are reached by iterators and `get`).
unsafe impl ChildStep for CredentialStep {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, _: &mut ChildFds<'_>) -> Done {
        match self {
            Self::Groups { ids, .. } => set_groups(ids),
            Self::Gid { id, .. } => set_ids(libc::SYS_setresgid, *id),
            Self::Uid { id, .. } => set_ids(libc::SYS_setresuid, *id),
            Self::NewKeyring => {
                const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
                match numbers(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0]) {
                    // A kernel without keyrings has none to inherit.
                    Err(Errno(libc::ENOSYS)) => Ok(()),
                    answer => answer.map(drop),
                }
            }
            Self::BoundCapabilities(set) => bound_capabilities(*set),
            Self::KeepCapabilities => prctl(libc::PR_SET_KEEPCAPS, 1),
            Self::Capabilities(set) => set_capabilities(*set),
            Self::ClearAmbient => prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize),
            Self::NoNewPrivileges => prctl(libc::PR_SET_NO_NEW_PRIVS, 1),
        }
    }
}

fn set_groups(ids: &[u32]) -> Done {
    let args = [ids.len(), ids.as_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: the kernel reads ids.len() ids.
    unsafe { syscall(libc::SYS_setgroups, args) }.map(drop)
}

fn set_ids(number: libc::c_long, id: u32) -> Done {
    let id = id as usize;
    numbers(number, [id, id, id, 0, 0]).map(drop)
}

fn bound_capabilities(set: CapabilitySet) -> Done {
    for number in 0..64 {
        if set.bits() & 1 << number != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, number as usize) {
            // Past the last capability this kernel knows.
            Err(Errno(libc::EINVAL)) => break,
            answer => answer?,
        }
    }
    Ok(())
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
pub(in crate::sys) const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

fn capset(effective: u64, permitted: u64) -> Done {
    let header = [CAPABILITY_VERSION_3, 0];
    let (low, high) =
        ([effective as u32, permitted as u32, 0], [(effective >> 32) as u32, (permitted >> 32) as u32, 0]);
    let data = [low, high];
    // SAFETY: version 3 reads a header of two words and two structs of three words.
    unsafe { syscall(libc::SYS_capset, [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Sets permitted and effective to `set`, as far as this process has them, and inheritable to nothing.
pub(in crate::sys) fn set_capabilities(set: CapabilitySet) -> Done {
    if set == CapabilitySet::FULL {
        return capset_full();
    }
    capset(set.bits(), set.bits())
}

/// "All" is what the process has: bits beyond the kernel's last capability would be refused.
fn capset_full() -> Done {
    let header = [CAPABILITY_VERSION_3, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 reads a header of two words and writes two structs of three words.
    unsafe { syscall(libc::SYS_capget, [header.as_ptr() as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    let [[_, low, _], [_, high, _]] = data;
    let permitted = u64::from(low) | u64::from(high) << 32;
    capset(permitted, permitted)
}
