//! The connection against the real kernel, and against one that takes its time.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::ErrorKind;
use crate::attr::Writer;
use crate::name::IfName;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn get() -> Request {
    link::list()
}

/// The answer to the request that waits on the socket, a datagram a part.
fn list_of(kernel: &UnixDatagram, parts: u8) -> Vec<Vec<u8>> {
    let mut request = [0; 256];
    let length = kernel.recv(&mut request).expect("a request");
    let sequence: [u8; 4] = request[..length][8..12].try_into().unwrap();
    let message = |kind: u16, body: &[u8]| {
        let mut bytes = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&2u16.to_ne_bytes());
        bytes.extend_from_slice(&sequence);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        bytes
    };
    let mut datagrams: Vec<_> = (0..parts).map(|number| message(16, &[number; 4])).collect();
    datagrams.push(message(3, &[0; 4]));
    datagrams
}

/// A connection to a kernel that says nothing by itself.
fn silent() -> (Socket, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Socket::new(OwnedFd::from(ours), 1), theirs)
}

/// Polls once, after the runtime has seen what has come.
async fn poll_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    tokio::time::sleep(Duration::from_millis(2)).await;
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_future_may_be_dropped_at_every_await() {
    runtime().block_on(async {
        let (socket, kernel) = silent();
        let net = Net::new(socket).unwrap();
        let requests = [get()];
        for told in 0..5 {
            {
                let mut abandoned = pin!(net.talk(&requests, Mode::Dump));
                assert!(poll_once(abandoned.as_mut()).await.is_pending(), "the request was sent");
                for datagram in list_of(&kernel, 4).iter().take(told) {
                    kernel.send(datagram).unwrap();
                    assert!(poll_once(abandoned.as_mut()).await.is_pending());
                }
                // One that waits for its turn, and never gets it.
                let mut waiting = pin!(net.talk(&requests, Mode::Dump));
                assert!(poll_once(waiting.as_mut()).await.is_pending());
            }
            // What is said too late comes before the answer.
            kernel.send(&[0; 16]).unwrap();
            let mut next = pin!(net.talk(&requests, Mode::Dump));
            assert!(poll_once(next.as_mut()).await.is_pending());
            for datagram in list_of(&kernel, 3) {
                kernel.send(&datagram).unwrap();
            }
            let Poll::Ready(answers) = poll_once(next.as_mut()).await else { panic!("no answer after {told}") };
            assert_eq!(answers.unwrap(), [[0; 4], [1; 4], [2; 4]]);
        }
    });
}

#[test]
fn sixty_four_tasks_use_one_connection() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let net = Arc::new(Net::here().await.unwrap());
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let net = Arc::clone(&net);
                tokio::spawn(async move {
                    for round in 0..8 {
                        if (task + round) % 5 == 0 {
                            // Abandoned under way, or before its turn.
                            let _ = tokio::time::timeout(Duration::from_micros(50), net.links()).await;
                        }
                        let links = net.links().await.unwrap();
                        assert_eq!(links.iter().filter(|link| link.name == "lo").count(), 1);
                        let name: IfName = format!("none-{task}").parse().unwrap();
                        assert!(net.link(&name).await.unwrap().is_none());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn the_time_limit_is_the_callers() {
    runtime().block_on(async {
        let (socket, _kernel) = silent();
        let net = Net::new(socket).unwrap().time_limit(Duration::from_millis(20));
        let error = net.links().await.unwrap_err();
        assert_eq!(error.to_string(), "RTM_GETLINK: not done within 20ms");
        let error = net.loopback_up().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.hint().unwrap().contains("may have been made"));
    });
}

#[test]
fn in_a_forked_child_it_is_an_error() {
    runtime().block_on(async {
        let mut socket = Socket::open(Family::Route).unwrap();
        socket.pretend_forked();
        let error = Net::new(socket).unwrap().links().await.unwrap_err();
        assert_eq!(error.to_string(), "RTM_GETLINK: this netlink connection was opened by another process");
        assert!(error.hint().unwrap().contains("fork(2)"));
    });
}

#[test]
fn after_its_runtime_it_is_an_error() {
    let (socket, _kernel) = silent();
    let first = runtime();
    let net = first.block_on(async { Net::new(socket).unwrap() });
    drop(first);
    let error = runtime().block_on(net.links()).unwrap_err();
    assert!(error.hint().unwrap().contains("runtime"), "{error:#}");
    // And outside of any.
    let mut future = pin!(net.links());
    let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!("pending") };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid);
}

mod root {
    use super::*;
    use nix::sys::socket::{MsgFlags, NetlinkAddr, sendto, setsockopt, sockopt};
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn new_veth(name: &str, peer: &str) -> Request {
        let mut writer = Writer::new(&[0; 16]);
        writer.text(3, name).nest(18, |info| {
            info.put(1, b"veth").nest(2, |data| {
                let mut inner = Writer::new(&[0; 16]);
                inner.text(3, peer);
                data.put(1, &inner.finish().unwrap());
            });
        });
        Request {
            operation: "RTM_NEWLINK",
            subject: None,
            kind: 16,
            flags: link::CREATE,
            body: writer.finish().unwrap(),
        }
    }

    fn delete(index: u32) -> Request {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        Request { operation: "RTM_DELLINK", subject: None, kind: 17, flags: 0, body }
    }

    fn batch(lines: &str) -> bool {
        let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        ip.wait().unwrap().success()
    }

    /// The kernel drops the errors of many requests when the receive buffer is full, and says so.
    #[test]
    fn answers_that_were_dropped() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let socket = Socket::open(Family::Route).unwrap();
            setsockopt(&socket, sockopt::RcvBuf, &1).unwrap();
            let requests = vec![delete(4711); 64];
            let error = socket.talk(&requests, Mode::Each).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "{error:?}");
            assert!(error.hint().unwrap().contains("look before"), "{error:#}");
            // And after that all is well.
            let links = socket.talk(&[link::list()], Mode::Dump).unwrap();
            assert_eq!(links.len(), 1);
            let error = socket.talk(&requests[..2], Mode::Each).unwrap_err();
            assert_eq!((error.raw_os_error(), error.also().len()), (Some(libc::ENODEV), 1));
        });
    }

    #[test]
    fn what_another_program_sends_is_no_answer() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let socket = Socket::open(Family::Route).unwrap();
            let forger = Socket::open(Family::Route).unwrap();
            // The end of a list, for any of the next requests.
            for sequence in 1u32..4 {
                let mut done = vec![20, 0, 0, 0, 3, 0, 2, 0];
                done.extend_from_slice(&sequence.to_ne_bytes());
                done.extend_from_slice(&[0; 8]);
                let port = NetlinkAddr::new(socket.port(), 0);
                sendto(forger.as_raw_fd(), &done, &port, MsgFlags::empty()).unwrap();
            }
            assert_eq!(socket.talk(&[link::list()], Mode::Dump).unwrap().len(), 1);
        });
    }

    /// `VETHNET_CHURN=1000` makes it longer.
    #[test]
    fn lists_are_complete_while_two_hundred_links_come_and_go() {
        faultkit::require!(root, program("ip"));
        drop(runtime());
        faultkit::isolated!(limit_secs = 300, || {
            let rounds = std::env::var("VETHNET_CHURN").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
            let steady: String = (0..50).map(|at| format!("link add s{at} type veth peer name t{at}\n")).collect();
            assert!(batch(&steady));
            let stop = AtomicBool::new(false);
            let mut counts = (0, 0);
            std::thread::scope(|scope| {
                let churn = scope.spawn(|| {
                    let add: String =
                        (0..200).map(|at| format!("link add c{at} type veth peer name d{at}\n")).collect();
                    let delete: String = (0..200).map(|at| format!("link delete c{at}\n")).collect();
                    while !stop.load(Ordering::Relaxed) {
                        assert!(batch(&add) && batch(&delete));
                    }
                });
                runtime().block_on(async {
                    let net = Net::here().await.unwrap();
                    for round in 0..rounds {
                        let (name, peer) = (format!("o{round}"), format!("p{round}"));
                        net.request(new_veth(&name, &peer)).await.unwrap();
                        let own = net.link(name.parse::<IfName>().unwrap()).await.unwrap().expect("just made");
                        match net.links().await {
                            Ok(links) => {
                                counts.0 += 1;
                                let count = |name: &str| links.iter().filter(|link| link.name == name).count();
                                for at in 0..50 {
                                    assert_eq!((count(&format!("s{at}")), count(&format!("t{at}"))), (1, 1), "{at}");
                                }
                                assert_eq!((count(&name), count(&peer), count("lo")), (1, 1, 1));
                            }
                            Err(error) => {
                                counts.1 += 1;
                                assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error:#}");
                            }
                        }
                        net.request(delete(own.index)).await.unwrap();
                    }
                });
                stop.store(true, Ordering::Relaxed);
                churn.join().unwrap();
            });
            assert!(counts.0 > 0, "no list was complete: {counts:?}");
            let remove: String = (0..50).map(|at| format!("link delete s{at}\n")).collect();
            assert!(batch(&remove));
        });
    }
}
