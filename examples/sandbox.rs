//! `timeout 5 unshare --pid --net --ipc --uts --mount --cgroup prlimit --nofile=64 setpriv --no-new-privs COMMAND`, and more:
//! a command that is not trusted, for some seconds, with what it wrote. It has no network, no capability, a copy of the
//! machine's files that is thrown away, and some system calls less. What is beyond its time is killed, with all it started.
//!
//! `cargo run --example sandbox -- 5 sh -c 'id; ps ax'`, as root or anybody
use std::io::Write;
use std::time::Duration;

use cellkit_core::{ProcFd, ProcView};
use idmap::{Caller, MapPlan, SubIds};
use mountkit::{Rootfs, Sys};
use ns_core::{
    BpfInstruction, Command, Error, Namespaces, Resource, Result, Rlimit, Seccomp, SeccompCall, Stdio, probe,
};

/// A filter under which these calls are not permitted, and programs for other processors, whose calls have other numbers,
/// do not live. Real ones allow what is known, and are made by libseccomp or `seccompiler`.
fn without(calls: &[libc::c_long]) -> Result<Seccomp> {
    let op = |code, jt, jf, k| BpfInstruction { code, jt, jf, k };
    let (load, equal, at_least, answer) = (0x20, 0x15, 0x35, 0x06);
    let kill = op(answer, 0, 0, 0x8000_0000);
    let native = [op(load, 0, 0, 4), op(equal, 1, 0, SeccompCall::NATIVE_ARCH), kill];
    let not_x32 = [op(load, 0, 0, 0), op(at_least, 0, 1, 0x4000_0000), kill];
    let refused = calls.iter().flat_map(|&call| [op(equal, 0, 1, call as u32), op(answer, 0, 0, 0x0005_0000 | 1)]);
    Seccomp::new(native.into_iter().chain(not_x32).chain(refused).chain([op(answer, 0, 0, 0x7fff_0000)]))
}

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let limit = args.next().and_then(|text| Duration::try_from_secs_f64(text.to_str()?.parse().ok()?).ok());
    let (Some(limit), Some(program)) = (limit, args.next()) else {
        eprintln!("usage: sandbox SECONDS COMMAND [ARGUMENT]...");
        std::process::exit(2)
    };
    // Whoever may not make namespaces may make a user namespace first, and there all others.
    let needs_user = !probe()?.can_make.contains(Namespaces::CONTAINER - Namespaces::USER);
    let root = Rootfs::overlay_of_host().proc().sys(Sys::Fresh).dev().mask_defaults();
    let command = Command::new(program)
        .args(args)
        .namespaces(if needs_user { Namespaces::CONTAINER } else { Namespaces::CONTAINER - Namespaces::USER })
        .steps(if needs_user { root.unprivileged() } else { root }.steps()?)
        .hostname("sandbox")
        .rlimit(Resource::Nofile, Rlimit::new(64, 64)?)
        .rlimit(Resource::Core, Rlimit::new(0, 0)?)
        .no_new_privs()
        .seccomp(without(&[libc::SYS_mount, libc::SYS_ptrace, libc::SYS_keyctl, libc::SYS_bpf])?)
        .new_session() // /dev/tty is not for it
        .kill_with_parent()
        .stdin(Stdio::Null)
        .stdout(Stdio::Pipe)
        .stderr(Stdio::Pipe);
    let paused = if needs_user { command.keep_groups() } else { command }.spawn_paused()?;
    if needs_user {
        let caller = Caller::current()?;
        let maps = MapPlan::auto(&caller, &SubIds::of(&caller)?)?;
        maps.write(&paused, &ProcFd::open(ProcView::Processes)?, &mut ())?;
    }
    let output = paused.resume(&mut ())?.wait_with_output_timeout(&[], limit)?;
    let written =
        std::io::stdout().write_all(&output.stdout).and_then(|()| std::io::stderr().write_all(&output.stderr));
    written.map_err(|error| Error::from_io("write", &error))?;
    std::process::exit(if output.timed_out { 124 } else { output.status.shell_code() }) // as timeout(1)
}
