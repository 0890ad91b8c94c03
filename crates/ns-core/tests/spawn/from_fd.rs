//! Programs that are given as descriptors.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use ns_core::{Command, ErrorKind, SealedProgram, Stdio};

use crate::output;

#[test]
fn a_program_is_run_from_a_descriptor_that_it_does_not_get() {
    faultkit::isolated!(|| {
        let sh = || File::open("/bin/sh").expect("sh");
        let script = "echo $0 $@; exec ls /proc/self/fd";
        let (_, text) = output(Command::from_fd(sh(), "my sh").args(["-c", script, "zero", "one"])).expect("start");
        assert_eq!(text, "zero one\n0\n1\n2\n3\n", "the fourth is the directory");
        // Also where other descriptors are put, and from a descriptor that is only a place.
        let path_only = File::options().read(true).custom_flags(libc::O_PATH).open("/bin/sh").expect("sh");
        let command = Command::from_fd(path_only, "sh").args(["-c", "echo $0; exec ls /proc/self/fd"]);
        let (_, text) = output(command.fd(9, File::open("/dev/null").expect("null"))).expect("start");
        assert_eq!(text, "sh\n0\n1\n2\n3\n9\n");
        // It is what was opened, not what is at its path by then.
        let dir = faultkit::TempDir::new();
        let path = dir.path().join("program");
        std::fs::copy("/bin/true", &path).expect("copy");
        let file = File::open(&path).expect("open");
        std::fs::remove_file(&path).expect("remove");
        assert!(Command::from_fd(file, "gone").spawn().expect("start").wait().expect("wait").success());
    });
}

#[test]
fn what_cannot_be_run_from_a_descriptor_says_why() {
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let path = dir.path().join("script");
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::write(&path, "#!/bin/sh\nexit 0\n").expect("write");
        std::fs::set_permissions(&path, mode(0o755)).expect("chmod");
        let open = || File::open(&path).expect("open");
        let error = Command::from_fd(open(), "script").spawn().expect_err("a script");
        assert_eq!((error.operation(), error.raw_os_error()), ("execveat", Some(libc::ENOENT)), "{error:#}");
        assert!(error.to_string().contains("script") && error.hint().expect("hint").contains("script cannot"));
        std::fs::set_permissions(&path, mode(0o644)).expect("chmod");
        let error = Command::from_fd(open(), "script").spawn().expect_err("not executable");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Permission, Some(libc::EACCES)));
        assert!(error.hint().is_some());
        assert!(Command::from_fd(open(), "a\0b").plan().is_err());
    });
}

#[test]
fn sealed_programs_run() {
    faultkit::isolated!(|| {
        let sh = File::open("/bin/sh").expect("sh");
        let copy = SealedProgram::copy(&sh).expect("copy");
        let (status, text) =
            output(Command::from_fd(copy, "sh").args(["-c", "readlink /proc/$$/exe"]).stdin(Stdio::Null)).expect("run");
        assert!(status.success() && text.starts_with("/memfd:sealed"), "{text}");
    });
}
