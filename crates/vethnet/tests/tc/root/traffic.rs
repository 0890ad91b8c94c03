//! How fast traffic really is: a program that pushes bytes, one that counts them, and nothing else.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::world::Ns;

/// A full packet of Ethernet and what of it is the bytes of a TCP stream (with time stamps).
const FRAME: f64 = 1514.0 / 1448.0;
/// Until the burst is used up and TCP has found its pace.
const WARM_UP: Duration = Duration::from_millis(400);

/// Bits a second on the wire, of one TCP connection from one namespace to an address in another, over `time`.
pub fn tcp(from: &Ns, to: &Ns, address: impl Into<IpAddr>, time: Duration) -> f64 {
    let address = SocketAddr::new(address.into(), 5001);
    let listener = to.run(|| TcpListener::bind(address).expect("bind"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream =
                from.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(20)).expect("connect"));
            stream.set_write_timeout(Some(Duration::from_millis(200))).expect("timeout");
            let chunk = vec![7; 64 << 10];
            while !stop.load(Ordering::Relaxed) {
                let _ = stream.write(&chunk);
            }
        });
        let (mut stream, _) = listener.accept().expect("accept");
        let mut buffer = vec![0; 256 << 10];
        let start = Instant::now();
        let (mut counted, mut since) = (0_usize, None);
        loop {
            let read = stream.read(&mut buffer).expect("read");
            let now = Instant::now();
            match since {
                None if now - start >= WARM_UP => since = Some(now),
                None => {}
                Some(since) => {
                    counted += read;
                    if now - since >= time {
                        stop.store(true, Ordering::Relaxed);
                        return counted as f64 * 8.0 * FRAME / (now - since).as_secs_f64();
                    }
                }
            }
        }
    })
}

/// Bits a second on the wire of packets of `size` bytes of UDP, sent as fast as they go, that arrive over `time`.
pub fn udp(from: &Ns, to: &Ns, address: Ipv4Addr, size: usize, time: Duration) -> f64 {
    let receiver = to.run(|| UdpSocket::bind((address, 5002)).expect("bind"));
    receiver.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let sender = from.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind"));
            let packet = vec![7; size];
            while !stop.load(Ordering::Relaxed) {
                // What the qdisc drops of a local sender is told as ENOBUFS.
                let _ = sender.send_to(&packet, (address, 5002));
            }
        });
        let mut buffer = vec![0; 2048];
        let start = Instant::now();
        let (mut packets, mut since) = (0_usize, None);
        loop {
            assert_eq!(receiver.recv(&mut buffer).expect("receive"), size);
            let now = Instant::now();
            match since {
                None if now - start >= WARM_UP => since = Some(now),
                None => {}
                Some(since) => {
                    packets += 1;
                    if now - since >= time {
                        stop.store(true, Ordering::Relaxed);
                        // With the headers of UDP, IPv4 and Ethernet.
                        let bits = packets * (size + 8 + 20 + 14) * 8;
                        return bits as f64 / (now - since).as_secs_f64();
                    }
                }
            }
        }
    })
}

/// How often a rate is measured until it is the expected one: a machine that has no time for those who send and receive
/// shows less, and what waited in the socket when the counting began is counted too.
const ATTEMPTS: usize = 20;
/// After how many that all show less it is asked whether anything is fast here.
const DOUBT: usize = 5;

/// Whether the rate is the asked one, within 12 %.
#[track_caller]
pub fn assert_near(asked: f64, measure: impl Fn() -> f64) {
    assert_within(asked * 0.88..asked * 1.12, measure);
}

/// Whether the rate is more than this one, as it is where nothing limits it.
#[track_caller]
pub fn assert_more(than: f64, measure: impl Fn() -> f64) {
    assert_within(than..f64::INFINITY, measure);
}

#[track_caller]
fn assert_within(range: Range<f64>, measure: impl Fn() -> f64) {
    let mut measured = Vec::new();
    for _ in 0..ATTEMPTS {
        let rate = measure();
        if range.contains(&rate) {
            return;
        }
        measured.push(rate);
        if measured.len() == DOUBT && measured.iter().all(|rate| *rate < range.start) && nothing_is_fast() {
            return;
        }
    }
    panic!("expected {range:.0?} bit/s, measured {measured:.0?}");
}

/// An emulated machine sends no faster than some limits are: there, only that it is never more is shown. One that is a
/// hundred times as fast has to come near them.
fn nothing_is_fast() -> bool {
    let ns = Ns::new();
    ns.output("ip", "link set lo up");
    let rate = tcp(&ns, &ns, [127, 0, 0, 1], Duration::from_millis(500));
    println!("through the loopback, {:.1} mbit", rate / 1e6);
    rate < 2e9
}

/// `tc -j -s ...`
pub fn tc(ns: &Ns, args: &str) -> Vec<Value> {
    let text = ns.output("tc", &format!("-j -s {args}"));
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("tc {args}: {error}: {text}"));
    all.as_array().expect("a list").clone()
}

/// What `tc -s class show` says of a class, which it has no JSON for: the line, and the bytes sent.
pub fn class(ns: &Ns, name: &str, handle: &str) -> (String, u64) {
    let text = ns.output("tc", &format!("-s class show dev {name} classid {handle}"));
    let mut lines = text.lines();
    let line = lines.next().expect("a class").to_owned();
    let sent = lines.next().and_then(|line| line.trim().strip_prefix("Sent ")).expect("what was sent");
    (line, sent.split(' ').next().expect("a number").parse().expect("bytes"))
}

/// Waits until an interface sends nothing any more: connections that were closed still have something to say.
pub fn until_quiet(ns: &Ns, name: &str) {
    let sent = || ns.ip(&format!("-s link show dev {name}"))[0]["stats64"]["tx"]["packets"].clone();
    let (mut before, mut since) = (sent(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        thread::sleep(Duration::from_millis(20));
        let now = sent();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}
