//! Calls that fail, and calls that are not there.
#![forbid(unsafe_code)]

use std::process::Command;

use faultkit::{End, Failure, Fault, Sweep};
use mountkit::{MountTable, TableSource};

fn failure(error: mountkit::Error) -> Failure {
    Failure::new(error.operation().to_owned(), error.raw_os_error(), format!("{error:#}"))
}

#[test]
fn a_call_that_fails_is_told_or_done_otherwise() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        let expected = MountTable::read().expect("table").len();
        let sweep = Sweep::new(move |counted| {
            let table = counted.run(MountTable::read).map_err(failure)?;
            // Whatever it had to do without: what it shows is all there is.
            assert_eq!(table.len(), expected);
            Ok(())
        });
        for errno in [libc::ENOSYS, libc::EPERM, libc::EMFILE, libc::ENOMEM, libc::EINTR] {
            let swept = sweep.each(Fault::Fail(errno), |run| match &run.end {
                End::Returned(Ok(())) => Ok(()),
                End::Returned(Err(failure)) if failure.errno == Some(errno) => Ok(()),
                other => Err(format!("{other:?}")),
            });
            assert!(swept.runs > 5, "{swept:?}");
        }
        sweep.each(Fault::Kill, |_| Ok(()));
    });
}

#[test]
fn what_a_filter_hides_is_done_without() {
    faultkit::require!(root, kernel(6.13));
    faultkit::isolated!(|| {
        let sweep = Sweep::new(|counted| {
            let table = counted.run(MountTable::read).map_err(failure)?;
            let without = TableSource::Mountinfo;
            // The one of the two that failed is the reason.
            let unique = table.iter().filter(|mount| mount.unique_id().is_some()).count();
            match table.source() {
                source if source == without => assert_eq!(unique, 0),
                _ => assert_eq!(unique, table.len()),
            }
            Ok(())
        });
        // statmount and listmount, which this sweep knows by number.
        let is_new = |name: &str| ["listmount", "statmount", "457", "458"].iter().any(|word| name.contains(word));
        for errno in [libc::ENOSYS, libc::EPERM] {
            let mut met = 0;
            sweep.each(Fault::Fail(errno), |run| match &run.end {
                End::Returned(Ok(())) if is_new(&run.call.name) => {
                    met += 1;
                    Ok(())
                }
                End::Returned(Err(failure)) if is_new(&run.call.name) => Err(failure.text.clone()),
                _ => Ok(()),
            });
            assert!(met >= 2, "{met}");
        }
    });
}

#[test]
fn a_hidden_proc_is_not_needed() {
    faultkit::require!(root, program("mount"), program("umount"));
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        let program = user.copy_of(std::env::current_exe().expect("exe"));
        // As a container sees it that has something else in the place of /proc.
        assert!(Command::new("mount").args(["-t", "tmpfs", "none", "/proc"]).status().expect("mount").success());
        let mut command = user.command(program);
        command.args(["--exact", "rootless::without_proc", "--include-ignored"]);
        let output = command.output().expect("start");
        assert!(Command::new("umount").arg("/proc").status().expect("umount").success());
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    });
}
