//! Each system call of a day's work in a root fails once. (A kill leaves nothing to clean up: all that is made is files.)
#![forbid(unsafe_code)]

use faultkit::{End, Failure, Fault, Sweep, TempDir};
use mountkit::{Error, Node, OpenOptions, Rename, Resolver, Result, RootFd, Times};

fn work(root: &RootFd) -> Result<()> {
    root.mkdir_all("a/b/c", 0o755)?;
    let dir = root.open_dir("a/b/../b")?;
    drop(dir.create("file", 0o600)?);
    dir.symlink("../b/file", "link")?;
    root.read("a/b/c/../link", 100)?;
    drop(dir.open_with("file", OpenOptions::new().write().truncate().create(0o600))?);
    dir.mknod("fifo", Node::Fifo, 0o600)?;
    dir.link(&dir, "file", "second")?;
    root.rename("a/b/second", "a/third", Rename::Keep)?;
    root.chown("a/b/file", 1, 1)?;
    root.chmod("a/b/file", 0o640)?;
    root.set_times("a/b/link", Times::new().modified(std::time::SystemTime::UNIX_EPOCH))?;
    // tmpfs has those of users since Linux 6.6 only.
    root.set_xattr("a/b/file", "trusted.x", "x")?;
    root.get_xattr("a/b/file", "trusted.x")?;
    root.list_xattrs("a/b")?;
    root.read_link("a/b/link")?;
    for entry in dir.entries()? {
        entry?;
    }
    root.mount_target("a/b", mountkit::MountTarget::Directory)?;
    drop(root.ensure_file("a/new/file", 0o600)?);
    root.remove_all("a")
}

/// A fault is an error that names the call that failed, or the kernel or the walk got there all the same.
#[test]
fn every_call_of_a_days_work_fails_once() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 600, || {
        let dir = TempDir::new();
        let open = || RootFd::open(dir.path()).expect("the root");
        let roots = [(Resolver::Kernel, open()), (Resolver::UserSpace, open().resolved_in_user_space())];
        for (resolver, root) in roots {
            assert_eq!(root.resolver(), resolver);
            let tidy = || {
                let _ = std::fs::remove_dir_all(dir.path().join("a"));
            };
            let body = |counted: &faultkit::Counted<'_>| {
                let answer = counted.run(|| work(&root));
                tidy();
                answer.map_err(|error: Error| Failure::new(error.operation().to_owned(), error.raw_os_error(), &error))
            };
            // In the emulated machine every third call, and below no other calls than those that may be missing.
            let emulated = std::env::var_os("CELLKIT_VM").is_some();
            let stride = if emulated { 3 } else { 1 };
            let swept = Sweep::new(body).stride(stride).each(Fault::Fail(libc::EIO), |run| match &run.end {
                End::Returned(Err(failure)) if failure.errno == Some(libc::EIO) => Ok(()),
                End::Returned(Ok(())) if run.call.name == "close" => Ok(()),
                other => Err(format!("{resolver:?}, {}: {other:?}", run.call)),
            });
            let least = if resolver == Resolver::Kernel { 60 } else { 100 };
            assert!(swept.runs > least / stride, "{swept:?}");
            // Without a call that this kernel has, the others do: fchmodat2, setxattrat, getxattrat, listxattrat, openat2.
            let newer = ["fchmodat2", "syscall 452", "syscall 463", "syscall 464", "syscall 465", "openat2"];
            let mut around = std::collections::BTreeSet::new();
            // Renames of other programs make a walk look again, which moves the numbers of the calls after it, so that one
            // sweep may step over a call.
            for _ in 0..5 {
                let sweep = Sweep::new(body).spare("they have failed once, and the machine is slow", |call| {
                    emulated && !newer.contains(&call.name.as_str())
                });
                sweep.each(Fault::Fail(libc::ENOSYS), |run| match &run.end {
                    End::Returned(Err(failure)) if failure.errno == Some(libc::ENOSYS) => Ok(()),
                    End::Returned(Ok(())) if run.call.name == "close" => Ok(()),
                    End::Returned(Ok(())) if newer.contains(&run.call.name.as_str()) => {
                        around.insert(run.call.name.clone());
                        Ok(())
                    }
                    other => Err(format!("{resolver:?}, {}: {other:?}", run.call)),
                });
                if around.len() >= 4 {
                    break;
                }
            }
            assert!(around.len() >= 4, "{around:?}");
        }
    });
}
