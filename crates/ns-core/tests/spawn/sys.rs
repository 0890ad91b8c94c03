//! What the tests do to themselves that no library offers safely.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// signal(2) with SIG_IGN.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// signal(2) with SIG_DFL.
pub(crate) fn default(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// close(2), whoever owns it: in a fork.
pub(crate) fn close(fd: i32) {
    // SAFETY: no pointers; the caller runs in a fork that uses nothing that might own it.
    unsafe { libc::close(fd) };
}

/// fcntl(2) F_SETFD without FD_CLOEXEC.
pub(crate) fn keep_on_exec(fd: i32) {
    // SAFETY: no pointers.
    assert_ne!(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }, -1);
}

/// putenv(3), which unlike setenv(3) takes anything.
pub(crate) fn put_into_environment(entry: &'static std::ffi::CStr) {
    // SAFETY: the text lives for ever; nobody else reads the environment meanwhile.
    assert_eq!(unsafe { libc::putenv(entry.as_ptr().cast_mut()) }, 0);
}

/// A duplicate with a number from `least` on.
pub(crate) fn above(least: i32, fd: &impl AsRawFd) -> OwnedFd {
    // SAFETY: no pointers.
    let fd = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    assert_ne!(fd, -1);
    // SAFETY: just made.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A duplicate with just this number, which must be free.
pub(crate) fn at(number: i32, fd: &impl AsRawFd) -> OwnedFd {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) }, number);
    // SAFETY: just made, and the number was free.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Runs `work` in a fork, which is then killed; answers what `work` answered.
pub(crate) fn in_a_fork(work: impl FnOnce() -> i32) -> i32 {
    use std::io::{Read, Write};
    let (reader, writer) = nix::unistd::pipe().expect("pipe");
    // High, so that `work` may do with low numbers what it likes.
    let (mut reader, mut writer) = (std::fs::File::from(reader), std::fs::File::from(above(200, &writer)));
    // SAFETY: the test runs alone in its process, whose other threads only wait for it.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let answer = work();
        writer.write_all(&answer.to_ne_bytes()).expect("write");
        loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        }
    }
    drop(writer);
    let mut answer = [0; 4];
    reader.read_exact(&mut answer).expect("read");
    // SAFETY: no pointers; the fork is ours and not reaped.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    i32::from_ne_bytes(answer)
}

/// Takes one capability out of the calling thread's effective and permitted sets.
pub(crate) fn drop_capability(number: u8) {
    let mut data = capget();
    let word = usize::from(number / 32) * 3;
    for set in [word, word + 1] {
        data[set] &= !(1 << (number % 32));
    }
    let header = [CAPABILITY_VERSION_3, 0];
    // SAFETY: version 3 reads a header of two words and two structs of three words.
    let answer = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(answer, 0, "capset");
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

fn capget() -> [u32; 6] {
    let mut data = [0u32; 6];
    let header = [CAPABILITY_VERSION_3, 0];
    // SAFETY: version 3 reads a header of two words and writes two structs of three words.
    let answer = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    assert_eq!(answer, 0, "capget");
    data
}

/// The serial number of the calling thread's session keyring.
pub(crate) fn session_keyring() -> i64 {
    const KEYCTL_GET_KEYRING_ID: i32 = 0;
    const KEY_SPEC_SESSION_KEYRING: i32 = -3;
    // SAFETY: no pointers; nothing is made.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) }
}

/// Makes a capability of the calling thread inheritable and ambient.
pub(crate) fn raise_ambient(number: u8) {
    set_inheritable(number, true);
    // SAFETY: no pointers.
    let answer = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, u64::from(number), 0, 0) };
    assert_eq!(answer, 0, "prctl");
}

/// Undoes [`raise_ambient`]: what is not inheritable is not ambient.
pub(crate) fn lower_inheritable(number: u8) {
    set_inheritable(number, false);
}

fn set_inheritable(number: u8, inheritable: bool) {
    let mut data = capget();
    let word = &mut data[usize::from(number / 32) * 3 + 2];
    *word = *word & !(1 << (number % 32)) | u32::from(inheritable) << (number % 32);
    let header = [CAPABILITY_VERSION_3, 0];
    // SAFETY: version 3 reads a header of two words and two structs of three words.
    let answer = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(answer, 0, "capset");
}

/// Runs `work` in a fork and passes its panic on.
pub(crate) fn checked_in_a_fork(work: impl FnOnce()) {
    let whole = in_a_fork(|| i32::from(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok()));
    assert_eq!(whole, 1, "it panicked in the fork: its words are above");
}

/// Runs `work` in a fork, which then executes `sleep 1000`; answers what `work` answered, and the fork's number.
pub(crate) fn in_a_fork_that_executes(work: impl FnOnce() -> i32) -> (i32, i32) {
    use std::io::{Read, Write};
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
    let (mut reader, mut writer) = (std::fs::File::from(reader), std::fs::File::from(writer));
    // SAFETY: the test runs alone in its process, whose other threads only wait for it.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let answer = work();
        writer.write_all(&answer.to_ne_bytes()).expect("write");
        let argv = [c"sleep".as_ptr(), c"1000".as_ptr(), std::ptr::null()];
        // SAFETY: C strings, and an array that ends in NULL.
        unsafe { libc::execvp(argv[0], argv.as_ptr()) };
        // SAFETY: no arguments but the status.
        unsafe { libc::_exit(1) };
    }
    drop(writer);
    let mut answer = [0; 4];
    reader.read_exact(&mut answer).expect("read");
    (i32::from_ne_bytes(answer), pid)
}

/// A seccomp filter that answers every clone3 of this process with `errno`, and lets all else through.
pub(crate) fn hide_clone3(errno: i32) {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let filter = [
        // The number stands first in struct seccomp_data.
        statement(LOAD_WORD, 0),
        libc::sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: libc::SYS_clone3 as u32 },
        statement(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(RETURN, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the option takes numbers.
    let answer = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(answer, 0, "no_new_privs");
    // SAFETY: the kernel reads the program and the filter it points to.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(answer, 0, "seccomp");
}

/// sigaction(2) with a handler that does nothing.
pub(crate) fn handle(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing, which is safe at any time.
    unsafe { libc::signal(signal, nothing as extern "C" fn(i32) as libc::sighandler_t) };
}

/// sched_setscheduler(2) of the calling thread; whether it was allowed.
pub(crate) fn set_scheduler(policy: i32, priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the kernel reads one sched_param.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) == 0 }
}

/// setpriority(2) of the calling thread.
pub(crate) fn set_nice(nice: i32) {
    // SAFETY: no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice) };
    assert_eq!(answer, 0, "setpriority");
}

/// ioprio_set(2) of the calling thread.
pub(crate) fn set_io_priority(bits: i32) {
    // SAFETY: no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, bits) };
    assert_eq!(answer, 0, "ioprio_set");
}

/// personality(2).
pub(crate) fn set_personality(bits: u64) {
    // SAFETY: no pointers; only programs started later notice.
    unsafe { libc::personality(bits) };
}

/// prctl(2) PR_SET_TIMERSLACK of the calling thread.
pub(crate) fn set_timer_slack(nanoseconds: u64) {
    // SAFETY: no pointers.
    let answer = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
    assert_eq!(answer, 0, "prctl");
}

/// A command whose child tells that its closure ran, or fails with this errno.
pub(crate) fn with_closure(command: ns_core::Command, errno: Option<i32>) -> ns_core::Command {
    let closure = move || {
        let text = b"closure\n";
        // SAFETY: the kernel reads as many bytes as the text has.
        unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
        // SAFETY: no pointers.
        unsafe { libc::umask(0o077) };
        match errno {
            Some(errno) => Err(std::io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    };
    // SAFETY: two system calls, on memory of the closure's own.
    unsafe { command.pre_exec(closure) }
}

/// A command beside whose payload processes do nothing but send signals to PID 1 of their pid namespace.
pub(crate) fn with_a_flood_for_pid_1(command: ns_core::Command) -> ns_core::Command {
    let closure = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGTERM] {
            // The payload hears them too, and is not to mind.
            ignore(signal);
            // SAFETY: the fork makes system calls only.
            if unsafe { libc::fork() } == 0 {
                loop {
                    // SAFETY: no pointers.
                    unsafe { libc::kill(1, signal) };
                }
            }
        }
        Ok(())
    };
    // SAFETY: system calls only.
    unsafe { command.pre_exec(closure) }
}

/// Answers the next call that a seccomp listener is asked about with `errno`; who made which.
pub(crate) fn answer_call(listener: std::os::fd::BorrowedFd<'_>, errno: i32) -> (i32, i32) {
    use std::os::fd::AsRawFd;
    const SECCOMP_IOCTL_NOTIF_RECV: libc::Ioctl = 0xc050_2100_u32 as _;
    const SECCOMP_IOCTL_NOTIF_SEND: libc::Ioctl = 0xc018_2101_u32 as _;
    let mut notification = [0u64; 10];
    // SAFETY: the kernel writes one struct seccomp_notif of 80 bytes.
    let answer = unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV, notification.as_mut_ptr()) };
    assert_eq!(answer, 0, "receive: {}", std::io::Error::last_os_error());
    // id; pid and flags; then seccomp_data, which begins with the number.
    let words: Vec<u32> = notification
        .iter()
        .flat_map(|long| long.to_ne_bytes())
        .collect::<Vec<u8>>()
        .chunks(4)
        .map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("four")))
        .collect();
    #[repr(C)]
    struct Response {
        id: u64,
        value: i64,
        error: i32,
        flags: u32,
    }
    let response = Response { id: notification[0], value: 0, error: -errno, flags: 0 };
    // SAFETY: the kernel reads one struct seccomp_notif_resp.
    let answer = unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
    assert_eq!(answer, 0, "send: {}", std::io::Error::last_os_error());
    (words[2] as i32, words[4] as i32)
}

/// What became of one system call under a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filtered {
    /// The kernel did not take the filter.
    Refused(i32),
    /// The call answered this errno, 0 for none.
    Errno(i32),
    /// The caller was killed by it.
    Killed,
}

/// Installs a filter in a fork, and makes one call there.
pub(crate) fn under_filter(program: &[u8], number: libc::c_long, arguments: [u64; 6]) -> Filtered {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
    // The instructions are words of four bytes.
    let words: Vec<u64> =
        program.chunks_exact(8).map(|bytes| u64::from_ne_bytes(bytes.try_into().expect("8"))).collect();
    let filter = libc::sock_fprog { len: words.len() as u16, filter: words.as_ptr().cast_mut().cast() };
    // SAFETY: the fork makes system calls only.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: the kernel reads the program, which lives on.
        let taken = unsafe { libc::syscall(libc::SYS_seccomp, 1, 0, &raw const filter) };
        let mut said = [0u8, 0, 0, 0, 0];
        let mut errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        if taken == 0 {
            let [a, b, c, d, e, f] = arguments;
            // SAFETY: the call takes no arguments: these are for the filter only.
            let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
            errno =
                if answer == -1 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { answer as i32 };
            said[0] = 1;
        }
        said[1..].copy_from_slice(&errno.to_ne_bytes());
        // SAFETY: five bytes of this stack.
        unsafe { libc::write(writer.as_raw_fd(), said.as_ptr().cast(), said.len()) };
        // SAFETY: no pointers.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut said = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut said).expect("read");
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    match said.as_slice() {
        [0, errno @ ..] => Filtered::Refused(i32::from_ne_bytes(errno.try_into().expect("4"))),
        [1, errno @ ..] => Filtered::Errno(i32::from_ne_bytes(errno.try_into().expect("4"))),
        _ => Filtered::Killed,
    }
}

/// A landlock ruleset that allows to write and make files below `dir` only; `None` where there is no landlock.
pub(crate) fn landlock_only_below(dir: &std::path::Path) -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::{AsRawFd, FromRawFd};
    const WRITE_FILE: u64 = 1 << 1;
    const MAKE_REG: u64 = 1 << 8;
    let handled = WRITE_FILE | MAKE_REG;
    // SAFETY: the kernel reads eight bytes, the first version of struct landlock_ruleset_attr.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, 8, 0) };
    if fd == -1 {
        return None;
    }
    // SAFETY: just made.
    let ruleset = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) };
    #[repr(C, packed)]
    struct PathBeneath {
        allowed: u64,
        parent: i32,
    }
    let parent = std::fs::File::open(dir).expect("dir");
    let rule = PathBeneath { allowed: handled, parent: parent.as_raw_fd() };
    // SAFETY: the kernel reads one struct landlock_path_beneath_attr.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), 1, &raw const rule, 0) };
    assert_eq!(answer, 0, "landlock_add_rule");
    // Standard output is a pipe, which landlock leaves alone.
    Some(ruleset)
}

/// Runs `work` in a fork, which then ends; answers its number.
pub(crate) fn fork(work: impl FnOnce()) -> i32 {
    // SAFETY: the test runs alone in its process, whose other threads only wait for it.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let whole = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        // SAFETY: no pointers.
        unsafe { libc::_exit(i32::from(!whole)) };
    }
    assert!(pid > 0, "fork");
    pid
}

/// Waits for the end of a fork, which must not have panicked.
#[track_caller]
pub(crate) fn wait(pid: i32) {
    let mut status = 0;
    // SAFETY: the kernel writes one integer.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(status, 0, "its words are above");
}

/// Whether the process can be traced and is, when it stands still, what `is_it` looks for.
pub(crate) fn traced(pid: i32, is_it: impl Fn() -> bool) -> bool {
    // Not PTRACE_ATTACH, whose SIGSTOP would stay behind.
    // SAFETY: no memory of this process is involved.
    if unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) } == -1 {
        return false;
    }
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0) };
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
    let found = is_it();
    // SAFETY: as above. A process that has died is detached already.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    found
}
