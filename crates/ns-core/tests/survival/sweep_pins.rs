//! Faults at every system call that keeps a namespace by a file, or lets it go: there is a pin, or none, or an empty file
//! that says so; never a mount without its file, and never a file of somebody else's that is gone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use faultkit::{Counted, End, Failure, Fault, Run, Sweep};
use ns_core::{ErrorKind, NsFd, Uts, ensure_netns_dir, pins, unpin};

use crate::sweep::stride;
use crate::sweep_handles::{each_errno, fail};

const PIN: &str = "/run/pin";
const OTHER: &str = "/run/other";

/// What is in /run, as this process finds it: what is mounted there has a mark.
fn files() -> Vec<String> {
    let entries = fs::read_dir("/run").expect("/run").map(|entry| entry.expect("entry").path());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let shown = |path: &Path| {
        let path = path.display();
        format!("{path} {}", mounts.lines().filter(|line| line.contains(&format!(" {path} "))).count())
    };
    let set: BTreeSet<String> = entries.map(|path| shown(&path)).collect();
    set.into_iter().collect()
}

fn sweep<'a>(body: impl Fn(&Counted<'_>) -> Result<(), Failure> + 'a) -> Sweep<'a> {
    Sweep::new(body).stride(stride()).observe(files)
}

fn is_empty_file(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.is_file() && data.len() == 0) && !is_pinned(path)
}

fn is_pinned(path: &str) -> bool {
    NsFd::<Uts>::open(path).is_ok()
}

/// What a user does who finds the name taken: as the error says.
fn put_in_order(uts: &NsFd<Uts>, seen: &RefCell<BTreeSet<&'static str>>) {
    match uts.pin(PIN) {
        Ok(()) => {
            seen.borrow_mut().insert("nothing");
            unpin(PIN).expect("unpin");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            let hint = error.hint().expect("a hint");
            if is_empty_file(PIN) {
                seen.borrow_mut().insert("an empty file");
                assert!(hint.contains("empty file"), "{hint}");
                let error = unpin(PIN).expect_err("no pin");
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
                assert!(error.hint().expect("a hint").contains("empty file"), "{error:#}");
                fs::remove_file(PIN).expect("remove");
            } else {
                seen.borrow_mut().insert("a pin");
                assert!(hint.contains("is pinned there"), "{hint}");
                unpin(PIN).expect("unpin");
            }
        }
    }
}

fn killed(run: &Run) -> Result<(), String> {
    if run.end == End::Killed { Ok(()) } else { Err(format!("{:?}", run.end)) }
}

mod root {
    use super::*;

    #[test]
    fn every_call_of_a_pin_fails_and_leaves_nothing() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let uts = NsFd::<Uts>::of_this_thread().expect("uts");
            let pin = sweep(|counted| {
                counted.run(|| uts.pin(PIN)).map_err(fail)?;
                unpin(PIN).map_err(fail)
            });
            let swept = each_errno(pin, |_, _| None);
            assert!(swept.iter().all(|swept| swept.runs * stride() > 3), "{swept:?}");
        });
    }

    #[test]
    fn every_call_of_an_unpin_fails_and_says_what_is_left() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let uts = NsFd::<Uts>::of_this_thread().expect("uts");
            let unpins = sweep(|counted| {
                uts.pin(PIN).expect("pin");
                let outcome = counted.run(|| unpin(PIN));
                match &outcome {
                    Ok(()) => {}
                    Err(error) if error.operation() == "unlink" => {
                        assert!(is_empty_file(PIN), "{error:#}");
                        assert!(format!("{error:#}").contains("empty file"), "{error:#}");
                        fs::remove_file(PIN).expect("remove");
                    }
                    Err(error) => {
                        assert!(is_pinned(PIN), "{error:#}");
                        unpin(PIN).expect("unpin");
                    }
                }
                outcome.map_err(fail)
            });
            let swept = each_errno(unpins, |_, _| None);
            assert!(swept.iter().all(|swept| swept.runs * stride() > 5), "{swept:?}");
        });
    }

    #[test]
    fn a_kill_in_a_pin_or_an_unpin_leaves_what_the_next_one_explains() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let uts = NsFd::<Uts>::of_this_thread().expect("uts");
            let seen = RefCell::new(BTreeSet::new());
            let both = sweep(|counted| counted.run(|| uts.pin(PIN).and_then(|()| unpin(PIN))).map_err(fail))
                .recover(|| put_in_order(&uts, &seen));
            both.each(Fault::Kill, killed);
            if stride() == 1 {
                assert_eq!(seen.take(), BTreeSet::from(["a pin", "an empty file", "nothing"]));
            }
            assert_eq!(files(), Vec::<String>::new());
        });
    }

    #[test]
    fn a_file_of_somebody_elses_is_not_removed() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let uts = NsFd::<Uts>::of_this_thread().expect("uts");
            fs::write(OTHER, "theirs").expect("write");
            let error = uts.pin(OTHER).expect_err("taken");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            assert_eq!(unpin(OTHER).expect_err("no pin").kind(), ErrorKind::Invalid);
            assert_eq!(fs::read_to_string(OTHER).expect("read"), "theirs");
            fs::remove_file(OTHER).expect("remove");
        });
    }

    #[test]
    fn every_call_that_lists_pins_fails() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let uts = NsFd::<Uts>::of_this_thread().expect("uts");
            uts.pin(PIN).expect("pin");
            fs::write(OTHER, "").expect("write");
            let lists = sweep(|counted| {
                let found = counted.run(|| pins("/run")).map_err(fail)?;
                let whole = found.len() == 1 && found[0].id == ns_core::AnyNamespace::id(&uts);
                if whole { Ok(()) } else { Err(Failure::new("pins", None, format!("{found:?}"))) }
            });
            let lists =
                lists.spare("the standard library insists that a directory can be closed", |call| call.name == "close");
            each_errno(lists, |_, _| None);
            unpin(PIN).expect("unpin");
            fs::remove_file(OTHER).expect("remove");
        });
    }

    #[test]
    fn every_call_that_makes_the_directory_of_ip_netns_fails() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            const DIR: &str = "/run/netns";
            // The machine's own, if it has one, is hidden below this test's /run, but still in the table.
            let mounts = || {
                let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
                table.lines().filter(|line| line.contains(" /run/netns ")).map(str::to_owned).collect::<Vec<_>>()
            };
            let hidden = mounts().len();
            let undo = || {
                if mounts().len() > hidden {
                    crate::sys::unmount(c"/run/netns");
                }
                fs::remove_dir(DIR).expect("rmdir");
            };
            let makes = sweep(|counted| {
                let outcome = counted.run(ensure_netns_dir);
                match &outcome {
                    Ok(_) => undo(),
                    // The directory may stay, and serve the next one. A mount that is shared with nobody would be taken
                    // for one that `ip netns` made.
                    Err(error) => {
                        assert_eq!(mounts().len(), hidden, "{error:#}");
                        let _ = fs::remove_dir(DIR);
                    }
                }
                outcome.map(drop).map_err(fail)
            });
            each_errno(makes, |_, _| None);
            // Whatever a kill leaves, the next one makes of it what it is to be.
            let killed_in_it = sweep(|counted| {
                let outcome = counted.run(ensure_netns_dir);
                undo();
                outcome.map(drop).map_err(fail)
            });
            let killed_in_it = killed_in_it.recover(|| {
                ensure_netns_dir().expect("again");
                let mounts = mounts();
                let mine = &mounts[hidden..];
                assert!(mine.len() == 1 && mine[0].contains(" shared:"), "{mounts:?}");
                undo();
            });
            killed_in_it.each(Fault::Kill, killed);
        });
    }
}
