//! Files that were torn, flipped, removed, or are of another version.

use std::fs;
use std::os::unix::fs::symlink;

use vethnet::{AddressPlan, ErrorKind, HostName, Wish};

use crate::look;

struct Three {
    dir: faultkit::TempDir,
    plan: AddressPlan,
}

/// `a`, `b` and `c`, with the addresses that end in 2, 3 and 4, of a range that has four.
fn three() -> Three {
    let dir = faultkit::TempDir::new();
    let plan = AddressPlan::new(dir.path()).subnet("10.5.0.0/29".parse().expect("range")).reserve([10, 5, 0, 6].into());
    for owner in ["a", "b", "c"] {
        let name = HostName::new(&format!("host-{owner}")).expect("name");
        plan.lease(Wish::new(owner).name(name)).expect("lease");
    }
    Three { dir, plan }
}

impl Three {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// `owner: last byte`, in the order of the addresses.
    fn entries(&self) -> Vec<String> {
        let entries = look::entries(self.dir.path());
        entries
            .iter()
            .map(|(address, owner)| format!("{owner}: {}", address.to_string().replace("10.5.0.", "")))
            .collect()
    }
}

#[test]
fn a_damaged_record_is_named_takes_nothing_from_others_and_can_be_released() {
    let whole = fs::read_to_string(three().path("lease/b.json")).expect("read");
    assert_eq!(whole, r#"{"version":1,"owner":"b","addresses":["10.5.0.3/29"],"names":["host-b"]}"#);
    for damaged in [
        "",
        "{}",
        &whole[..whole.len() / 2],
        &whole.replace("\"version\":1", "\"version\":2"),
        &whole.replace(":\"b\"", ":\"c\""),
        &whole.replace("0.3/29", "0.2/29"),
        &whole.replace("0.3/29", "0.3/99"),
        &whole.replace("host-b", "-"),
        &whole.replace("names", "nemes"),
    ] {
        let three = three();
        fs::write(three.path("lease/b.json"), damaged).expect("damage");
        let error = three.plan.find("b").expect_err(damaged);
        assert_eq!(error.kind(), ErrorKind::Parse, "{error:#}");
        assert!(error.to_string().contains("b.json") && error.hint().is_some(), "{error:#}");
        // Others go on, and its address is not given away.
        assert_eq!(three.plan.lease("d").expect("lease").addresses()[0].to_string(), "10.5.0.5/29");
        let full = three.plan.lease("e").expect_err("there are four");
        assert_eq!(full.kind(), ErrorKind::Limit, "{full:#}");
        assert!(three.plan.collect(|_| true).expect_err("it is said").to_string().contains("b.json"));
        assert!(three.plan.release("b").expect("release"));
        assert_eq!(three.entries(), ["a: 2", "c: 4", "d: 5"], "{damaged}");
        assert_eq!(three.plan.lease("e").expect("lease").addresses()[0].to_string(), "10.5.0.3/29");
    }
}

#[test]
fn each_bit_of_a_record_that_flips_takes_nothing_from_others() {
    let three = three();
    let whole = fs::read(three.path("lease/b.json")).expect("read");
    for index in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[index] ^= 1 << bit;
            fs::write(three.path("lease/b.json"), bytes).expect("damage");
            assert!(three.plan.release("b").expect("release"));
            assert_eq!(three.entries(), ["a: 2", "c: 4"], "bit {bit} of byte {index}");
            assert_eq!(look::names(three.dir.path()), ["10.5.0.2 host-a", "10.5.0.4 host-c"]);
            let wish = Wish::new("b").address([10, 5, 0, 3].into()).name(HostName::new("host-b").expect("name"));
            three.plan.lease(wish).expect("again");
        }
    }
}

#[test]
fn what_hands_have_removed_is_noticed_and_restored() {
    let three = three();
    fs::remove_file(three.path("address/10.5.0.3")).expect("remove");
    let error = three.plan.find("b").expect_err("its address is not its own");
    assert_eq!(error.kind(), ErrorKind::Parse, "{error:#}");
    assert_eq!(three.plan.collect(|_| true).expect("collect"), [""; 0]);
    assert_eq!(three.entries(), ["a: 2", "b: 3", "c: 4"]);
    // An entry without a record, as a kill leaves one: taken when it is wished for, or when nothing else is left, and
    // removed by a collection.
    fs::remove_file(three.path("lease/b.json")).expect("remove");
    assert_eq!(three.plan.owner_of([10, 5, 0, 3].into()).expect("owner"), None);
    assert_eq!(three.plan.lease("d").expect("lease").addresses()[0].to_string(), "10.5.0.5/29");
    assert_eq!(three.plan.lease("e").expect("the last one").addresses()[0].to_string(), "10.5.0.3/29");
    three.plan.release("e").expect("release");
    symlink("nobody", three.path("address/10.5.0.3")).expect("symlink");
    three.plan.lease(Wish::new("f").address([10, 5, 0, 3].into())).expect("a wish");
    assert_eq!(three.entries(), ["a: 2", "f: 3", "c: 4", "d: 5"]);
    three.plan.release("f").expect("release");
    symlink("nobody", three.path("address/10.5.0.3")).expect("symlink");
    three.plan.collect(|_| true).expect("collect");
    assert_eq!(three.entries(), ["a: 2", "c: 4", "d: 5"]);
}

/// What a disk may have kept when the machine stopped: a record and not the entry of its address, half of a record, an
/// entry and no record.
#[test]
fn the_first_lease_after_a_reboot_puts_the_others_in_order() {
    let three = three();
    three.plan.release("c").expect("release");
    fs::remove_file(three.path("address/10.5.0.2")).expect("remove");
    fs::write(three.path("lease/b.json"), "{").expect("write");
    symlink("c", three.path("address/10.5.0.4")).expect("symlink");
    fs::remove_file(three.path("last")).expect("remove");
    fs::remove_file(three.path("boot")).expect("remove");
    symlink("4f3b1f6e-0000-4000-8000-000000000000", three.path("boot")).expect("symlink");
    assert_eq!(three.plan.lease("d").expect("lease").addresses()[0].to_string(), "10.5.0.4/29");
    assert_eq!(three.entries(), ["a: 2", "b: 3", "d: 4"]);
    let boot = fs::read_link(three.path("boot")).expect("boot").into_os_string().into_string().expect("text");
    assert_eq!(boot, fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("read").trim_end());
}

#[test]
fn what_is_not_ours_stays() {
    let three = three();
    fs::write(three.path("address/10.5.0.5"), "somebody's").expect("write");
    let error = three.plan.lease(Wish::new("d").address([10, 5, 0, 5].into())).expect_err("it is a file");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
    assert_eq!(three.plan.lease("d").expect_err("nothing is left").kind(), ErrorKind::Limit);
    three.plan.collect(|_| false).expect("collect");
    assert!(three.plan.remove().is_err());
    assert_eq!(fs::read_to_string(three.path("address/10.5.0.5")).expect("it is there"), "somebody's");
}

/// What is no more than a memory is repaired in silence, or is taken for the beginning.
#[test]
fn the_small_files() {
    for name in ["last", "subnets", "boot", "hosts", ".file.tmp", ".link.tmp"] {
        for damage in 0..3 {
            let three = three();
            let path = three.path(name);
            let _ = fs::remove_file(&path);
            match damage {
                0 => fs::write(&path, "\0\u{ff}").expect("write"),
                1 => symlink("/nowhere/and\nelse", &path).expect("symlink"),
                _ => {}
            }
            let wish = Wish::new("d").name(HostName::new("host-d").expect("name"));
            match three.plan.lease(wish) {
                Ok(lease) => assert_eq!(lease.addresses()[0].to_string(), "10.5.0.5/29", "{name}"),
                // Of other ranges, for what is known.
                Err(error) if damage == 1 && name == "subnets" => assert_eq!(error.kind(), ErrorKind::Invalid),
                Err(error) => panic!("{name}: {error:#}"),
            }
            if damage != 1 || name != "subnets" {
                let names = ["10.5.0.2 host-a", "10.5.0.3 host-b", "10.5.0.4 host-c", "10.5.0.5 host-d"];
                assert_eq!(look::names(three.dir.path()), names, "{name}");
            }
        }
    }
}

#[test]
fn other_ranges_are_for_an_empty_plan() {
    let three = three();
    let other = AddressPlan::new(three.dir.path()).subnet("10.6.0.0/24".parse().expect("range"));
    let error = other.lease("d").expect_err("there are leases of others");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("10.5.0.0/29"), "{error}");
    three.plan.collect(|_| false).expect("collect");
    assert_eq!(other.lease("d").expect("now").addresses()[0].to_string(), "10.6.0.2/24");
}

#[test]
fn wrong_wishes_leave_not_even_a_directory() {
    let dir = faultkit::TempDir::new();
    let dir = dir.path().join("plan");
    let of = |ranges: &[&str]| {
        ranges.iter().fold(AddressPlan::new(&dir), |plan, range| plan.subnet(range.parse().expect("range")))
    };
    let wish = |address: [u8; 4]| Wish::new("a").address(address.into());
    for (plan, wish, why) in [
        (of(&[]), Wish::new("a"), "no range"),
        (of(&["10.5.0.0/24", "10.6.0.0/24"]), Wish::new("a"), "one IPv4 range and one IPv6 range"),
        (of(&["127.0.0.0/8"]), Wish::new("a"), "not for hosts"),
        (of(&["10.5.0.0/24"]), Wish::new("../a"), "begin with"),
        (of(&["10.5.0.0/24"]), wish([10, 6, 0, 2]), "not in 10.5.0.0/24"),
        (of(&["10.5.0.0/24"]), wish([10, 5, 0, 0]), "not for containers"),
        (of(&["10.5.0.0/24"]), wish([10, 5, 0, 1]), "the gateway"),
        (of(&["10.5.0.0/24"]), wish([10, 5, 0, 255]), "not for containers"),
        (of(&["10.5.0.0/24"]).reserve([10, 5, 0, 9].into()), wish([10, 5, 0, 9]), "reserved"),
        (of(&["10.5.0.0/24"]), wish([10, 5, 0, 2]).address([10, 5, 0, 3].into()), "second address"),
    ] {
        let error = plan.lease(wish).expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(!dir.exists(), "{why}");
    }
    assert_eq!(of(&["10.5.0.0/24"]).find("a").expect("find"), None);
    assert!(!of(&["10.5.0.0/24"]).release("a").expect("release"));
    assert_eq!(of(&["10.5.0.0/24"]).collect(|_| false).expect("collect"), [""; 0]);
    of(&["10.5.0.0/24"]).remove().expect("remove");
    assert!(!dir.exists());
}

/// What is opened must never make who opens it wait, nor lead elsewhere.
#[test]
fn a_record_that_is_no_file_is_damaged_and_nobody_waits_for_it() {
    let make_fifo = |path: &std::path::Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let endless = |path: &std::path::Path| symlink("/dev/zero", path).expect("symlink");
    let large = |path: &std::path::Path| fs::File::create(path).and_then(|file| file.set_len(1 << 40)).expect("create");
    for replace in [&make_fifo as &dyn Fn(&std::path::Path), &endless, &large] {
        let three = three();
        fs::remove_file(three.path("lease/b.json")).expect("remove");
        replace(&three.path("lease/b.json"));
        let error = three.plan.find("b").expect_err("no record");
        assert_eq!(error.kind(), ErrorKind::Parse, "{error:#}");
        assert!(error.to_string().contains("b.json") && error.hint().is_some(), "{error:#}");
        assert!(three.plan.release("b").expect("release"));
        assert_eq!(three.entries(), ["a: 2", "c: 4"]);
        // The names of all are written anew, if nothing else has their name.
        let hosts = three.path("hosts");
        fs::remove_file(&hosts).expect("remove");
        replace(&hosts);
        three.plan.lease(Wish::new("b").name(HostName::new("host-b").expect("name"))).expect("lease");
        assert!(fs::symlink_metadata(&hosts).expect("hosts").is_file());
        assert_eq!(look::names(three.dir.path()).len(), 3);
    }
}
