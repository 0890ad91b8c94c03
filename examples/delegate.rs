//! `systemd-run -p Delegate=yes --uid=UID COMMAND`: a group is given to a user, who makes one below it and runs a command there.
//!
//! As root: `cargo run --example delegate -- 1000 sh -c 'cat /proc/self/cgroup'`
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use cgroupfs::{Cgroup, CgroupName, Controller, Error, Hierarchy, Result};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--as-the-user", group, program, ..] => as_the_user(group, program, &args[3..]),
        [uid, _, ..] if uid.parse::<u32>().is_ok() => as_root(uid.parse().unwrap_or(0), &args[1..]),
        _ => {
            eprintln!("usage: delegate UID COMMAND [ARGUMENT]...");
            std::process::exit(2)
        }
    }
}

/// Makes the group, gives it away, and starts this program in it as the user.
fn as_root(uid: u32, command: &[String]) -> Result<()> {
    let place = Hierarchy::detect()?.place()?;
    if let Some(why_not) = place.why_not(Controller::Pids) {
        eprintln!("{why_not}: the group goes without; {}", why_not.what_to_do());
    } else {
        place.group().enable(Controller::Pids)?;
    }
    let group = place.group().create_child(&CgroupName::new(format!("delegate-{}", std::process::id()))?)?;
    let outcome = group.delegate(uid, uid).and_then(|files| {
        eprintln!("uid {uid} has {:?} and of its files {}", group.path(), files.join(", "));
        // The first process comes from outside of what the user has, so that moving it is the giver's part.
        let entered = Cgroup::open(group.path())?;
        let mut program = Command::new(std::env::current_exe().map_err(|e| Error::from_io("readlink", &e))?);
        program.arg("--as-the-user").arg(group.path()).args(command);
        let back = Hierarchy::detect()?.own_group()?;
        entered.attach_self()?;
        let started = program.uid(uid).gid(uid).spawn();
        back.attach_self()?;
        let mut child = started.map_err(|e| Error::from_io("execve", &e))?;
        child.wait().map_err(|e| Error::from_io("wait4", &e))
    });
    let removed = group.remove(Duration::from_secs(5));
    let status = outcome?;
    removed?;
    std::process::exit(status.code().unwrap_or(1))
}

/// What the user does without any privilege: a group, and itself into it.
fn as_the_user(group: &str, program: &str, args: &[String]) -> Result<()> {
    let delegated = Cgroup::open(group)?;
    let own = delegated.create_child(&CgroupName::new("mine")?)?;
    own.attach_self()?;
    Err(Error::from_io("execve", &Command::new(program).args(args).exec()))
}
