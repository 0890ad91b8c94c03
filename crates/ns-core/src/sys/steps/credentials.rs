//! Runs the steps that change the child's credentials: raw system calls on prepared data, and nothing else.
#![allow(unsafe_code)]

use cellkit_core::sys::syscall;
use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

use super::{Done, numbers, prctl};
use crate::step::CredentialStep;
use crate::{Capabilities, CapabilitySet, sys};

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
            Self::Keyring(name) => {
                const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
                let named = name.as_ref().map_or(0, |name| name.as_ptr() as usize);
                // SAFETY: the name is null or a C string; the kernel only reads it.
                match unsafe { syscall(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, named, 0, 0, 0, 0]) } {
                    // A kernel without keyrings has none to inherit.
                    Err(Errno(libc::ENOSYS)) if name.is_none() => Ok(()),
                    answer => answer.map(drop),
                }
            }
            Self::BoundCapabilities(set) => bound_capabilities(*set),
            Self::KeepCapabilities => prctl(libc::PR_SET_KEEPCAPS, 1),
            Self::RaiseEffective { inheritable } => {
                let [_, permitted, _] = capget()?;
                capset(permitted, permitted, known_inheritable(*inheritable, permitted))
            }
            Self::ClearAmbient => prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize),
            Self::RaiseAmbient(set) => raise_ambient(*set),
            Self::Securebits(bits) => prctl(libc::PR_SET_SECUREBITS, bits.bits() as usize),
            Self::Capabilities(sets) => set_capabilities(*sets),
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

fn raise_ambient(set: CapabilitySet) -> Done {
    let [_, permitted, inheritable] = capget()?;
    // "All" is what may be raised here.
    let bits = if set == CapabilitySet::FULL { permitted & inheritable } else { set.bits() };
    for number in (0..64).filter(|number| bits & 1 << number != 0) {
        let args = [libc::PR_CAP_AMBIENT as usize, libc::PR_CAP_AMBIENT_RAISE as usize, number, 0, 0];
        numbers(libc::SYS_prctl, args)?;
    }
    Ok(())
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Effective, permitted and inheritable capabilities of this thread.
pub(in crate::sys) fn capget() -> Result<[u64; 3], Errno> {
    let header = [CAPABILITY_VERSION_3, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 reads a header of two words and writes two structs of three words.
    unsafe { syscall(libc::SYS_capget, [header.as_ptr() as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    let [[effective_low, permitted_low, inheritable_low], [effective_high, permitted_high, inheritable_high]] = data;
    let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok([
        word(effective_low, effective_high),
        word(permitted_low, permitted_high),
        word(inheritable_low, inheritable_high),
    ])
}

fn capset(effective: u64, permitted: u64, inheritable: u64) -> Done {
    let header = [CAPABILITY_VERSION_3, 0];
    let low = [effective as u32, permitted as u32, inheritable as u32];
    let high = [(effective >> 32) as u32, (permitted >> 32) as u32, (inheritable >> 32) as u32];
    let data = [low, high];
    // SAFETY: version 3 reads a header of two words and two structs of three words.
    unsafe { syscall(libc::SYS_capset, [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Sets permitted, effective and inheritable. "All" is what the process has: bits beyond that would be refused.
pub(in crate::sys) fn set_capabilities(sets: Capabilities) -> Done {
    let Capabilities { permitted, effective, inheritable, .. } = sets;
    if [permitted, effective, inheritable].contains(&CapabilitySet::FULL) {
        let [_, had, _] = capget()?;
        let known = |set: CapabilitySet| if set == CapabilitySet::FULL { had } else { set.bits() };
        return capset(known(effective), known(permitted), known_inheritable(inheritable, had));
    }
    capset(effective.bits(), permitted.bits(), inheritable.bits())
}

/// "All" of the inheritable set is what is permitted and within bounds.
fn known_inheritable(set: CapabilitySet, permitted: u64) -> u64 {
    if set != CapabilitySet::FULL {
        return set.bits();
    }
    let kept = (0..64u8).filter(|number| permitted & 1 << number != 0);
    kept.filter(|number| sys::bounding_contains(*number) == Ok(Some(true))).fold(0, |bits, number| bits | 1 << number)
}
