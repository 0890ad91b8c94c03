//! Every system call fails once: the error names the file, and the shift can be made again.
#![forbid(unsafe_code)]

use std::num::NonZero;

use faultkit::{End, Failure, Fault, Sweep};
use idmap::{IdMaps, Shift};

use crate::tree::{expected, look, open, sh};

#[test]
fn each_call_fails_and_it_is_made_again() {
    faultkit::require!(root, program("setfacl"), program("setcap"));
    faultkit::isolated!(limit_secs = 900, || {
        let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
        let dir = faultkit::TempDir::new();
        std::fs::create_dir(dir.path().join("template")).expect("mkdir");
        sh(
            &dir.path().join("template"),
            "mkdir d; echo >d/su; chmod 4755 d/su; echo >ping; setcap cap_net_raw=ep ping; echo >plain
             setfacl -m u:33:r d; setfacl -d -m u:7:r d; setfacl -m u:5:r plain",
        );
        let fresh = || sh(dir.path(), "rm -rf tree journal; cp -a --preserve=all template tree; : >journal");
        fresh();
        let tree = dir.path().join("tree");
        let journal =
            || std::fs::File::options().read(true).write(true).open(dir.path().join("journal")).expect("journal");
        let shift = || Shift::to_outside(&maps).threads(NonZero::<usize>::MIN);
        let wanted = expected(&look(&tree), |id| id + 100_000, |id| id + 100_000);
        for errno in [libc::EIO, libc::ENOSPC, libc::ENOMEM] {
            let mut sweep = Sweep::new(|counted| {
                fresh();
                let (tree, journal) = (open(&tree), journal());
                let result = counted.run(|| shift().apply_with_journal(&tree, &journal));
                result.map(drop).map_err(|error| Failure::new(error.operation(), error.raw_os_error(), &error))
            })
            .spare("the C library does not look at what comes of it when it makes a thread", |call| {
                call.name == "rt_sigprocmask"
            })
            .spare("std ends the process when it cannot prepare a thread that it has made", |call| {
                !call.is_callers() && matches!(call.name.as_str(), "mmap" | "mprotect" | "sigaltstack")
            });
            if errno != libc::EIO {
                sweep = sweep.ends_of_rows();
            }
            let done = sweep.each(Fault::Fail(errno), |run| {
                match &run.end {
                    End::Returned(Err(failure)) if failure.errno == Some(errno) => {
                        let on_files = ["fchownat", "setxattr", "fchmodat", "getxattr", "getdents64", "listxattr"];
                        let names = ["\"d/su\"", "\"ping\"", "\"plain\"", "\"d\"", "\".\""];
                        if on_files.iter().any(|call| failure.operation.starts_with(call))
                            && !names.iter().any(|name| failure.text.contains(name))
                        {
                            return Err(format!("no file is named: {}", failure.text));
                        }
                    }
                    // The C library has one errno for a thread that cannot be made.
                    End::Returned(Err(failure))
                        if run.call.name == "clone3"
                            && errno == libc::ENOMEM
                            && failure.errno == Some(libc::EAGAIN) => {}
                    // A call whose answer does not matter, or that has another way.
                    End::Returned(Ok(()))
                        if !["setxattr", "fsetxattr", "fchownat", "fchmodat"].contains(&run.call.name.as_str()) => {}
                    other => return Err(format!("{other:?}")),
                }
                shift().apply_with_journal(open(&tree), journal()).map_err(|error| format!("made again: {error:#}"))?;
                let now = look(&tree);
                if now.len() != wanted.len() {
                    return Err(format!("{} files, not {}", now.len(), wanted.len()));
                }
                let wrong = now.iter().zip(&wanted).find(|(now, wanted)| now != wanted);
                wrong.map_or(Ok(()), |(now, wanted)| Err(format!("{now}, not {wanted}")))
            });
            assert!(done.runs > 20, "{done:?}");
        }
    });
}
