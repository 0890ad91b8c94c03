//! What is no network, what may not be seen, what is the whole machine's, and what vanishes meanwhile.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use vethnet::{Attach, ErrorKind, Fault, doctor};

use super::world::{Ns, StateDir, wait};

/// Set for the process that may not see: the container's namespace.
const BLIND: &str = "VETHNET_TEST_BLIND";

#[test]
fn what_is_no_container() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let bare = wait(doctor(&Ns::new())).expect("doctor");
        assert_eq!(bare.findings()[0].fault(), Fault::NoInterface);
        assert_eq!(bare.findings().len(), 1, "{bare}");
        let file = File::open("/proc/version").expect("a file");
        let error = wait(doctor(&file)).expect_err("no namespace");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "setns"));
    });
}

/// A container by macvlan: its interface is up and what it is made from is not.
#[test]
fn no_carrier() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (host, container) = (Ns::host(), Ns::new());
        host.output("ip", "link add p0 type veth peer name p1");
        host.output("ip", "link set p0 up");
        host.output("ip", "link add mv0 link p0 type macvlan");
        let mut inside = container.run(|| Command::new("sleep").arg("60").spawn().expect("sleep"));
        host.output("ip", &format!("link set mv0 netns {}", inside.id()));
        inside.kill().expect("kill");
        inside.wait().expect("wait");
        container.output("ip", "address add 192.0.2.9/24 dev mv0");
        container.output("ip", "link set mv0 up");
        let found = wait(doctor(&container)).expect("doctor");
        assert!(found.has(Fault::NoCarrier), "{found}");
        host.output("ip", "link set p1 up");
        // The kernel passes it on to what is made from p0 when it comes to that, within some seconds.
        let has_carrier = || !container.output("ip", "link show dev mv0").contains("NO-CARRIER");
        assert!((0..400).any(|_| has_carrier() || (thread::sleep(Duration::from_millis(50)), false).1), "no carrier");
        let found = wait(doctor(&container)).expect("doctor");
        assert!(!found.has(Fault::NoCarrier), "{found}");
        host.output("ip", "link delete p0");
    });
}

/// Not a test: the process of an ordinary user that the next one starts.
#[test]
#[ignore = "run by the next test"]
fn blind() {
    let Ok(netns) = std::env::var(BLIND) else { return };
    let found = wait(doctor(File::open(netns).expect("netns"))).expect("a diagnosis all the same");
    for what in ["network namespace of the container", "rules of nf_tables of the host"] {
        let told = found
            .findings()
            .iter()
            .any(|finding| finding.fault() == Fault::NotSeen && finding.sentence().contains(what));
        assert!(told, "{what}: {found}");
    }
    assert!(!found.is_healthy());
    println!("{found}");
}

#[test]
fn what_may_not_be_seen_is_said() {
    faultkit::require!(root, program("ip"), program("setpriv"));
    isolated!(|| {
        let container = Ns::new();
        let path = format!("/proc/{}/fd/{}", std::process::id(), container.as_fd().as_raw_fd());
        // All capabilities but those for networks: who may open the namespace's file and not enter it.
        let output = Command::new("setpriv")
            .args(["--bounding-set=-net_admin,-sys_admin", "--inh-caps=-net_admin,-sys_admin"])
            .arg(std::env::current_exe().expect("exe"))
            .args(["root::limits::blind", "--exact", "--nocapture", "--ignored"])
            .env(BLIND, path)
            .output()
            .expect("run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        println!("{text}");
    });
}

#[test]
fn what_vanishes_meanwhile_is_no_error() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 60, || {
        let state = StateDir::new();
        let container = Ns::new();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let network = state.network();
                while !stop.load(Ordering::Relaxed) {
                    wait(async {
                        let attachment = network.attach(&container, &Attach::new("a"), &mut ()).await.expect("attach");
                        attachment.detach().await.expect("detach");
                    });
                }
            });
            for _ in 0..60 {
                let found = wait(doctor(&container)).expect("a diagnosis");
                let unseen: Vec<_> =
                    found.findings().iter().filter(|finding| finding.fault() == Fault::NotSeen).collect();
                assert!(unseen.is_empty(), "{unseen:?}");
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(state.files(), [""; 0]);
    });
}

/// The tables of neighbours and connections are the whole machine's: only a virtual machine's may be made small.
#[test]
fn tables_that_are_full() {
    faultkit::require!(root, vm, program("ip"), program("nft"));
    let settings =
        ["net/ipv4/neigh/default/gc_thresh3", "net/netfilter/nf_conntrack_max"].map(|name| format!("/proc/sys/{name}"));
    let before = settings.clone().map(|path| std::fs::read_to_string(path).expect("a setting"));
    let state = StateDir::new();
    let container = Ns::new();
    let attachment = wait(state.network().attach(&container, &Attach::new("a"), &mut ())).expect("attach");
    Ns::host().output("ip", "neighbour add 10.209.0.77 lladdr 02:00:00:00:00:77 dev cellkit0");
    std::fs::write(&settings[0], "1").expect("a small table");
    let neighbours = wait(doctor(&container)).expect("doctor");
    std::fs::write(&settings[0], &before[0]).expect("as it was");
    assert!(neighbours.has(Fault::NeighbourTableFull), "{neighbours}");

    let _server = Ns::host().serve(81);
    let _ = container.seen_at(std::net::Ipv4Addr::new(10, 209, 0, 1), 81);
    std::fs::write(&settings[1], "1").expect("a small table");
    let connections = wait(doctor(&container)).expect("doctor");
    std::fs::write(&settings[1], &before[1]).expect("as it was");
    assert!(connections.has(Fault::ConntrackFull), "{connections}");
    wait(attachment.detach()).expect("detach");
}
