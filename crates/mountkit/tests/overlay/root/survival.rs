//! Each system call fails once, and the caller is killed at each.
#![forbid(unsafe_code)]

use std::fs;

use faultkit::{End, Failure, Fault, Sweep};
use mountkit::{Error, Overlay};

use crate::dirs::Dirs;

fn failure(error: Error) -> Failure {
    Failure::new(error.operation().to_owned(), error.raw_os_error(), format!("{error:#}"))
}

fn clear(dirs: &Dirs) {
    for name in ["upper", "work"] {
        fs::remove_dir_all(dirs.path(name)).expect("rm");
        fs::create_dir(dirs.path(name)).expect("mkdir");
    }
}

/// An overlay that comes to be in spite of a fault has all that it should: it is written to, and read.
fn sweep<'a>(dirs: &'a Dirs, overlay: &'a Overlay) -> Sweep<'a> {
    Sweep::new(move |counted| {
        clear(dirs);
        let outcome = counted.run(|| overlay.mount());
        let mount = outcome.map_err(failure)?;
        dirs.attach(mount);
        fs::write(dirs.path("at/file"), "written").expect("the upper directory");
        let seen = (dirs.read("at/file"), dirs.read("at/other"), dirs.read("upper/file"));
        dirs.detach();
        assert_eq!(seen, ("written".into(), "base".into(), "written".into()));
        Ok(())
    })
}

#[test]
fn a_call_that_fails_is_an_error_or_makes_no_difference() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 400, || {
        let dirs = Dirs::new();
        dirs.write("base/file", "base");
        dirs.write("base/other", "base");
        let overlay = dirs.writable();
        // Kernels before 6.15 are told of the layers by a thread.
        let of_a_thread = ["rt_sigprocmask", "mmap", "mprotect", "munmap"];
        for errno in [libc::EMFILE, libc::ENOMEM, libc::EPERM] {
            let sweep = sweep(&dirs, &overlay).spare("the C library does not look, or ends the process", |call| {
                of_a_thread.contains(&call.name.as_str())
            });
            let swept = sweep.each(Fault::Fail(errno), |run| match &run.end {
                End::Returned(Ok(())) => Ok(()),
                // The errno that was injected, or what the library made of it.
                End::Returned(Err(failure)) if failure.errno == Some(errno) => Ok(()),
                // The C library's word for a thread that there is no memory for.
                End::Returned(Err(failure))
                    if run.call.name.starts_with("clone") && failure.errno == Some(libc::EAGAIN) =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            });
            assert!(swept.runs > 20, "{swept:?}");
        }
    });
}

#[test]
fn a_caller_that_is_killed_leaves_nothing() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 400, || {
        let dirs = Dirs::new();
        dirs.write("base/file", "base");
        dirs.write("base/other", "base");
        let overlay = dirs.writable();
        let swept = sweep(&dirs, &overlay).each(Fault::Kill, |run| match &run.end {
            End::Killed => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert!(swept.runs > 20, "{swept:?}");
    });
}
