//! Many processes at once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use vethnet::{AddressPlan, ErrorKind, HostName, Wish};

use crate::look;

/// Set for the processes that race: which of them it is, and the directory.
const RACER: &str = "VETHNET_TEST_RACER";
const RACERS: usize = 64;
const OWN: usize = 6;

fn plan(dir: &Path) -> AddressPlan {
    let plan = AddressPlan::new(dir).subnet("10.99.0.0/22".parse().expect("range"));
    plan.subnet("fd00:99::/64".parse().expect("range"))
}

/// Again, as long as others had the lock for all of its time limit: a slow machine has no time for so many.
fn patiently<T>(mut call: impl FnMut() -> vethnet::Result<T>) -> vethnet::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            other => return other,
        }
    }
}

/// Not a test: one of those that race.
#[test]
#[ignore = "run by the next test"]
fn racer() {
    let Ok(words) = std::env::var(RACER) else { return };
    let (index, dir) = words.split_once('|').expect("two words");
    let plan = plan(Path::new(dir));
    // One address and one owner that all of them want.
    let wanted = patiently(|| plan.lease(Wish::new(format!("wants-{index}")).address([10, 99, 3, 200].into())));
    let same = patiently(|| plan.lease("same"));
    for (what, result) in [("wish", wanted), ("same", same)] {
        match result {
            Ok(lease) => println!("won {what} {}", lease.addresses()[0].address()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}"),
        }
    }
    for own in 0..OWN {
        let owner = format!("r{index}-{own}");
        let name = HostName::new(&format!("host-{index}-{own}")).expect("name");
        let lease = patiently(|| plan.lease(Wish::new(owner.as_str()).name(name.clone()))).expect("lease");
        let addresses: Vec<_> = lease.addresses().iter().map(|net| net.address().to_string()).collect();
        if own % 3 == 2 {
            assert!(patiently(|| plan.release(&owner)).expect("release"));
        } else {
            println!("leased {owner} {}", addresses.join(" "));
        }
    }
}

#[test]
fn of_64_processes_none_gets_anothers_address_and_none_is_lost() {
    let dir = faultkit::TempDir::new();
    let dir = dir.path().join("plan");
    let start = |index: usize| -> Child {
        Command::new(std::env::current_exe().expect("exe"))
            .args(["race::racer", "--exact", "--nocapture", "--ignored"])
            .env(RACER, format!("{index}|{}", dir.display()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn")
    };
    let racers: Vec<_> = (0..RACERS).map(start).collect();
    let mut said = String::new();
    for racer in racers {
        let output = racer.wait_with_output().expect("wait");
        assert!(output.status.success());
        said.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    for what in ["won wish", "won same"] {
        assert_eq!(said.matches(what).count(), 1, "{said}");
    }
    let (mut addresses, mut owners) = (BTreeSet::new(), BTreeSet::new());
    let entries = look::entries(&dir);
    for line in said.lines().filter_map(|line| Some(line.split_once("leased ")?.1)) {
        let mut words = line.split(' ');
        let owner = words.next().expect("owner");
        assert!(owners.insert(owner), "{owner} twice");
        for address in words {
            let address: IpAddr = address.parse().expect("address");
            assert!(addresses.insert(address), "{address} twice");
            assert_eq!(entries.get(&address).map(String::as_str), Some(owner), "it is lost");
        }
    }
    assert_eq!(owners.len(), RACERS * OWN * 2 / 3);
    // And the two that one each has won.
    assert_eq!(entries.len(), (owners.len() + 2) * 2);
    assert_eq!(look::records(&dir), entries);
    let names = look::names(&dir);
    assert_eq!(names.len(), owners.len() * 2);
    let plan = plan(&dir);
    assert_eq!(plan.collect(|_| false).expect("collect").len(), owners.len() + 2);
    assert_eq!(look::names(&dir), [""; 0]);
    plan.remove().expect("remove");
    assert!(!dir.exists());
}
