//! Killed processes, and what they leave.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cellkit_core::{Observer, StepText};
use vethnet::{Attach, ErrorKind, Rate, Record};

use super::world::{Ns, StateDir, forwarding, networks, wait};

/// Set for the process that is to die: the step, the state directory, the container's namespace.
const VICTIM: &str = "VETHNET_TEST_VICTIM";

fn spec() -> Attach {
    let spec = Attach::new("a").ingress(Rate::mbit(30)).egress(Rate::mbit(20));
    spec.publish("8080:80".parse().expect("port")).publish("0.0.0.0:53:53/udp".parse().expect("port"))
}

/// Kills its own process with SIGKILL after go `at`: after steps that were made together.
struct KillAfter {
    at: usize,
    made: usize,
}

impl Observer for KillAfter {
    fn made(&mut self, _: StepText, took: Duration) {
        // The last of each go has its time.
        self.made += usize::from(!took.is_zero());
        if self.made == self.at && !took.is_zero() {
            let _ = Command::new("sh").args(["-c", "kill -9 $PPID"]).status();
            std::thread::sleep(Duration::from_secs(10));
        }
    }
}

/// Counts the goes.
struct Goes(usize);

impl Observer for Goes {
    fn made(&mut self, _: StepText, took: Duration) {
        self.0 += usize::from(!took.is_zero());
    }
}

/// Not a test: the process that the next one kills.
#[test]
#[ignore = "run and killed by the next test"]
fn victim() {
    let Ok(words) = std::env::var(VICTIM) else { return };
    let [at, which, dir, netns] = words.split('|').collect::<Vec<_>>().try_into().expect("four words");
    let netns = File::open(netns).expect("netns");
    let mut observer = KillAfter { at: at.parse().expect("a number"), made: 0 };
    let which: usize = which.parse().expect("a number");
    let network = &networks(Path::new(dir))[which];
    let _attached = wait(network.attach(&netns, &spec(), &mut observer)).expect("attach");
}

/// Whether it was killed: it was not, when there were not so many goes.
fn run_victim(at: usize, which: usize, state: &StateDir, netns: &Ns) -> bool {
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
    let output = Command::new(std::env::current_exe().expect("exe"))
        .args(["root::crash::victim", "--exact", "--nocapture", "--ignored"])
        .env(VICTIM, format!("{at}|{which}|{}|{path}", state.path().display()))
        .output()
        .expect("run");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || output.status.signal() == Some(9), "killed after go {at}: {error}");
    output.status.signal() == Some(9)
}

#[test]
fn a_kill_after_any_step_is_reconciled() {
    faultkit::require!(root, program("ip"), program("nft"), program("sh"));
    isolated!(limit_secs = 180, || {
        let state = StateDir::new();
        for (which, network) in state.networks().iter().enumerate() {
            let mut at = 1;
            loop {
                // The container's namespace outlives the process, as when it runs on.
                let netns = Ns::new();
                let killed = run_victim(at, which, &state, &netns);
                let after = format!("network {which}, killed after go {at}");
                assert_ne!(state.files(), [""; 0], "{after}: there is the lease");
                // The lease has the owner, whatever else was made; and the lock died with its holder.
                let removed = wait(network.reconcile(|owner| owner != "a")).expect("reconcile");
                assert_eq!(removed, ["a"], "{after}");
                assert_eq!(Ns::host().links(), ["lo"], "{after}");
                assert!(Ns::host().ruleset().is_empty(), "{after}");
                assert_eq!(netns.links(), ["lo"], "{after}");
                assert_eq!(forwarding(), "0", "{after}");
                assert_eq!(state.files(), [""; 0], "{after}");
                // The shell that killed its parent.
                faultkit::reap_orphans();
                if !killed {
                    break;
                }
                at += 1;
            }
            println!("network {which}: killed after each of {} goes", at - 1);
            assert!(at > 7, "{at}");
        }
    });
}

#[test]
fn a_kill_does_not_hurt_the_others() {
    faultkit::require!(root, program("ip"), program("nft"), program("sh"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let (b, victim) = (Ns::new(), Ns::new());
        wait(async {
            let other = Attach::new("b").publish("8081:81".parse().expect("port"));
            let other = network.attach(&b, &other, &mut ()).await.expect("b");
            let before = Ns::host().output("nft", "list ruleset");
            // The network is there already: only the container's own steps are made, the ports last.
            let mut goes = Goes(0);
            network.attach(&Ns::new(), &spec(), &mut goes).await.expect("a").detach().await.expect("detach");
            assert!(run_victim(goes.0, 0, &state, &victim));
            assert_eq!(network.reconcile(|owner| owner == "b").await.expect("reconcile"), ["a"]);
            assert_eq!(Ns::host().output("nft", "list ruleset"), before);
            let _server = b.serve(81);
            assert_eq!(Ns::host().reaches(other.gateway(), 8081).expect("b's port"), other.gateway());
            assert_eq!(network.reconcile(|_| true).await.expect("all alive"), [""; 0]);
            other.detach().await.expect("detach");
        });
        faultkit::reap_orphans();
        assert_eq!(state.files(), [""; 0]);
    });
}

#[test]
fn a_damaged_record_is_named_and_removed() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let (a, b) = (Ns::new(), Ns::new());
        wait(async {
            let attached = network.attach(&a, &spec(), &mut ()).await.expect("a");
            let file = state.path().join("cellkit0/lease/a.json");
            let whole = std::fs::read(&file).expect("read");
            for bytes in [&[][..], &whole[..whole.len() / 2], b"{}", b"\xff\xfe"] {
                std::fs::write(&file, bytes).expect("damage");
                // It is nobody's but a's: who comes gets another address.
                let other = network.attach(&b, &Attach::new("b"), &mut ()).await.expect("b");
                assert_ne!(other.address(), attached.address());
                other.detach().await.expect("b");
                let error = network.check(&Attach::new("b")).await.expect_err("whose ports are published?");
                assert_eq!(error.kind(), ErrorKind::Parse);
                assert!(error.to_string().contains("a.json") && error.hint().is_some(), "{error:#}");
            }
            assert!(network.detach("a").await.expect("by what the kernel knows"));
        });
        assert_eq!(Ns::host().links(), ["lo"]);
        assert!(Ns::host().ruleset().is_empty());
        assert_eq!(state.files(), [""; 0]);
    });
}

#[test]
fn a_record_survives_its_text() {
    faultkit::require!(root);
    isolated!(|| {
        let state = StateDir::new();
        let netns = Ns::new();
        let attachment = wait(state.network().attach(&netns, &spec(), &mut ())).expect("attach");
        let text = serde_json::to_string(attachment.record()).expect("write");
        assert_eq!(&serde_json::from_str::<Record>(&text).expect("read"), attachment.record());
        wait(attachment.detach()).expect("detach");
    });
}
