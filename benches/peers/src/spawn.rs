//! Starts of other crates, timed from inside: `peers --mib N`, requests `start CRATE`.
#![forbid(unsafe_code)]

use std::io::{BufRead, Write};
use std::time::Instant;

fn main() {
    let mebibytes: usize = std::env::args().nth(2).and_then(|text| text.parse().ok()).expect("--mib N");
    let mut ballast = vec![0u8; mebibytes << 20];
    for page in ballast.chunks_mut(4096) {
        page[0] = 1;
    }
    for line in std::io::stdin().lock().lines() {
        let start = match line.expect("a request").as_str() {
            "start hakoniwa" => hakoniwa,
            "start unshare" => unshare,
            other => panic!("what is {other}?"),
        };
        let begun = Instant::now();
        start();
        println!("{}", begun.elapsed().as_nanos());
        std::io::stdout().flush().expect("an answer");
    }
    std::hint::black_box(&ballast);
}

/// Mounts a root too: it has no start without one.
fn hakoniwa() {
    use hakoniwa::Namespace::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let mut container = hakoniwa::Container::empty();
    container.rootfs("/").expect("rootfs");
    for namespace in [Mount, Pid, Network, Ipc, Uts, Cgroup] {
        container.unshare(namespace);
    }
    assert_eq!(container.command("/bin/true").status().expect("start").code, 0);
}

fn unshare() {
    use unshare::Namespace::{Cgroup, Ipc, Mount, Net, Pid, Uts};
    let mut command = unshare::Command::new("/bin/true");
    command.unshare(&[Mount, Pid, Net, Ipc, Uts, Cgroup]);
    assert!(command.status().expect("start").success());
}
