//! The system calls that are not made to fail, because nobody could do anything about it, and why.
//!
//! A process is killed at these too: that can be survived at any call.
#![forbid(unsafe_code)]

use super::Call;

/// One kind of call that is left alone.
pub(super) struct Spared {
    pub(super) is: fn(&Call) -> bool,
    pub(super) why: &'static str,
}

/// Those of every sweep. [`Sweep::spare`](super::Sweep::spare) adds to them.
pub(super) const SPARED: &[Spared] = &[
    Spared {
        is: |call| ["exit", "exit_group", "rt_sigreturn", "restart_syscall"].contains(&call.name.as_str()),
        why: "they do not return, or are not made by the program",
    },
    Spared {
        is: |call| is_allocation(call) || ["brk", "mremap", "munmap", "madvise"].contains(&call.name.as_str()),
        why: "memory for the allocator, whose failure ends a Rust program, and giving memory back, which cannot be undone",
    },
    Spared {
        is: |call| {
            ["futex", "set_robust_list", "rseq", "set_tid_address", "sigaltstack", "sched_yield", "membarrier"]
                .contains(&call.name.as_str())
        },
        why: "the C library's and the runtime's own locks and threads, which do not look at the answer or abort",
    },
    Spared {
        is: |call| {
            ["getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid"].contains(&call.name.as_str())
        },
        why: "they cannot fail, and have no way to say so",
    },
    Spared {
        is: |call| call.name == "clock_gettime",
        why: "a call only where the clock of a machine is not to be trusted, and the standard library takes no error from it",
    },
    Spared {
        is: |call| call.name == "fcntl" && call.args[1] == libc::F_GETFD as u64,
        why: "the standard library's own check of a descriptor, in debug builds, and a question that cannot fail",
    },
    Spared {
        is: |call| ["write", "writev"].contains(&call.name.as_str()) && call.args[0] == 2,
        why: "what the test says on its standard error",
    },
];

/// Memory as the C library's allocator asks for it: private, anonymous, readable and writable or not accessible yet, at
/// no address, with no other flag; and what makes parts of it accessible.
fn is_allocation(call: &Call) -> bool {
    const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    const PLAIN: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    const ARENA: u64 = PLAIN | libc::MAP_NORESERVE as u64;
    let [_, _, protection, flags, ..] = call.args;
    match call.name.as_str() {
        "mmap" => (protection, flags) == (READ_WRITE, PLAIN) || (protection, flags) == (0, ARENA),
        "mprotect" => protection == READ_WRITE,
        _ => false,
    }
}
