//! Memory that a process and its forks share: how an injected fork is let go, and how it answers.
//!
//! Neither takes a descriptor, which the fork would have to keep out of what is counted.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The memory. The fork keeps its own mapping of it until it ends.
#[derive(Debug)]
pub struct SharedPage {
    address: *mut u8,
}

const SIZE: usize = 1 << 20;
/// Three words come before the text: ready, go, length.
const TEXT: usize = 16;

impl SharedPage {
    /// Makes it, empty.
    pub fn new() -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
        let address = unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { address: address.cast() }) }
    }

    fn word(&self, number: usize) -> &AtomicU32 {
        // SAFETY: one of the first three words of the mapping, which is aligned to a page, zeroed, and lives as long as self.
        unsafe { AtomicU32::from_ptr(self.address.wrapping_add(4 * number).cast()) }
    }

    /// In the fork: says that it is ready, and waits to be let go.
    pub fn await_go(&self) {
        self.word(0).store(1, Ordering::Release);
        futex(self.word(0), libc::FUTEX_WAKE, 1, None);
        while self.word(1).load(Ordering::Acquire) == 0 {
            futex(self.word(1), libc::FUTEX_WAIT, 0, None);
        }
    }

    /// Whether the fork said that it is ready, waiting `limit` for it.
    pub fn is_ready(&self, limit: Duration) -> bool {
        if self.word(0).load(Ordering::Acquire) == 0 {
            futex(self.word(0), libc::FUTEX_WAIT, 0, Some(limit));
        }
        self.word(0).load(Ordering::Acquire) != 0
    }

    /// Lets the fork go.
    pub fn go(&self) {
        self.word(1).store(1, Ordering::Release);
        futex(self.word(1), libc::FUTEX_WAKE, 1, None);
    }

    /// In the fork: leaves its answer, cut if it is very long.
    pub fn answer(&self, text: &[u8]) {
        let length = text.len().min(SIZE - TEXT);
        // SAFETY: the mapping has SIZE bytes, of which `length` from TEXT on are written; the other side reads them after
        // this process has ended.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), self.address.wrapping_add(TEXT), length) };
        self.word(2).store(length as u32, Ordering::Release);
    }

    /// What the fork, which has ended, left.
    pub fn text(&self) -> Vec<u8> {
        let length = (self.word(2).load(Ordering::Acquire) as usize).min(SIZE - TEXT);
        // SAFETY: within the mapping; the writer has ended.
        unsafe { std::slice::from_raw_parts(self.address.wrapping_add(TEXT), length) }.to_vec()
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of this size, which nothing borrows any more.
        unsafe { libc::munmap(self.address.cast(), SIZE) };
    }
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32, limit: Option<Duration>) {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the time outlive the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, limit) };
}
