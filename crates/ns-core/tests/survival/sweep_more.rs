//! Faults at every system call of what a start may have beside namespaces: descriptors, output, a terminal, limits, and
//! entering what others are in.

use faultkit::{Counted, End, Failure, Fault, Sweep};
use ns_core::{Command, Namespaces, Stdio};

use crate::failure;
use crate::sweep::{body, every_call_fails, judge, killed};

/// The loops in a start have been swept whole by then.
fn sweep<'a>(body: impl Fn(&Counted<'_>) -> Result<(), Failure> + 'a) -> Sweep<'a> {
    crate::sweep::sweep(body).ends_of_rows()
}

/// `cat` of some input, which comes back.
fn output(counted: &Counted<'_>) -> Result<(), Failure> {
    let command = Command::new("/bin/cat").new_session();
    let output = counted.run(|| command.output_from("some words\n")).map_err(|error| failure(&error))?;
    let whole = output.status.success() && output.stdout == b"some words\n" && output.stderr.is_empty();
    if whole { Ok(()) } else { Err(Failure::new("output", None, format!("{output:?}"))) }
}

/// Whether the call may succeed when it is made again.
fn passes(fault: Fault) -> bool {
    [Fault::Fail(libc::EINTR), Fault::Fail(libc::EAGAIN)].contains(&fault)
}

const WAITS: &str = "a wait fails where there is no child only, and has then not reaped";

#[test]
fn every_call_of_an_output_fails() {
    faultkit::isolated!(|| {
        let sweep = sweep(output)
            .spare("a wait fails where there is no child only, and has then not reaped", |call| call.name == "waitid");
        every_call_fails(sweep, |run| match (run.call.name.as_str(), &run.end) {
            // How large a pipe is: the standard library does without.
            ("statx" | "lseek", End::Returned(Ok(()))) => Ok(()),
            // The write is made again.
            ("rt_sigpending" | "rt_sigprocmask" | "write" | "read", End::Returned(Ok(()))) if passes(run.fault) => {
                Ok(())
            }
            // Words that cannot be masked for cannot be written.
            ("rt_sigpending" | "rt_sigprocmask", End::Returned(Err(failure))) if failure.operation == "write" => Ok(()),
            _ => judge(run),
        });
    });
}

#[test]
fn every_call_of_a_start_with_descriptors_and_limits_fails() {
    faultkit::isolated!(|| {
        every_call_fails(
            sweep(|counted| {
                let file = |name: &str| std::fs::File::open(name).expect(name);
                let command = Command::new("/bin/cat")
                    .stdout(Stdio::Null)
                    .stderr(Stdio::Null)
                    .fd(3, file("/etc/passwd"))
                    .fd(9, file("/dev/null"))
                    .umask(0o027)
                    .nice(5)
                    .new_process_group();
                body(counted, command)
            }),
            judge,
        );
    });
}

#[test]
fn every_call_of_a_start_on_a_terminal_fails() {
    faultkit::isolated!(|| {
        let sweep = sweep(|counted| body(counted, Command::new("/bin/cat").terminal().terminal_size(25, 80)));
        every_call_fails(sweep, |run| match (run.call.name.as_str(), &run.end) {
            // Without a session of its own there is no controlling terminal.
            ("setsid", End::Returned(Err(failure))) if failure.operation == "ioctl" => Ok(()),
            _ => judge(run),
        });
    });
}

mod root {
    use super::*;

    #[test]
    fn a_kill_of_anybody_in_a_start_in_a_container_or_with_a_reaper_leaves_nothing() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let kinds = Namespaces::PID | Namespaces::UTS | Namespaces::MOUNT;
            let mut container = Command::new("/bin/sleep").arg("10000").namespaces(kinds).spawn().expect("container");
            let joins = || Command::new("/bin/cat").join_process(&container, kinds);
            let init = || Command::new("/bin/cat").namespaces(Namespaces::PID | Namespaces::MOUNT).init();
            for command in [&joins as &dyn Fn() -> Command, &init] {
                let sweep = sweep(|counted| body(counted, command()));
                sweep.each(Fault::Kill, |run| match &run.end {
                    // The successor is known by then, or makes itself known.
                    End::Returned(Ok(())) if ["sendmsg", "sendto", "exit_group"].contains(&run.call.name.as_str()) => {
                        Ok(())
                    }
                    // A start that was under way says where it was; one that was done, how its payload ended.
                    End::Returned(Err(failure)) if failure.text.contains("ended at this step") => Ok(()),
                    End::Returned(Err(failure)) if ["signal 9", "exit status 137"].contains(&&*failure.text) => Ok(()),
                    _ => killed(run),
                });
                sweep.each(Fault::KillCaller, killed);
            }
            container.kill().expect("kill");
            container.wait().expect("wait");
        });
    }

    /// In a container: its pid namespace takes a second child, which the first one makes.
    #[test]
    fn every_call_of_a_start_in_a_container_fails() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let kinds = Namespaces::PID | Namespaces::NET | Namespaces::UTS | Namespaces::MOUNT;
            let mut container = Command::new("/bin/sleep").arg("10000").namespaces(kinds).spawn().expect("container");
            let sweep = sweep(|counted| body(counted, Command::new("/bin/cat").join_process(&container, kinds)));
            let sweep = sweep.spare(WAITS, |call| call.name == "waitid");
            every_call_fails(sweep, |run| match (run.call.is_callers(), run.call.name.as_str(), &run.end) {
                // Where the pidfd does not know its namespaces, /proc does.
                (true, "ioctl", End::Returned(Ok(()))) => Ok(()),
                // What cannot be compared with the caller's own is joined, what cannot be joined is tried once more.
                (true, "fstatfs" | "newfstatat" | "fstat", End::Returned(Ok(()))) => Ok(()),
                (false, "setns", End::Returned(Ok(()))) => Ok(()),
                // The successor is told of twice, and without a descriptor by its number alone.
                (false, "sendmsg" | "sendto", End::Returned(Ok(()))) => Ok(()),
                _ => judge(run),
            });
            container.kill().expect("kill");
            container.wait().expect("wait");
        });
    }
}
