//! The memory that a child is given, or shares with its parent: its stack, the times of its steps, how far it has come.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::AtomicU64;

use cellkit_core::Errno;

/// Enough for the deepest step in a debug build, many times over. Only touched pages cost memory.
const STACK_SIZE: usize = 256 << 10;
const GUARD_SIZE: usize = 64 << 10;

/// Memory from mmap, gone when dropped.
pub(super) struct Mapping {
    address: *mut libc::c_void,
    size: usize,
}

impl Mapping {
    fn new(size: usize, flags: i32) -> Result<Self, (&'static str, Errno)> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
        let address = unsafe { libc::mmap(ptr::null_mut(), size, protection, libc::MAP_ANONYMOUS | flags, -1, 0) };
        if address == libc::MAP_FAILED { Err(("mmap", Errno::last())) } else { Ok(Self { address, size }) }
    }

    /// A stack whose lowest part cannot be touched, so that running off its end is a fault and not a corruption.
    pub(super) fn stack() -> Result<Self, (&'static str, Errno)> {
        let stack = Self::new(GUARD_SIZE + STACK_SIZE, libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_STACK)?;
        // SAFETY: the range is the lower part of our own fresh mapping.
        if unsafe { libc::mprotect(stack.address, GUARD_SIZE, libc::PROT_NONE) } == -1 {
            return Err(("mprotect", Errno::last()));
        }
        Ok(stack)
    }

    /// The lowest address of a [`stack`](Self::stack) that may be touched, and how much there is of it.
    pub(super) fn usable(&self) -> (u64, u64) {
        (self.address as u64 + GUARD_SIZE as u64, STACK_SIZE as u64)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping; who drops a Start has seen to it that no child uses it any more.
        unsafe { libc::munmap(self.address, self.size) };
    }
}

/// When each step began, in nanoseconds of CLOCK_MONOTONIC, written by the child and read by the parent.
pub(crate) struct StepTimes {
    memory: Mapping,
    count: usize,
}

// SAFETY: the memory is only reached as atomics.
unsafe impl Send for StepTimes {}
// SAFETY: as above.
unsafe impl Sync for StepTimes {}

impl StepTimes {
    pub(super) fn new(count: usize) -> Result<Self, (&'static str, Errno)> {
        // Shared, so that a child with a copy of the memory writes here too.
        Ok(Self { memory: Mapping::new((count * size_of::<AtomicU64>()).max(1), libc::MAP_SHARED)?, count })
    }

    pub(crate) fn get(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, zeroed, `count` atomics long, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.memory.address.cast::<AtomicU64>(), self.count) }
    }
}

/// The number of the step that the child is in and, above it, the errno with which it failed. A child with a copy of the
/// memory writes it where both can reach it.
pub(super) enum Reached {
    Here(AtomicU64),
    Shared(Mapping),
}

impl Reached {
    /// For a child that shares this memory.
    pub(super) fn here() -> Self {
        Self::Here(AtomicU64::new(0))
    }

    /// For one that has a copy.
    pub(super) fn shared() -> Result<Self, (&'static str, Errno)> {
        Mapping::new(size_of::<AtomicU64>(), libc::MAP_SHARED).map(Self::Shared)
    }

    pub(super) fn word(&self) -> &AtomicU64 {
        match self {
            Self::Here(word) => word,
            // SAFETY: the mapping is page-aligned, zeroed, longer than the word, and lives as long as self.
            Self::Shared(memory) => unsafe { AtomicU64::from_ptr(memory.address.cast()) },
        }
    }
}
