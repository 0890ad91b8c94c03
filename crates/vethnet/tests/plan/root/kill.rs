//! A kill, or a failure, at each system call.

use std::fs;
use std::path::Path;

use faultkit::{End, Failure, Fault, Run, Sweep};
use vethnet::{AddressPlan, Error, HostName, Result, Wish};

use crate::look;

fn plan(dir: &Path) -> AddressPlan {
    let plan = AddressPlan::new(dir).subnet("10.5.0.0/29".parse().expect("range"));
    plan.subnet("fd00:5::/64".parse().expect("range"))
}

fn wish(owner: &str) -> Wish {
    Wish::new(owner).name(HostName::new(&format!("host-{owner}")).expect("name"))
}

fn failure(error: &Error) -> Failure {
    Failure::new(error.operation(), error.raw_os_error(), error)
}

/// What is swept: the work, in a plan that `a` and `b` have leases of, or nobody.
struct Case {
    empty: bool,
    work: fn(&AddressPlan) -> Result<()>,
}

const CASES: &[Case] = &[
    Case { empty: true, work: |plan| plan.lease(wish("c")).map(drop) },
    Case { empty: false, work: |plan| plan.lease(wish("c").address([10, 5, 0, 5].into())).map(drop) },
    Case { empty: false, work: |plan| plan.collect(|owner| owner == "a").map(drop) },
];

/// Whatever happened, the plan is one in which nothing is wrong: before anybody repairs it, and after.
fn judge(dir: &Path, empty: bool) -> std::result::Result<(), String> {
    let plan = plan(dir);
    let at = |what: &'static str| move |error: Error| format!("{what}: {error:#}");
    let had_c = plan.find("c").map_err(at("find c"))?.is_some();
    if !empty && plan.find("a").map_err(at("find a"))?.is_none() {
        return Err("a has lost its lease".into());
    }
    // Another one comes, with what was left as it was left.
    let d = plan.lease(wish("d")).map_err(at("lease d"))?;
    let (records, entries) = (look::records(dir), look::entries(dir));
    if let Some((address, owner)) = records.iter().find(|(address, owner)| entries.get(address) != Some(owner)) {
        return Err(format!("{owner} has not its {address}: {entries:?}"));
    }
    if !d.addresses().iter().all(|net| records.get(&net.address()).map(String::as_str) == Some("d")) {
        return Err(format!("d's are {:?}", d.addresses()));
    }
    plan.collect(|_| true).map_err(at("collect"))?;
    let records = look::records(dir);
    if records != look::entries(dir) {
        return Err(format!("{records:?} are not {:?}", look::entries(dir)));
    }
    let want: Vec<_> = {
        let mut owners: Vec<_> = plan.leases().map_err(at("leases"))?.into_iter().collect();
        owners.sort_by(|one, other| one.owner().cmp(other.owner()));
        owners
            .iter()
            .flat_map(|lease| lease.addresses().iter().map(|net| format!("{} host-{}", net.address(), lease.owner())))
            .collect()
    };
    if look::names(dir) != want {
        return Err(format!("the names are {:?} and not {want:?}", look::names(dir)));
    }
    if had_c && plan.find("c").map_err(at("find c"))?.is_none() {
        return Err("c has lost its lease".into());
    }
    plan.collect(|_| false).map_err(at("collect all"))?;
    // The range has four addresses, and all of them can be had.
    for owner in ["w", "x", "y", "z"] {
        plan.lease(owner).map_err(at("lease all"))?;
    }
    plan.collect(|_| false).map_err(at("collect all"))?;
    plan.remove().map_err(at("remove"))?;
    if dir.exists() { Err(format!("{:?} is left", look::entries(dir))) } else { Ok(()) }
}

fn sweep(case: &Case, fault: Fault, check: impl Fn(&Run) -> std::result::Result<(), String>) {
    let temporary = faultkit::TempDir::new();
    let dir = temporary.path().join("plan");
    let body = |counted: &faultkit::Counted<'_>| {
        let _ = fs::remove_dir_all(&dir);
        let plan = plan(&dir);
        if !case.empty {
            for owner in ["a", "b"] {
                plan.lease(wish(owner)).map_err(|error| failure(&error))?;
            }
        }
        counted.run(|| (case.work)(&plan)).map_err(|error| failure(&error))
    };
    let sweep =
        Sweep::new(body).spare("std ends in a panic when a directory cannot be closed", |call| call.name == "close");
    let done = sweep.each(fault, |run| {
        check(run)?;
        judge(&dir, case.empty)
    });
    assert!(done.runs >= 10, "{done:?}");
}

#[test]
fn killed_at_each_system_call() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 120, || {
        for case in CASES {
            sweep(case, Fault::Kill, |run| match run.end {
                End::Killed => Ok(()),
                _ => Err(format!("{:?}", run.end)),
            });
        }
    });
}

#[test]
fn failed_at_each_system_call() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 120, || {
        for case in CASES {
            sweep(case, Fault::Fail(libc::EIO), |run| match &run.end {
                End::Returned(Ok(())) => Ok(()),
                End::Returned(Err(failure)) if failure.errno == Some(libc::EIO) => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
    });
}

/// The cost of a lease, counted in system calls: the same for any number of leases.
#[test]
fn one_lease_costs_what_the_four_hundredth_does() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 120, || {
        let cost = |leases: usize, work: fn(&AddressPlan) -> Result<()>| {
            let dir = faultkit::TempDir::new();
            let plan = AddressPlan::new(dir.path()).subnet("10.5.0.0/16".parse().expect("range"));
            for index in 0..leases {
                plan.lease(format!("o{index}")).expect("lease");
            }
            let body = |counted: &faultkit::Counted<'_>| {
                plan.lease("mine").map_err(|error| failure(&error))?;
                let result = counted.run(|| work(&plan)).map_err(|error| failure(&error));
                for owner in ["mine", "next"] {
                    plan.release(owner).map_err(|error| failure(&error))?;
                }
                result
            };
            let calls = Sweep::new(body).calls();
            calls.iter().flatten().map(|call| call.name.clone()).collect::<Vec<_>>()
        };
        for work in
            [|plan: &AddressPlan| plan.lease("next").map(drop), |plan: &AddressPlan| plan.release("mine").map(drop)]
        {
            let (few, many) = (cost(2, work), cost(400, work));
            assert!(few.len() < 60, "{few:?}");
            assert_eq!(few, many);
        }
    });
}
