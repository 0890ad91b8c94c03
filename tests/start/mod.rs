//! Faults on the way of a whole start: ns-core's child that makes mountkit's root. Each ends in an error that names the errno,
//! or in a start where a way around is documented, and nothing is left on the machine: no process, mount, file or
//! descriptor.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use cellkit_core::{ChildSteps, Error};
use faultkit::{Call, Counted, End, Failure, Fault, Run, Sweep, TempDir};
use mountkit::{Overlay, Rootfs, Tmpfs, Volume};
use ns_core::{Command, Namespaces, Stdio};

/// Two layers, of which one has what the other hides, with the machine's programs.
fn layers() -> TempDir {
    let dir = TempDir::new();
    for sub in ["below/etc", "above/etc", "above/usr", "above/data"] {
        fs::create_dir_all(dir.join(sub)).expect("mkdir");
    }
    for layer in ["below", "above"] {
        fs::write(dir.join(layer).join("etc/name"), layer).expect("write");
    }
    fs::write(dir.join("above/data/file"), "content").expect("write");
    for link in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), dir.join("below").join(link)).expect("symlink");
    }
    dir
}

fn steps(dir: &TempDir) -> ChildSteps {
    let overlay = Overlay::new().lowers([dir.join("above"), dir.join("below")]);
    let rootfs = Rootfs::overlay_of_layers(overlay)
        .proc()
        .dev()
        .mask_defaults()
        .volume(Volume::bind("/usr", "/usr").read_only())
        .tmpfs("/t", Tmpfs::new().size(1 << 20))
        .tmpfs_copy_up("/data", Tmpfs::new());
    rootfs.steps().expect("steps")
}

fn failure(error: &Error) -> Failure {
    Failure::new(error.operation(), error.raw_os_error(), format!("{error:#}"))
}

/// A start whose payload ends when its standard input does: not before the caller has looked after it.
fn body(counted: &Counted<'_>, dir: &TempDir) -> Result<(), Failure> {
    let (reader, writer) = UnixStream::pair().expect("socketpair");
    let command = Command::new("/usr/bin/cat")
        .namespaces(Namespaces::MOUNT | Namespaces::PID | Namespaces::IPC)
        .steps(steps(dir))
        .stdin(Stdio::Fd(OwnedFd::from(reader)))
        .stdout(Stdio::Null);
    let plan = command.plan().map_err(|error| failure(&error))?;
    let start = || {
        let mut child = plan.spawn()?;
        drop(writer);
        // A wait that fails has not reaped: it is made again.
        child.wait().or_else(|error| child.wait().and(Err(error)))
    };
    let status = counted.run(start).map_err(|error| failure(&error))?;
    if status.success() { Ok(()) } else { Err(Failure::new("exit", None, status)) }
}

/// Where a failed call does no harm, and why.
fn withstood(call: &Call) -> Option<&'static str> {
    match (call.is_callers(), call.name.as_str()) {
        (_, "close") => Some("the descriptor is closed all the same"),
        (_, "clock_gettime") => Some("a step without a time ends the list of times"),
        (true, "uname") => Some("a kernel of unknown version counts as old: the child gets a copy of the memory"),
        (true, "pidfd_open") => Some("where a pidfd does not know its namespaces, /proc does"),
        (true, "fsopen" | "fsconfig" | "fsmount") => Some("without a private procfs, the machine's own is verified"),
        (true, "openat2" | "read") => Some("a group whose limit cannot be read counts as limited"),
        (true, "prctl") => Some("a flag that cannot be read is set again"),
        (true, "waitid") => Some("its status will tell how it ended"),
        (false, "fgetxattr" | "fsetxattr" | "flistxattr") => Some("an attribute that cannot be copied is left out"),
        (false, "lseek") => Some("where holes are not told of, there is none"),
        _ => None,
    }
}

fn judge(run: &Run) -> Result<(), String> {
    match (run.fault, &run.end) {
        (Fault::Fail(errno), End::Returned(Err(failure))) if failure.errno == Some(errno) => Ok(()),
        (Fault::Fail(_), End::Returned(Ok(()))) if withstood(&run.call).is_some() => Ok(()),
        (Fault::Kill | Fault::KillCaller, End::Killed) => Ok(()),
        // The child was killed: its start failed at that step, or it was its payload already.
        (Fault::Kill, End::Returned(Err(failure))) if failure.text.contains("signal 9") => Ok(()),
        (_, other) => Err(format!("{other:?}")),
    }
}

mod root {
    use super::*;

    #[test]
    fn any_call_of_a_start_with_a_root_fails_or_is_killed_and_nothing_is_left() {
        faultkit::require!(root);
        faultkit::isolated!(limit_secs = 300, || {
            let dir = layers();
            let stride = if std::env::var_os("CELLKIT_VM").is_some() { 29 } else { 4 };
            let restores = |call: &Call| call.is_callers() && call.name == "rt_sigprocmask" && call.args[2] == 0;
            let sweep = Sweep::new(|counted| body(counted, &dir))
                .stride(stride)
                .spare("giving the signal mask back cannot fail, and nothing could be done", restores);
            for fault in [Fault::Fail(libc::ENOMEM), Fault::Kill, Fault::KillCaller] {
                let swept = sweep.each(fault, judge);
                assert!(swept.runs * stride > 40 && swept.unmet * 10 <= swept.runs, "{swept:?}");
            }
        });
    }
}
