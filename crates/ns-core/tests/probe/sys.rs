//! A seccomp filter in a fork, which no library of the tests offers.
#![allow(unsafe_code)]

use std::io::{Read, Write};

/// Runs `work` in a fork where system call `number` answers with `errno`, and answers what `work` did.
pub(crate) fn without(number: libc::c_long, errno: i32, work: impl FnOnce() -> String) -> String {
    let (reader, writer) = nix::unistd::pipe().expect("pipe");
    let (mut reader, mut writer) = (std::fs::File::from(reader), std::fs::File::from(writer));
    // SAFETY: the test runs alone in its process, whose other threads only wait for it.
    let pid = unsafe { libc::fork() };
    assert_ne!(pid, -1, "fork");
    if pid == 0 {
        drop(reader);
        filter(number as u32, errno as u32);
        let _ = writer.write_all(work().as_bytes());
        // SAFETY: ends the fork without running what belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut answer = String::new();
    reader.read_to_string(&mut answer).expect("read");
    // SAFETY: no status is asked for; the fork is ours and not reaped.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    answer
}

fn filter(number: u32, errno: u32) {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, number),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program outlives the call, which copies it.
    let installed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(installed, 0, "seccomp");
}
