//! Runs a shell script in a root, and tells what became of it.
#![forbid(unsafe_code)]

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use cellkit_core::Errno;
use mountkit::{ChildSteps, Error, HINTS, Rootfs};

use crate::sys;

/// Who the child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// root of the test's own user namespace.
    Root,
    /// uid 12345, as root of a new user namespace that maps this one id.
    Ordinary,
    /// Whoever runs the test, in the same way.
    Myself,
}

/// What a script said, and its exit status.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `script` in `rootfs`, which must come up and end well.
#[track_caller]
pub(crate) fn inside(who: Who, rootfs: &Rootfs, script: &str) -> String {
    let said = try_inside(who, rootfs, script).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(said.status, 0, "{script}\n{}{}", said.stdout, said.stderr);
    said.stdout
}

/// Runs `script` in `rootfs`, unless a step fails.
#[track_caller]
pub(crate) fn try_inside(who: Who, rootfs: &Rootfs, script: &str) -> Result<Said, Error> {
    run(who, rootfs.steps()?, script)
}

/// Runs `script` in the root that `steps` make.
#[track_caller]
pub(crate) fn run(who: Who, steps: ChildSteps, script: &str) -> Result<Said, Error> {
    let texts = steps.describe();
    let (mut reader, writer) = UnixStream::pair().expect("socketpair");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if who == Who::Ordinary {
        command.uid(12345).gid(12345);
    }
    sys::in_new_root(&mut command, steps, who != Who::Root, writer.as_raw_fd());
    let output = command.output().expect("start the child");
    drop((command, writer));
    let mut fault = Vec::new();
    reader.read_to_end(&mut fault).expect("read the fault");
    if let Some((header, text)) = fault.split_at_checked(sys::FAULT_HEADER) {
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let step = texts[word(0) as usize].clone();
        let error = Error::at_step(step, Errno(word(4) as i32)).with_hints(&HINTS);
        return Err(error.with_kernel_text(String::from_utf8_lossy(text)));
    }
    Ok(Said {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    })
}
