//! Every system call failing once, and the process, or its child, killed at each: nothing is left.
#![forbid(unsafe_code)]

use cellkit_core::{Error, ProcFd, ProcView};
use faultkit::{Counted, End, Failure, Fault, Run, Sweep};
use idmap::UsernsFd;

use super::plan;
use crate::sys;

fn failure(error: &Error) -> Failure {
    Failure::new(error.operation(), error.raw_os_error(), error)
}

/// The error is the one that was injected, but for calls whose failure has another way out.
fn judge(run: &Run) -> Result<(), String> {
    let other_way = match (run.fault, run.call.name.as_str()) {
        // It has no way to tell, and needs none: whatever it cannot do, the parent does.
        (Fault::Fail(_) | Fault::Kill, _) if !run.call.is_callers() => true,
        // Either of close and kill will do, and each wait has another.
        (_, "close" | "pidfd_send_signal" | "waitid") => true,
        // The namespace is had from /proc.
        (Fault::Fail(libc::ENOSYS), "ioctl") => true,
        // What is lost is the old mask of signals: nobody could do anything about it.
        (_, "rt_sigprocmask") => true,
        // A size for a buffer, which is a hint only.
        (_, "statx" | "lseek") => true,
        _ => false,
    };
    match (&run.fault, &run.end) {
        (Fault::Fail(errno), End::Returned(Err(failure))) if failure.errno == Some(*errno) => Ok(()),
        (_, End::Returned(Ok(()))) if other_way => Ok(()),
        (_, End::Killed) => Ok(()),
        // A child that ends while its maps are written is gone, and so it is said.
        (_, End::Returned(Err(failure))) if !run.call.is_callers() && failure.text.contains("gone: ") => Ok(()),
        (_, other) => Err(format!("{other:?}")),
    }
}

fn sweep(fault: Fault) {
    let plan = plan("100000:100000:65536").deny_setgroups();
    let proc = ProcFd::open(ProcView::Processes).expect("proc");
    let stride = if std::env::var_os("CELLKIT_VM").is_some() { 5 } else { 1 };
    let sweep = Sweep::new(|counted: &Counted<'_>| {
        let made = counted.run(|| UsernsFd::make(&plan, &proc, &mut ()));
        made.map(drop).map_err(|error| failure(&error))
    });
    let sweep = sweep.observe(|| vec![format!("{:x}", sys::blocked())]).stride(stride);
    let swept = sweep
        .spare("the mask of signals is put back, which cannot fail: both sets are the caller's own memory", |call| {
            call.name == "rt_sigprocmask" && call.args[2] == 0
        })
        .each(fault, judge);
    assert!(swept.runs > 10 / stride, "{swept:?}");
}

#[test]
fn each_call_without_memory() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || sweep(Fault::Fail(libc::ENOMEM)));
}

#[test]
fn each_call_as_on_a_kernel_without_it() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || sweep(Fault::Fail(libc::ENOSYS)));
}

#[test]
fn the_caller_or_the_child_is_killed_at_each_call() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        sweep(Fault::Kill);
        sweep(Fault::KillCaller);
    });
}
