//! Faults at every system call that handles make: on namespaces, on processes, on sealed programs.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use faultkit::{Call, Counted, End, Failure, Fault, Run, Sweep, Swept};
use ns_core::{Command, Error, ErrorKind, Namespaces, Net, NsFd, Process, ProcessId, SealedProgram, User, Uts};

use crate::failure;
use crate::sweep::{names, stride};

pub(crate) const ERRNOS: [i32; 5] = [libc::EMFILE, libc::ENOMEM, libc::EPERM, libc::ENOSYS, libc::EINTR];

/// Why a failed call does no harm to any of these.
fn always_withstood(call: &Call, errno: i32) -> Option<&'static str> {
    match &*call.name {
        "close" => Some("the descriptor is closed all the same"),
        "openat" | "openat2" | "read" | "write" | "pread64" | "flock" | "ppoll" if errno == libc::EINTR => {
            Some("an interrupted call is made again")
        }
        "statx" | "lseek" => Some("the standard library asks how much there is to read, and does without"),
        _ => None,
    }
}

/// Each errno at each call: an error that names both, or `withstood` says why it is none.
pub(crate) fn each_errno(sweep: Sweep<'_>, withstood: impl Fn(&Call, i32) -> Option<&'static str>) -> Vec<Swept> {
    let errnos = if stride() > 1 { &ERRNOS[1..2] } else { &ERRNOS[..] };
    let swept = errnos.iter().map(|&errno| sweep.each(Fault::Fail(errno), |run| judge(run, errno, &withstood)));
    swept.inspect(|swept| assert_eq!(swept.unmet, 0, "{swept:?}")).collect()
}

pub(crate) fn judge(
    run: &Run,
    errno: i32,
    withstood: &dyn Fn(&Call, i32) -> Option<&'static str>,
) -> Result<(), String> {
    let why = always_withstood(&run.call, errno).or_else(|| withstood(&run.call, errno));
    match &run.end {
        End::Returned(Ok(())) if why.is_some() => Ok(()),
        End::Returned(Ok(())) => Err("was ignored".to_owned()),
        End::Returned(Err(failure)) if failure.errno == Some(errno) && names(&failure.operation, &run.call.name) => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    }
}

pub(crate) fn fail(error: Error) -> Failure {
    failure(&error)
}

fn sweep<'a>(body: impl Fn(&Counted<'_>) -> Result<(), Failure> + 'a) -> Sweep<'a> {
    Sweep::new(body).stride(stride())
}

const NO_PIDFD: &str = "where the thread has no pidfd that knows its namespaces, /proc does";

#[test]
fn every_call_that_finds_a_namespace_fails() {
    faultkit::isolated!(|| {
        let me = nix::unistd::getpid().as_raw();
        let of_path = sweep(|counted| counted.run(|| NsFd::<Net>::open("/proc/self/ns/net")).map(drop).map_err(fail));
        each_errno(of_path, |_, _| None);
        let of_pid = sweep(|counted| counted.run(|| NsFd::<Uts>::of_pid(me)).map(drop).map_err(fail));
        each_errno(of_pid, |_, _| None);
        let of_thread = sweep(|counted| counted.run(NsFd::<Uts>::of_this_thread).map(drop).map_err(fail));
        each_errno(of_thread, |call, _| ["pidfd_open", "ioctl"].contains(&&*call.name).then_some(NO_PIDFD));
        let again = NsFd::<Uts>::of_this_thread().expect("uts");
        let again = sweep(move |counted| counted.run(|| again.try_clone()).map(drop).map_err(fail));
        each_errno(again, |_, _| None);
        // What a kernel without the request says.
        let of_pid = sweep(|counted| counted.run(|| NsFd::<Uts>::of_pid(me)).map(drop).map_err(fail));
        for errno in [libc::ENOTTY, libc::EINVAL, libc::EOPNOTSUPP] {
            let asks = |call: &Call, _| (call.name == "ioctl").then_some("/proc knows");
            of_pid.each(Fault::Fail(errno), |run| judge(run, errno, &asks));
        }
    });
}

#[test]
fn every_call_that_asks_a_namespace_for_its_relatives_fails() {
    faultkit::require!(userns);
    faultkit::isolated!(|| {
        let held =
            Command::new("/bin/true").namespaces(Namespaces::USER | Namespaces::UTS).spawn_paused().expect("paused");
        let (user, uts) = (held.namespace::<User>().expect("user"), held.namespace::<Uts>().expect("uts"));
        let relatives = sweep(|counted| {
            counted.run(|| uts.owner()?.parent()?.map_or(Ok(0), |_| user.owner_uid()).map(drop)).map_err(fail)
        });
        each_errno(relatives, |_, _| None);
        let by_fd = sweep(|counted| {
            let fd = OwnedFd::from(uts.try_clone().map_err(fail)?);
            counted.run(|| NsFd::<Uts>::from_fd(fd)).map(drop).map_err(fail)
        });
        each_errno(by_fd, |_, _| None);
        drop(held);
    });
}

#[test]
fn every_call_about_a_process_fails() {
    faultkit::isolated!(|| {
        let mut child = Command::new("/bin/sleep").arg("10000").spawn().expect("sleep");
        let pid = child.pid();
        let of = sweep(|counted| {
            let look = || {
                let process = Process::open(pid)?;
                let id = process.id()?;
                // What an older kernel cannot be asked is no failure of this.
                process
                    .info()
                    .map(drop)
                    .or_else(|e| if e.kind() == ErrorKind::Unsupported { Ok(()) } else { Err(e) })?;
                process.signal(0)?;
                process.has_ended()?;
                id.open().map(drop)
            };
            counted.run(look).map_err(fail)
        });
        each_errno(of, |call, errno| match &*call.name {
            "ioctl" if errno != libc::ESRCH => Some("/proc knows"),
            "fsopen" | "fsconfig" | "fsmount" => Some("without a private procfs, the machine's own is verified"),
            _ => None,
        });
        let id = child.id().expect("id");
        let text = id.to_string();
        let found = sweep(|counted| {
            let open = || text.parse::<ProcessId>().and_then(|id| id.open()).map(drop);
            counted.run(open).map_err(fail)
        });
        each_errno(found, |_, _| None);
        child.kill().expect("kill");
        child.wait().expect("wait");
    });
}

#[test]
fn every_call_that_seals_a_program_fails() {
    faultkit::isolated!(|| {
        let program = std::fs::File::open("/bin/cat").expect("cat");
        let copy = sweep(|counted| {
            let sealed = counted.run(|| SealedProgram::copy(&program)).map_err(fail)?;
            let whole = std::fs::read(format!("/proc/self/fd/{}", sealed.as_fd().as_raw_fd()));
            let same = whole.expect("the copy") == std::fs::read("/bin/cat").expect("cat");
            if same { Ok(()) } else { Err(Failure::new("copy", None, "is not whole")) }
        });
        let swept = each_errno(copy, |_, _| None);
        assert!(swept.iter().all(|swept| swept.runs * stride() > 5), "{swept:?}");
        // The mount that root may make gives way to a copy.
        let either = sweep(|counted| counted.run(|| SealedProgram::of(&program)).map(drop).map_err(fail));
        each_errno(either, |call, _| ["open_tree", "mount_setattr"].contains(&&*call.name).then_some("it is copied"));
    });
}
