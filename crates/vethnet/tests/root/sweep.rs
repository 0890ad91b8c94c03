//! Attach and detach with a fault at their system calls: each is made to fail once, and the process killed at each.
//!
//! With `CELLKIT_SWEEP=all` it is every call; otherwise some of them, another part of them for each fault.

use std::fs;
use std::process::Command;

use faultkit::{Call, Counted, End, Failure, Fault, Run, Sweep, Swept};
use vethnet::{Attach, Error, Network, Rate};

use super::world::{Ns, StateDir, forwarding, wait};

/// With all that a container can have.
fn spec() -> Attach {
    let name = "web".parse().expect("name");
    let spec = Attach::new("a").name(name).ingress(Rate::mbit(30)).egress(Rate::mbit(20));
    spec.publish("8080:80".parse().expect("port")).publish("127.0.0.1:9000-9002:1-3/udp".parse().expect("port"))
}

fn failure(error: &Error) -> Failure {
    Failure::new(error.operation(), error.raw_os_error(), format!("{error:#}"))
}

fn lines(path: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/thread-self/net/{path}")).expect(path);
    text.lines().map(str::to_owned).collect()
}

/// The links, IPv4 addresses and IPv4 routes of the calling thread's network namespace, as the kernel's text has them.
fn ipv4() -> Vec<String> {
    let links = lines("dev").into_iter().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    links.chain(lines("fib_trie")).chain(lines("route")).collect()
}

/// What comes some moments after an address does, and goes with it.
fn ipv6() -> Vec<String> {
    // What follows counts who uses a route.
    let columns = |line: String| line.split_whitespace().take(5).collect::<Vec<_>>().join(" ");
    ["if_inet6", "ipv6_route", "dev_mcast"].iter().flat_map(|table| lines(table)).map(columns).collect()
}

/// What is the same each time a container is attached, of the host and of the container.
fn wired(state: &StateDir, netns: &Ns) -> Vec<String> {
    let mut all = ipv4();
    all.extend(netns.run(ipv4));
    // An empty state directory may stay: only who has the lock may remove it, and that can fail.
    let dir = state.path();
    all.extend(state.files().into_iter().filter(|file| *file != dir.to_string_lossy()));
    let rules = Command::new("nft").args(["list", "ruleset"]).output().expect("nft");
    assert!(rules.status.success(), "{rules:?}");
    all.extend(String::from_utf8_lossy(&rules.stdout).lines().map(str::to_owned));
    all.push(forwarding());
    all.push(fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").expect("forwarding"));
    all
}

fn seen(state: &StateDir, netns: &Ns) -> Vec<String> {
    [wired(state, netns), ipv6(), netns.run(ipv6)].concat()
}

/// Every how many-th call is met.
fn stride(some: usize) -> usize {
    match std::env::var_os("CELLKIT_SWEEP") {
        Some(all) if all == "all" => 1,
        _ => some,
    }
}

/// Which part of a container's life is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Attach,
    Detach,
}

/// Calls that nobody could do anything about: of the C library for a new thread, and close(2) of a directory, on whose
/// failure the standard library panics, and tokio's own event loop, which does too.
fn is_of_a_library(call: &Call) -> bool {
    match &*call.name {
        "rt_sigprocmask" | "close" | "epoll_wait" | "epoll_pwait" => true,
        // To an eventfd(2).
        "write" => call.args[2] == 8,
        "mmap" | "mprotect" => !call.is_callers(),
        _ => false,
    }
}

fn sweep(network: &Network, state: &StateDir, netns: &Ns, part: Part, fault: Fault, some: usize) -> Swept {
    let before = seen(state, netns);
    let right = wait(async {
        let attachment = network.attach(netns, &spec(), &mut ()).await.expect("without a fault");
        let right = wired(state, netns);
        attachment.detach().await.expect("without a fault");
        right
    });
    let clean = |what: &str| match seen(state, netns) {
        now if now == before => Ok(()),
        now => Err(format!("{what}: {:?}", difference(&before, &now))),
    };
    let body = |counted: &Counted<'_>| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let result = match part {
            Part::Attach => {
                let spec = spec();
                let attached = counted.run(|| runtime.block_on(network.attach(netns, &spec, &mut ())));
                match attached {
                    Ok(attachment) => {
                        // Something was had another way, or did not matter.
                        let now = wired(state, netns);
                        runtime.block_on(attachment.detach()).map_err(|error| failure(&error))?;
                        match difference(&right, &now) {
                            none if none.is_empty() => Ok(()),
                            other => Err(Failure::new("attached", None, format!("not as without a fault: {other:?}"))),
                        }
                    }
                    Err(error) => {
                        // It is undone already: nothing else is needed.
                        clean("after a failed attach").map_err(|what| Failure::new("left", None, what))?;
                        Err(failure(&error))
                    }
                }
            }
            Part::Detach => {
                let attachment = runtime.block_on(network.attach(netns, &spec(), &mut ()));
                let attachment = attachment.map_err(|error| failure(&error))?;
                let detached = counted.run(|| runtime.block_on(attachment.detach()));
                if detached.is_err() {
                    // Again, as its doc says that one may.
                    runtime.block_on(attachment.detach()).expect("the second time");
                }
                detached.map_err(|error| failure(&error))
            }
        };
        if let Err(what) = clean("at the end") {
            return Err(Failure::new("left", None, format!("{what}, after {result:?}")));
        }
        result
    };
    let sweep = Sweep::new(body).stride(stride(some)).spare("the libraries insist", is_of_a_library);
    let recover = || {
        wait(network.reconcile(|_| false)).expect("reconcile");
    };
    sweep.recover(recover).each(fault, |run: &Run| match (&run.end, fault) {
        (End::Killed, Fault::Kill | Fault::KillCaller) => clean("after reconcile"),
        (End::Returned(Err(failure)), Fault::Fail(errno)) if failure.errno == Some(errno) => Ok(()),
        // The C library says EAGAIN for each of its failures.
        (End::Returned(Err(failure)), Fault::Fail(_)) if run.call.name == "clone3" && failure.operation == "clone" => {
            Ok(())
        }
        // What there was, attached and detached, was as without a fault.
        (End::Returned(Ok(())), Fault::Fail(_)) => Ok(()),
        (other, _) => Err(format!("{other:?}")),
    })
}

fn difference(before: &[String], now: &[String]) -> Vec<String> {
    let lost = before.iter().filter(|line| !now.contains(line)).map(|line| format!("- {line}"));
    let come = now.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    lost.chain(come).collect()
}

fn networks(work: impl Fn(&Network, &StateDir, &Ns)) {
    let state = StateDir::new();
    let netns = Ns::new();
    for network in &state.networks()[1..] {
        // What a kernel makes once and keeps, such as the loopback's routes when the first address comes.
        wait(async { network.attach(&netns, &spec(), &mut ()).await?.detach().await }).expect("without a fault");
        work(network, &state, &netns);
    }
    wait(state.network().reconcile(|_| false)).expect("reconcile");
    assert_eq!(state.files(), [""; 0]);
}

/// Sweeps, and tells how much.
fn swept(part: Part, faults: &[(Fault, usize)]) {
    networks(|network, state, netns| {
        for &(fault, some) in faults {
            let swept = sweep(network, state, netns, part, fault, some);
            println!("{part:?}, {}, {fault}: {swept:?}", network.wiring());
            assert!(swept.runs * stride(some) >= 80, "{swept:?}");
        }
    });
}

#[test]
fn killed_at_each_call_of_attach() {
    faultkit::require!(root, program("nft"), program("find"));
    isolated!(limit_secs = 900, || swept(Part::Attach, &[(Fault::Kill, 17)]));
}

#[test]
fn killed_at_each_call_of_detach() {
    faultkit::require!(root, program("nft"), program("find"));
    isolated!(limit_secs = 900, || swept(Part::Detach, &[(Fault::Kill, 13)]));
}

#[test]
fn each_call_of_attach_fails() {
    faultkit::require!(root, program("nft"), program("find"));
    let faults = [(libc::EIO, 23), (libc::ENOMEM, 31), (libc::EPERM, 53)];
    isolated!(limit_secs = 900, || swept(Part::Attach, &faults.map(|(errno, some)| (Fault::Fail(errno), some))));
}

#[test]
fn each_call_of_detach_fails() {
    faultkit::require!(root, program("nft"), program("find"));
    let faults = [(libc::EIO, 13), (libc::ENOMEM, 19), (libc::EPERM, 23)];
    isolated!(limit_secs = 900, || swept(Part::Detach, &faults.map(|(errno, some)| (Fault::Fail(errno), some))));
}
