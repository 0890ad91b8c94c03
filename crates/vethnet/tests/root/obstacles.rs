//! What stands in the way, and that nothing is left or touched then.

use std::fs::File;
use std::future::Future;
use std::time::Duration;

use cellkit_core::{Observer, StepText};
use vethnet::{Attach, ErrorKind, Rate};

use super::world::{Ns, StateDir, network, wait};

#[test]
fn a_range_that_is_routed_already() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let host = Ns::host();
        let netns = Ns::new();
        host.output("ip", "link add office type bridge");
        host.output("ip", "link set office up");
        for route in ["10.209.1.0/24", "10.0.0.0/8", "10.209.3.7/32"] {
            host.output("ip", &format!("route add {route} dev office"));
            wait(async {
                for error in [
                    state.network().check(&Attach::new("a")).await.expect_err("check"),
                    state.network().attach(&netns, &Attach::new("a"), &mut ()).await.expect_err("attach"),
                ] {
                    assert_eq!(error.kind(), ErrorKind::Invalid);
                    let want = format!(
                        r#"network "10.209.0.0/22": this machine has a route to {route} by office, whose addresses are in it"#
                    );
                    assert_eq!(error.to_string(), want);
                }
            });
            host.output("ip", &format!("route delete {route} dev office"));
        }
        // A default route and one beside the range are none.
        host.output("ip", "address add 192.0.2.1/24 dev office");
        host.output("ip", "route add default via 192.0.2.2");
        wait(state.network().check(&Attach::new("a"))).expect("free");
        host.output("ip", "link delete office");
        assert_eq!(state.files(), [""; 0]);
    });
}

#[test]
fn names_that_others_have_taken() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let host = Ns::host();
        let netns = Ns::new();
        let spec = Attach::new("a");
        for (make, unmake) in [
            (("ip", "link add cellkit0 type bridge"), ("ip", "link delete cellkit0")),
            (("nft", "add table inet cellkit0"), ("nft", "delete table inet cellkit0")),
        ] {
            host.output(make.0, make.1);
            let before = (host.links(), host.ruleset());
            wait(async {
                let error = state.network().check(&spec).await.expect_err("check");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
                assert!(error.hint().expect("hint").contains("another name"));
                let error = state.network().attach(&netns, &spec, &mut ()).await.expect_err("attach");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
                assert_eq!(state.network().reconcile(|_| false).await.expect("reconcile"), [""; 0]);
            });
            assert_eq!((host.links(), host.ruleset()), before, "untouched");
            host.output(unmake.0, unmake.1);
        }
        // In the container.
        netns.output("ip", "link add eth0 type bridge");
        let error = wait(state.network().attach(&netns, &spec, &mut ())).expect_err("attach");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::AlreadyExists, "RTM_NEWLINK"), "{error:#}");
        assert_eq!(host.links(), ["lo"]);
        assert_eq!(state.files(), [""; 0]);
    });
}

/// The name of the host's end follows from the owner's id, so it can be taken before there is one.
#[test]
fn a_container_of_two_networks_needs_two_names() {
    faultkit::require!(root, program("ip"), program("nft"), program("ping"));
    isolated!(|| {
        let state = StateDir::new();
        let netns = Ns::new();
        let other = vethnet::Network::new("other0".parse().expect("name"), "10.210.0.0/24".parse().expect("range"));
        let other = other.state_dir(state.path());
        wait(async {
            let first = state.network().attach(&netns, &Attach::new("a"), &mut ()).await.expect("first");
            let error = other.attach(&netns, &Attach::new("a"), &mut ()).await.expect_err("eth0 is taken");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            assert!(error.to_string().contains(r#"interface "eth0" of the container"#), "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("ifname")), "{error:#}");
            assert!(error.also().is_empty(), "{error:#}");
            let spec = Attach::new("a").ifname("eth1".parse().expect("name"));
            let error = other.attach(&netns, &spec, &mut ()).await.expect_err("the default route is taken");
            assert!(error.hint().is_some_and(|hint| hint.contains("metric")), "{error:#}");
            let spec = spec.metric(2000);
            let steps = other.describe(&spec).expect("describe");
            assert!(steps.iter().any(|step| step.to_string().contains("dev eth1 metric 2000")), "{steps:?}");
            let second = other.attach(&netns, &spec, &mut ()).await.expect("second");
            let routes = netns.output("ip", "route show default");
            assert!(routes.contains("via 10.210.0.1 dev eth1 proto static metric 2000"), "{routes}");
            netns.output("ping", &format!("-c1 -W2 {}", second.gateway()));
            netns.output("ping", &format!("-c1 -W2 {}", first.gateway()));
            second.detach().await.expect("detach");
            first.detach().await.expect("detach");
        });
    });
}

#[test]
fn an_interface_of_others_with_the_name_of_a_hosts_end_stays() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let host = Ns::host();
        let (netns, other) = (Ns::new(), Ns::new());
        let spec = Attach::new("a");
        wait(async {
            let first = state.network().attach(&netns, &spec, &mut ()).await.expect("a");
            let name = first.record().host_ifname();
            first.detach().await.expect("detach");
            for make in [
                format!("link add {name} type bridge"),
                format!("link add {name} type veth peer name foreign"),
                format!("link add {name} address 02:76:00:00:00:01 type veth peer name foreign"),
            ] {
                host.output("ip", &make);
                let before = host.ip("link");
                for _ in 0..2 {
                    let error = state.network().attach(&other, &spec, &mut ()).await.expect_err("taken");
                    assert_eq!(
                        (error.kind(), error.operation()),
                        (ErrorKind::AlreadyExists, "RTM_NEWLINK"),
                        "{error:#}"
                    );
                    assert_eq!(host.ip("link"), before, "{make}");
                }
                // Nor does a lease give a right to it: somebody took our interface away and made another.
                host.output("ip", &format!("link delete {name}"));
                let attachment = state.network().attach(&other, &spec, &mut ()).await.expect("free again");
                host.output("ip", &format!("link delete {name}"));
                host.output("ip", &make);
                let index = host.ip(&format!("link show dev {name}"))[0]["ifindex"].clone();
                attachment.detach().await.expect("detach");
                assert_eq!(host.ip(&format!("link show dev {name}"))[0]["ifindex"], index, "{make}");
                host.output("ip", &format!("link delete {name}"));
            }
        });
        assert_eq!(host.links(), ["lo"]);
        assert_eq!(state.files(), [""; 0]);
    });
}

#[test]
fn the_rules_of_others_stay_as_they_are() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let host = Ns::host();
        host.output("nft", "add table inet filter");
        host.output("nft", "add chain inet filter input { type filter hook input priority 0 ; }");
        host.output("nft", "add rule inet filter input tcp dport 22 counter accept");
        host.output("nft", "add table ip nat");
        let before = host.output("nft", "-a list ruleset");
        let netns = Ns::new();
        wait(async {
            let spec = Attach::new("a").publish("8080:80".parse().expect("port"));
            let attachment = state.network().attach(&netns, &spec, &mut ()).await.expect("attach");
            assert!(host.output("nft", "-a list ruleset").starts_with(before.trim_end()));
            attachment.detach().await.expect("detach");
        });
        assert_eq!(host.output("nft", "-a list ruleset"), before);
        host.output("nft", "flush ruleset");
    });
}

#[test]
fn a_flushed_table_is_made_anew_with_all_its_ports() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let host = Ns::host();
        let (a, b) = (Ns::new(), Ns::new());
        wait(async {
            let spec = Attach::new("a").publish("8080:80".parse().expect("port"));
            let first = network.attach(&a, &spec, &mut ()).await.expect("a");
            let before = host.output("nft", "list ruleset");
            host.output("nft", "flush ruleset");
            let second = network.attach(&b, &Attach::new("b"), &mut ()).await.expect("b");
            assert_eq!(host.output("nft", "list ruleset"), before);
            // And detaching does not mind.
            host.output("nft", "delete table inet cellkit0");
            first.detach().await.expect("a");
            second.detach().await.expect("b");
        });
        assert_eq!(state.files(), [""; 0]);
    });
}

/// The guard is a table of its own. Whichever of the two somebody removes, the next attach makes both whole.
#[test]
fn one_of_the_two_tables_removed_is_made_anew() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network().guard();
        let host = Ns::host();
        let (a, b) = (Ns::new(), Ns::new());
        wait(async {
            let spec = Attach::new("a").publish("8080:80".parse().expect("port"));
            let first = network.attach(&a, &spec, &mut ()).await.expect("a");
            let before =
                (host.output("nft", "list table inet cellkit0"), host.output("nft", "list table bridge cellkit0"));
            for family in ["inet", "bridge"] {
                host.output("nft", &format!("delete table {family} cellkit0"));
                let second = network.attach(&b, &Attach::new("b"), &mut ()).await.expect(family);
                assert_eq!(
                    b.seen_at(first.address(), 80).expect_err("nobody listens").kind(),
                    std::io::ErrorKind::ConnectionRefused
                );
                second.detach().await.expect("b");
                let now =
                    (host.output("nft", "list table inet cellkit0"), host.output("nft", "list table bridge cellkit0"));
                assert_eq!(now, before, "{family}");
            }
            first.detach().await.expect("a");
        });
        assert_eq!(state.files(), [""; 0]);
        assert!(host.ruleset().is_empty());
    });
}

/// However many file descriptors are left, it works or it leaves nothing but the empty directory of the lock.
#[test]
fn short_of_file_descriptors_it_leaves_nothing() {
    use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit, setrlimit};
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let netns = Ns::new();
        let (soft, hard) = getrlimit(RLIMIT_NOFILE).expect("getrlimit");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let used = std::fs::read_dir("/proc/self/fd").expect("fd").count() as u64;
        for network in state.networks() {
            let spec = Attach::new("a").publish("8080:80".parse().expect("port"));
            let attach = |limit| {
                setrlimit(RLIMIT_NOFILE, limit, hard).expect("setrlimit");
                let result = runtime.block_on(network.attach(&netns, &spec, &mut ()));
                setrlimit(RLIMIT_NOFILE, soft, hard).expect("setrlimit");
                result
            };
            let enough = (used..used + 40).find_map(|limit| {
                let result = attach(limit);
                if let Err(error) = &result {
                    assert_eq!(error.kind(), ErrorKind::Limit, "{error:#}");
                    assert!(state.files().iter().all(|file| file.ends_with("/net")), "{:?}", state.files());
                    assert_eq!(Ns::host().links(), ["lo"]);
                    assert!(Ns::host().ruleset().is_empty());
                }
                Some((limit, result.ok()?))
            });
            let (limit, attachment) = enough.expect("with forty it works");
            assert!(limit > used + 4, "the limit was felt: {limit}");
            wait(attachment.detach()).expect("detach");
            assert_eq!(state.files(), [""; 0]);
        }
    });
}

#[test]
fn wrong_descriptors_and_wrong_words() {
    faultkit::require!(root);
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let netns = Ns::new();
        let spec = Attach::new("a");
        wait(async {
            let error = network.attach(Ns::host(), &spec, &mut ()).await.expect_err("the host's own");
            assert_eq!((error.kind(), error.to_string().lines().count()), (ErrorKind::Invalid, 1));
            let file = File::open("/proc/self/status").expect("a file");
            let error = network.attach(&file, &spec, &mut ()).await.expect_err("a file");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let other = File::open("/proc/self/ns/uts").expect("a namespace");
            let error = network.attach(&other, &spec, &mut ()).await.expect_err("another namespace");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            let port = |text: &str| text.parse().expect("port");
            for spec in [
                Attach::new(""),
                Attach::new("../x"),
                Attach::new("a").ifname("lo".parse().expect("name")),
                Attach::new("a").publish(port("80:80")).publish(port("0.0.0.0:80:81")),
            ] {
                let error = network.attach(&netns, &spec, &mut ()).await.expect_err("wrong");
                assert_eq!((error.kind(), error.to_string().lines().count()), (ErrorKind::Invalid, 1), "{error}");
                network.check(&spec).await.expect_err("wrong");
                network.describe(&spec).expect_err("wrong");
            }
        });
        assert_eq!(Ns::host().links(), ["lo"]);
    });
}

/// Set for the process without privileges: its state directory.
const ORDINARY: &str = "VETHNET_TEST_ORDINARY";

/// Not a test: what the next one runs as an ordinary user.
#[test]
#[ignore = "run by the next test as an ordinary user"]
fn as_an_ordinary_user() {
    // `--include-ignored` reaches it without the variable.
    let Ok(dir) = std::env::var(ORDINARY) else { return };
    let network = network("cellkit0", super::world::SUBNET, dir.as_ref());
    let netns = File::open("/proc/self/ns/net").expect("netns");
    wait(async {
        for error in [
            network.check(&Attach::new("a")).await.expect_err("check"),
            network.attach(&netns, &Attach::new("a"), &mut ()).await.expect_err("attach"),
            vethnet::loopback_up(&netns, &mut ()).expect_err("loopback"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Permission, "{error:#}");
            assert!(error.hint().expect("hint").contains("run as root"), "{error:#}");
        }
    });
}

#[test]
fn without_privileges_the_error_says_what_is_missing() {
    faultkit::require!(root);
    isolated!(|| {
        let user = faultkit::ordinary_user();
        let output = user
            .command(user.copy_of(std::env::current_exe().expect("exe")))
            .args(["root::obstacles::as_an_ordinary_user", "--exact", "--nocapture", "--ignored"])
            .env(ORDINARY, user.home().join("net"))
            .output()
            .expect("run");
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("1 passed"), "{out}{error}");
        assert_eq!(std::fs::read_dir(user.home().join("net")).map(Iterator::count).unwrap_or(0), 0);
    });
}

#[test]
fn a_full_range_says_so() {
    faultkit::require!(root);
    isolated!(|| {
        let state = StateDir::new();
        let network = network("cellkit0", "10.77.0.0/30", &state.path());
        let (a, b) = (Ns::new(), Ns::new());
        wait(async {
            let one = network.attach(&a, &Attach::new("a"), &mut ()).await.expect("the only one");
            for error in [
                network.check(&Attach::new("b")).await.expect_err("check"),
                network.attach(&b, &Attach::new("b"), &mut ()).await.expect_err("attach"),
            ] {
                assert_eq!(error.kind(), ErrorKind::Limit);
                assert!(error.hint().expect("hint").contains("reconcile"));
            }
            one.detach().await.expect("detach");
        });
    });
}

/// 1,023 ports are all that a bridge can have.
#[test]
fn a_full_bridge_says_so_and_leaves_nothing() {
    faultkit::require!(root, program("ip"));
    isolated!(limit_secs = 120, || {
        let state = StateDir::new();
        let network = network("cellkit0", "10.64.0.0/16", &state.path());
        let host = Ns::host();
        let (a, b) = (Ns::new(), Ns::new());
        wait(async {
            let first = network.attach(&a, &Attach::new("a"), &mut ()).await.expect("a");
            // Of a group of their own, so that one call removes them.
            let both_ends = |pair| {
                format!(
                    "link add p{pair} group 77 master cellkit0 type veth peer name q{pair} group 77\nlink set q{pair} master cellkit0\n"
                )
            };
            let lines: String = (0..511).map(both_ends).collect();
            let file = faultkit::TempDir::new();
            std::fs::write(file.path().join("batch"), lines).expect("write");
            host.output("ip", &format!("-batch {}", file.path().join("batch").display()));
            let before = state.files();
            let error = network.attach(&b, &Attach::new("b"), &mut ()).await.expect_err("full");
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Limit, Some(libc::EXFULL)), "{error:#}");
            assert!(error.hint().expect("hint").contains("Network::routed"), "{error:#}");
            assert_eq!(state.files(), before);
            assert_eq!(b.links(), ["lo"]);
            host.output("ip", "link delete group 77");
            network.attach(&b, &Attach::new("b"), &mut ()).await.expect("room").detach().await.expect("detach");
            first.detach().await.expect("detach");
        });
        assert_eq!(host.links(), ["lo"]);
        assert_eq!(state.files(), [""; 0]);
    });
}

/// Does something after the first step that says `after`.
struct Meanwhile<F> {
    after: &'static str,
    work: Option<F>,
}

impl<F: FnOnce()> Observer for Meanwhile<F> {
    fn made(&mut self, step: StepText, _: Duration) {
        if step.to_string().contains(self.after) {
            if let Some(work) = self.work.take() {
                work();
            }
        }
    }
}

/// What was made is removed by somebody else while the rest is made.
#[test]
fn interfaces_that_vanish_on_the_way() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let host = Ns::host();
        for (after, what) in [("NFT_MSG_NEWTABLE", "cellkit0"), ("type veth", "vh"), ("type veth", "eth0")] {
            let netns = Ns::new();
            let work = || match what {
                "eth0" => drop(netns.output("ip", "link delete eth0")),
                _ => {
                    let name = host.links().into_iter().find(|name| name.starts_with(what)).expect("it was made");
                    host.output("ip", &format!("link delete {name}"));
                }
            };
            let mut observer = Meanwhile { after, work: Some(work) };
            let attach = Attach::new("a");
            let error = wait(state.network().attach(&netns, &attach, &mut observer)).expect_err(what);
            assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Gone), "{what}: {error:#}");
            assert_eq!((host.links(), netns.links()), (vec!["lo".to_owned()], vec!["lo".to_owned()]), "{what}");
            assert!(host.ruleset().is_empty(), "{what}");
            assert_eq!(state.files(), [""; 0], "{what}");
        }
    });
}

#[test]
fn a_full_disk_leaves_nothing() {
    faultkit::require!(root, program("mount"), program("ip"), program("nft"));
    isolated!(|| {
        let dir = faultkit::TempDir::new();
        let host = Ns::host();
        host.output("mount", &format!("-t tmpfs -o size=4k,nr_inodes=32 tmpfs {}", dir.path().display()));
        let filler = dir.path().join("filler");
        std::fs::write(&filler, [0; 4096]).expect("fill");
        let network = network("cellkit0", super::world::SUBNET, dir.path());
        let netns = Ns::new();
        let error = wait(network.attach(&netns, &Attach::new("a"), &mut ())).expect_err("full");
        assert_eq!((error.operation(), error.kind()), ("write", ErrorKind::Limit), "{error:#}");
        assert!(error.hint().expect("hint").contains("full"));
        assert_eq!(host.links(), ["lo"]);
        assert!(host.ruleset().is_empty());
        std::fs::remove_file(&filler).expect("remove");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
        host.output("umount", &dir.path().display().to_string());
    });
}

/// Ends the future at step `at`, by dropping it as soon as that step was made.
struct Until {
    at: usize,
    made: usize,
    reached: std::rc::Rc<std::cell::Cell<bool>>,
}

impl Observer for Until {
    fn made(&mut self, _: StepText, took: Duration) {
        // The last of those that were made together has their time.
        self.made += usize::from(!took.is_zero());
        if self.made == self.at {
            self.reached.set(true);
        }
    }
}

/// Everything is undone whenever the caller stops waiting: after each step in turn.
#[test]
fn a_dropped_future_leaves_nothing() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        for network in state.networks() {
            let spec = Attach::new("a").ingress(Rate::mbit(30)).egress(Rate::mbit(20));
            let spec = spec.publish("8080:80".parse().expect("port"));
            let mut dropped = 0;
            let mut at = 0;
            let mut done_before = false;
            while !done_before {
                at += 1;
                let netns = Ns::new();
                wait(async {
                    let reached = std::rc::Rc::new(std::cell::Cell::new(false));
                    let mut observer = Until { at, made: 0, reached: reached.clone() };
                    let mut attach = Box::pin(network.attach(&netns, &spec, &mut observer));
                    // Polled until the step was made and the future waits for something, or is done.
                    let done = std::future::poll_fn(|context| match attach.as_mut().poll(context) {
                        std::task::Poll::Ready(result) => std::task::Poll::Ready(Some(result)),
                        std::task::Poll::Pending if reached.get() => std::task::Poll::Ready(None),
                        std::task::Poll::Pending => std::task::Poll::Pending,
                    })
                    .await;
                    drop(attach);
                    match done {
                        Some(result) => {
                            result.expect("attach").detach().await.expect("detach");
                            done_before = true;
                        }
                        None => dropped += 1,
                    }
                });
                assert_eq!(Ns::host().links(), ["lo"], "dropped after go {at}");
                assert!(Ns::host().ruleset().is_empty(), "dropped after go {at}");
                assert_eq!(state.files(), [""; 0], "dropped after go {at}");
                assert_eq!(super::world::forwarding(), "0", "dropped after go {at}");
            }
            println!("dropped after {dropped} of {} goes", at - 1);
            assert!(dropped >= 8, "the future was dropped {dropped} times only");
        }
    });
}
