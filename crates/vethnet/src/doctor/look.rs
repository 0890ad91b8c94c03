//! Looking: what is read of the kernel, on threads inside the two namespaces. It changes nothing.
//!
//! Whatever cannot be read is noted with its error and the rest is read all the same: a doctor is asked when things are
//! not as they should be, and some may vanish while it looks.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cellkit_core::{Error, ErrorKind, ProcFd, ProcView, Result};

use super::facts::{self, Facts, Side};
use super::forward::{self, Ruleset};
use super::path::Paths;
use crate::attr::{self, Writer};
use crate::exchange::{Mode, Request};
use crate::netns::{apart, inside};
use crate::socket::{Family, Socket};

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// Both namespaces: the container's, and that of the calling thread.
pub(super) async fn look(netns: BorrowedFd<'_>) -> Result<Facts> {
    let host = apart(|| Socket::open(Family::Route)?.netns()).await;
    let host = match host {
        Ok(host) => Some(host),
        Err(error) if error.kind() == ErrorKind::Permission => None,
        Err(error) => return Err(error),
    };
    let mut facts = Facts::default();
    match inside(netns, move || Ok(look_inside(host.as_ref()))).await {
        Ok((side, host_netns)) => (facts.container, facts.host_netns) = (side, host_netns),
        Err(error) if error.kind() == ErrorKind::Permission => {
            facts.container.unseen.push(("the container's network namespace".into(), error.to_string()));
        }
        Err(error) => return Err(error),
    }
    apart(move || {
        look_around(&mut facts);
        Ok(facts)
    })
    .await
}

/// Notes an error in place of what would have been read.
fn note<T: Default>(side: &mut Side, what: &str, result: Result<T>) -> T {
    result.unwrap_or_else(|error| {
        side.unseen.push((what.to_owned(), error.to_string()));
        T::default()
    })
}

fn list<T>(socket: &Socket, request: Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
    Ok(socket.talk(&[request], Mode::Dump)?.iter().filter_map(|body| parse(body)).collect())
}

/// A list of all there is: the header of the kind of message, with nothing in it but the family.
fn all(operation: &'static str, kind: u16, header: usize, family: i32) -> Request {
    let mut body = vec![0; header];
    if let (Some(first), Ok(family)) = (body.first_mut(), u8::try_from(family)) {
        *first = family;
    }
    Request { operation, subject: None, kind, flags: 0, body }
}

/// Links, addresses, routes and neighbours of the namespace that the socket is in.
fn look_at(socket: &Socket) -> Side {
    let mut side = Side::default();
    let links = list(socket, all("RTM_GETLINK", RTM_GETLINK, 16, libc::AF_UNSPEC), facts::link);
    side.links = note(&mut side, "links", links);
    let addresses = list(socket, all("RTM_GETADDR", RTM_GETADDR, 8, libc::AF_UNSPEC), facts::address);
    side.addresses = note(&mut side, "addresses", addresses);
    for family in [libc::AF_INET, libc::AF_INET6] {
        let routes = list(socket, all("RTM_GETROUTE", RTM_GETROUTE, 12, family), facts::route);
        let routes = note(&mut side, "routes", routes);
        side.routes.extend(routes);
        let neighbours = list(socket, all("RTM_GETNEIGH", RTM_GETNEIGH, 12, family), facts::neighbour);
        let neighbours = note(&mut side, "neighbours", neighbours);
        side.neighbours.extend(neighbours);
    }
    side
}

/// On a thread inside the container's namespace.
fn look_inside(host: Option<&OwnedFd>) -> (Side, Option<i32>) {
    let socket = match Socket::open(Family::Route) {
        Ok(socket) => socket,
        Err(error) => {
            let unseen = vec![("the container's network namespace".to_owned(), error.to_string())];
            return (Side { unseen, ..Side::default() }, None);
        }
    };
    let mut side = look_at(&socket);
    let host_netns = host.and_then(|host| number_of(&socket, host).ok().flatten());
    let proc = note(&mut side, "/proc", ProcFd::open(ProcView::Whole).map(Some));
    if let Some(proc) = proc {
        let names: Vec<_> = side.links.iter().map(|link| link.name.clone()).collect();
        sysctl(&mut side, &proc, "net/ipv6/conf/all/disable_ipv6".into());
        for name in names {
            sysctl(&mut side, &proc, format!("net/ipv6/conf/{name}/disable_ipv6"));
        }
        for (file, protocol) in [("tcp", 6), ("tcp6", 6), ("udp", 17), ("udp6", 17)] {
            if let Some(text) = of_the_thread(&mut side, &proc, &format!("net/{file}")) {
                side.listening.extend(facts::listening(&text, protocol));
            }
        }
    }
    (side, host_netns)
}

/// How the namespace of the socket numbers another, if it has had to.
fn number_of(socket: &Socket, netns: &OwnedFd) -> Result<Option<i32>> {
    let mut writer = Writer::new(&[0; 4]);
    writer.put(NETNSA_FD, &netns.as_raw_fd().to_ne_bytes());
    let request =
        Request { operation: "RTM_GETNSID", subject: None, kind: RTM_GETNSID, flags: 0, body: writer.finish()? };
    let answers = socket.talk(&[request], Mode::Ack)?;
    let number = answers.first().and_then(|body| attr::find(body.get(4..)?, NETNSA_NSID));
    Ok(number.and_then(|value| value.first_chunk().copied()).map(i32::from_ne_bytes).filter(|number| *number >= 0))
}

/// On a thread in the host's namespace.
fn look_around(facts: &mut Facts) {
    match Socket::open(Family::Route) {
        Ok(socket) => facts.host = look_at(&socket),
        Err(error) => facts.host.unseen.push(("the host's network namespace".into(), error.to_string())),
    }
    let proc = note(&mut facts.host, "/proc", ProcFd::open(ProcView::Whole).map(Some));
    if let Some(proc) = proc {
        for path in [
            "net/ipv4/ip_forward",
            "net/ipv6/conf/all/forwarding",
            "net/ipv4/conf/all/rp_filter",
            "net/ipv4/conf/all/route_localnet",
            "net/bridge/bridge-nf-call-iptables",
            "net/netfilter/nf_conntrack_count",
            "net/netfilter/nf_conntrack_max",
            "net/ipv4/neigh/default/gc_thresh3",
            "net/ipv6/neigh/default/gc_thresh3",
        ] {
            sysctl(&mut facts.host, &proc, path.into());
        }
        let names: Vec<_> = Paths::of(facts).host_interfaces().map(|link| link.name.clone()).collect();
        for name in names {
            for file in ["forwarding", "rp_filter", "route_localnet"] {
                sysctl(&mut facts.host, &proc, format!("net/ipv4/conf/{name}/{file}"));
            }
            sysctl(&mut facts.host, &proc, format!("net/ipv6/conf/{name}/forwarding"));
        }
        if let Some(text) = of_the_thread(&mut facts.host, &proc, "net/ip_tables_names") {
            facts.legacy_tables = text.lines().map(str::to_owned).collect();
        }
        for (family, file) in [(4, "net/stat/arp_cache"), (6, "net/stat/ndisc_cache")] {
            let text = of_the_thread(&mut facts.host, &proc, file);
            facts
                .neighbour_entries
                .extend(text.and_then(|text| facts::cache_entries(&text)).map(|count| (family, count)));
        }
    }
    match Socket::open(Family::Netfilter).and_then(|socket| ruleset(&socket)) {
        Ok(ruleset) => facts.ruleset = Some(ruleset),
        Err(error) if has_no_nf_tables(&error) => facts.no_nf_tables = true,
        Err(error) => facts.host.unseen.push(("the rules of nf_tables".into(), error.to_string())),
    }
}

/// A kernel without nf_tables has nobody who answers, or no NETLINK_NETFILTER at all.
fn has_no_nf_tables(error: &Error) -> bool {
    match error.operation() {
        "socket" => error.raw_os_error() == Some(libc::EPROTONOSUPPORT),
        _ => matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)),
    }
}

fn ruleset(socket: &Socket) -> Result<Ruleset> {
    let mut ruleset = Ruleset {
        tables: list(socket, forward::list_tables()?, forward::table)?,
        chains: list(socket, forward::list_chains()?, forward::chain)?,
        rules: Vec::new(),
    };
    for table in &ruleset.tables {
        let forwards = ruleset
            .chains
            .iter()
            .any(|chain| (chain.family, &chain.table) == (table.family, &table.name) && chain.forwards());
        if !forwards {
            continue;
        }
        match list(socket, forward::list_rules(table)?, forward::rule) {
            Ok(rules) => ruleset.rules.extend(rules),
            // Removed since the list of tables.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ruleset)
}

/// Reads a file of /proc/sys. One that is not there is none: the kernel has no such part, or the interface vanished.
fn sysctl(side: &mut Side, proc: &ProcFd, path: String) {
    match proc.read(&Path::new("sys").join(&path)) {
        Ok(bytes) => {
            side.sysctls.insert(path, String::from_utf8_lossy(&bytes).trim().to_owned());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => side.unseen.push((path.replace('/', "."), error.to_string())),
    }
}

/// Reads a file of the calling thread's own directory, which shows the namespace that the thread is in.
fn of_the_thread(side: &mut Side, proc: &ProcFd, name: &str) -> Option<String> {
    match proc.this_thread().and_then(|dir| dir.read(Path::new(name))) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => None,
        // The thread itself lives: it is the file that is not there.
        Err(error) if error.kind() == ErrorKind::Gone => None,
        Err(error) => {
            side.unseen.push((name.to_owned(), error.to_string()));
            None
        }
    }
}
