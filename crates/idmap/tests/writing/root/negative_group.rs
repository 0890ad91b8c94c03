//! Permissions that shut a group out (0604) hold for a user of that group, whatever way the maps are written
//! (CVE-2014-8989), and each time there is a control that shows that the file would open without setgroups denied.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use cellkit_core::{ProcFd, ProcView};
use idmap::{Caller, IdMaps, MapPlan, Setgroups, SubIds, Way};

use crate::machine::{ANN, Machine};
use crate::paused_child::PausedChild;
use crate::sys::as_user;

const GROUP: u32 = 777;
const RANGE: &str = "ann:300000:1000\n";

/// Everybody may read it but the group.
fn secret(dir: &std::path::Path) -> String {
    let secret = dir.join("secret");
    fs::write(&secret, "secret").expect("write");
    chown(&secret, Some(0), Some(GROUP)).expect("chown");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o604)).expect("chmod");
    secret.to_str().expect("a path").to_owned()
}

/// Runs as ann with the group, for a test that is root.
const AS_ANN: &[&str] = &["setpriv", "--reuid", "12345", "--regid", "12345", "--groups", "777"];

/// What a process of the namespace reads that has ann's groups and drops them: there, and in a namespace below.
fn read_without_groups(prefix: &[&str], child: &PausedChild, secret: &str) -> [String; 2] {
    let pid = child.pid().to_string();
    let enter = [prefix, &["nsenter", "--user", "--target", &pid, "--preserve-credentials"]].concat();
    let read = |words: &[&str]| {
        let output = Command::new(enter[0]).args(&enter[1..]).args(words).output().expect(enter[0]);
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(read(&["cat", secret]), "", "the group is still there, and shut out");
    let drop_groups = ["setpriv", "--clear-groups", "cat", secret];
    [read(&drop_groups), read(&[&["unshare", "--user", "--map-root-user"][..], &drop_groups].concat())]
}

fn shut_out(plan: &MapPlan, prefix: &[&str], child: &PausedChild, secret: &str) {
    assert_eq!(plan.setgroups(), Setgroups::Deny);
    plan.write(child, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ()).expect("write");
    assert_eq!(child.file("setgroups"), "deny\n");
    assert_eq!(child.map("gid_map"), plan.maps().gid.to_string());
    assert_eq!(read_without_groups(prefix, child, secret), ["", ""], "{:?}", plan.way());
}

/// The same maps in a namespace of ann's whose gid map came first: an ordinary user is not let, so root does it, by hand.
fn control(maps: &IdMaps, secret: &str) {
    let child = PausedChild::run(&[AS_ANN, &["unshare", "--user", "sleep", "1000"]].concat());
    let file = |name: &str| format!("/proc/{}/{name}", child.pid());
    fs::write(file("gid_map"), maps.gid.to_string()).expect("gid_map");
    let late = fs::write(file("setgroups"), "deny").expect_err("too late");
    assert_eq!(late.raw_os_error(), Some(libc::EPERM));
    fs::write(file("uid_map"), maps.uid.to_string()).expect("uid_map");
    assert_eq!(read_without_groups(AS_ANN, &child, secret)[0], "secret", "without it, this test could not fail");
}

#[test]
fn a_user_of_the_group_stays_shut_out_whatever_the_way() {
    faultkit::require!(root, program("unshare"), program("setpriv"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let secret = secret(dir.path());
        let read = fs::read_to_string(&secret).expect("root reads it");
        assert_eq!(read, "secret");

        // Privilege, on behalf of ann.
        let root = Caller::current().expect("caller");
        let one = "12345:12345:1".parse::<IdMaps>().expect("maps");
        let plan = MapPlan::explicit(one.clone(), &root, &SubIds::default()).expect("plan").deny_setgroups();
        assert_eq!(plan.way(), Way::Direct);
        let child = PausedChild::run(&[AS_ANN, &["unshare", "--user", "sleep", "1000"]].concat());
        shut_out(&plan, AS_ANN, &child, &secret);
        control(plan.maps(), &secret);

        let stand_in = faultkit::built_example("newuidmap");
        for (way, rows, program) in
            [(Way::SingleId, "", None), (Way::Helper, RANGE, None), (Way::Helper, RANGE, Some(&stand_in))]
        {
            let machine = Machine::with(rows, rows);
            let _machine = match program {
                Some(program) => machine.and_programs(program),
                None => machine,
            };
            as_user(ANN, ANN, &[GROUP], || {
                let caller = Caller::current().expect("caller");
                let plan = MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan");
                assert_eq!(plan.way(), way);
                shut_out(&plan.deny_setgroups(), &[], &PausedChild::new(), &secret);
            });
            // What the plan was, for the control.
            let ranges = if rows.is_empty() { "" } else { ",1:300000:1000" };
            let map: idmap::IdMap = format!("0:12345:1{ranges}").parse().expect("map");
            control(&IdMaps::new(map.clone(), map), &secret);
        }
    });
}

/// The gids of /etc/subgid are the administrator's leave to drop groups: as newgidmap has it, and as documented.
#[test]
fn with_ranges_groups_may_be_dropped_unless_it_is_denied() {
    faultkit::require!(root, program("unshare"), program("setpriv"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let secret = secret(dir.path());
        let _machine = Machine::with(RANGE, RANGE);
        as_user(ANN, ANN, &[GROUP], || {
            let caller = Caller::current().expect("caller");
            let plan = MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan");
            assert_eq!((plan.way(), plan.setgroups()), (Way::Helper, Setgroups::Allow));
            let child = PausedChild::new();
            plan.write(&child, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ()).expect("write");
            assert_eq!(read_without_groups(&[], &child, &secret)[0], "secret");
        });
    });
}
