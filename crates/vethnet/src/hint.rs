//! What to do about the errors this crate's calls are known to give.
#![forbid(unsafe_code)]

use cellkit_core::{HintRow, HintTable};

const fn row(operation: &'static str, errno: i32, hint: &'static str) -> HintRow {
    HintRow { operation, errno, hint }
}

const NEEDS_NET_ADMIN: &str = "changing links, addresses and routes needs CAP_NET_ADMIN over the network namespace: run as root, or go without a network";
const NEEDS_NFT_ADMIN: &str = "changing nf_tables needs CAP_NET_ADMIN over the network namespace: run as root, or publish no ports and go without a network";
const NO_NFT: &str = "this kernel has no nf_tables: load it (modprobe nf_tables) or use one built with CONFIG_NF_TABLES_INET, and for the guard of a bridge CONFIG_NF_TABLES_BRIDGE";

const FULL_BRIDGE: &str = "a bridge has at most 1023 ports: do without one (Network::routed), or use another network with a bridge of its own";
const LOOP: &str = "a bridge cannot be the port of a bridge, nor a link be on top of itself: join them by a veth pair";
const NO_IPV6_THERE: &str =
    "IPv6 is disabled there: set the sysctl net.ipv6.conf.INTERFACE.disable_ipv6 to 0 inside the network namespace";
const NO_IPV6: &str = "this kernel has no IPv6: load it (modprobe ipv6), or start it without ipv6.disable=1";
const NOT_ON_LINK: &str = "the gateway is not on link: first give an interface an address of its range and bring it up, or say onlink with the interface";
const NO_RULES: &str = "this kernel has no rules of this family: use one built with CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES";
const NO_FDB: &str =
    "the interface is no port of a bridge, or has no forwarding database of its own: look with ip -d link";

pub(crate) static HINTS: HintTable = HintTable(&[
    row("RTM_*", libc::EPERM, NEEDS_NET_ADMIN),
    row("ioctl SIOCGSKNS", libc::EPERM, NEEDS_NET_ADMIN),
    row(
        "RTM_NEWLINK",
        libc::EEXIST,
        "an interface of this name exists already: look with ip link, and remove it if it is a leftover",
    ),
    row(
        "RTM_NEWLINK",
        libc::EOPNOTSUPP,
        "this kernel cannot make such a link: load its module (modprobe bridge veth) or use one built with CONFIG_BRIDGE and CONFIG_VETH",
    ),
    row("RTM_NEWLINK", libc::EXFULL, FULL_BRIDGE),
    row("RTM_NEWLINK", libc::ENODEV, "the bridge vanished: somebody else removed it; attach again"),
    row("RTM_NEWLINK", libc::ELOOP, LOOP),
    row(
        "RTM_NEWLINK",
        libc::EBUSY,
        "the other link is in use in another way: a parent has either macvlans or ipvlans or is a bridge's port, and one macvlan in mode passthru",
    ),
    row("RTM_SETLINK", libc::ELOOP, LOOP),
    row("RTM_SETLINK", libc::EXFULL, FULL_BRIDGE),
    row(
        "RTM_SETLINK",
        libc::EBUSY,
        "before Linux 6.2 a link that is up cannot be renamed: bring it down first; or it is in use, such as by a bridge",
    ),
    row(
        "RTM_SETLINK",
        libc::EEXIST,
        "an interface has this name already, as its first or as another: look with ip link",
    ),
    row("RTM_SETLINK", libc::ENODEV, "the interface, or its new master, vanished: somebody else removed it"),
    row(
        "RTM_NEWLINKPROP",
        libc::EEXIST,
        "an interface has this name already, as its first or as another: look with ip link",
    ),
    row(
        "RTM_DELLINK",
        libc::EOPNOTSUPP,
        "hardware and the loopback interface cannot be removed: bring it down instead",
    ),
    row("RTM_GETLINK", libc::ENODEV, "there is no such interface in this network namespace: look with ip link"),
    row("ioctl TUNSETIFF", libc::EPERM, NEEDS_NET_ADMIN),
    row("ioctl TUNSETIFF", libc::EEXIST, "an interface of this name exists already: look with ip link"),
    row("ioctl TUNSETIFF", libc::EBUSY, "it has one queue, and a program has it open: find it with fuser /dev/net/tun"),
    row(
        "ioctl TUNSETIFF",
        libc::EINVAL,
        "it is no tun or tap, or was made with other flags (tun or tap, multi_queue, vnet_hdr): look with ip -d link",
    ),
    row("RTM_NEWADDR", libc::EEXIST, "the interface has this address already: look with ip address"),
    row("RTM_NEWADDR", libc::ENODEV, "the interface vanished: its network namespace may have ended"),
    row("RTM_NEWADDR", libc::EACCES, NO_IPV6_THERE),
    row("RTM_NEWADDR", libc::EOPNOTSUPP, NO_IPV6),
    row("RTM_NEWADDR", libc::EADDRNOTAVAIL, "no interface but the loopback one can have such an address"),
    row("RTM_GETADDR", libc::ENOENT, "the interface does not have this address: look with ip address"),
    row(
        "IFA_F_DADFAILED",
        libc::EEXIST,
        "another host on the link has this address: choose another one, and look for who it is with ip -6 neighbour",
    ),
    row(
        "RTM_NEWROUTE",
        libc::EEXIST,
        "the table has a route to this destination with this metric already: look with ip route; replace it, or say another metric (Attach::metric)",
    ),
    row("RTM_NEWROUTE", libc::ENETUNREACH, NOT_ON_LINK),
    row("RTM_NEWROUTE", libc::EHOSTUNREACH, NOT_ON_LINK),
    row("RTM_NEWROUTE", libc::ENETDOWN, "the interface is down: bring it up before its routes are made"),
    row(
        "RTM_NEWROUTE",
        libc::ENODEV,
        "the interface vanished, or the gateway is on none that is up: look with ip link",
    ),
    row("RTM_NEWROUTE", libc::EACCES, NO_IPV6_THERE),
    row(
        "RTM_NEWROUTE",
        libc::EINVAL,
        "if it has a source, that has to be an address of this machine; if it has a gateway, that may not be one: look with ip address",
    ),
    row(
        "RTM_NEWROUTE",
        libc::EOPNOTSUPP,
        "this kernel has no IPv6, or none of several ways (CONFIG_IP_ROUTE_MULTIPATH)",
    ),
    row("RTM_GETROUTE", libc::ENETUNREACH, "no route leads there: look with ip route get, and add a default route"),
    row(
        "RTM_GETROUTE",
        libc::EHOSTUNREACH,
        "an unreachable route or rule is in the way: look with ip route and ip rule",
    ),
    row("RTM_GETROUTE", libc::EACCES, "a prohibit route or rule is in the way: look with ip route and ip rule"),
    row("RTM_GETROUTE", libc::EINVAL, "a blackhole route or rule is in the way: look with ip route and ip rule"),
    row("RTM_NEWRULE", libc::EEXIST, "there is such a rule already: look with ip rule"),
    row("RTM_NEWRULE", libc::EOPNOTSUPP, NO_RULES),
    row("RTM_NEWRULE", libc::EAFNOSUPPORT, NO_RULES),
    row("RTM_DELRULE", libc::EOPNOTSUPP, NO_RULES),
    row(
        "RTM_NEWNEIGH",
        libc::EEXIST,
        "there is an entry of this address already, perhaps one that the kernel has learnt: look with ip neighbour or bridge fdb, and replace it",
    ),
    row(
        "RTM_NEWNEIGH",
        libc::ENOBUFS,
        "the neighbour table is full: raise net.ipv4.neigh.default.gc_thresh3 (IPv6: net.ipv6.neigh.default.gc_thresh3)",
    ),
    row("RTM_NEWNEIGH", libc::ENOSPC, "the VXLAN's database is full: make it with a larger maxaddr"),
    row("RTM_NEWNEIGH", libc::ENODEV, "the interface vanished: its network namespace may have ended"),
    row("RTM_NEWNEIGH", libc::EOPNOTSUPP, NO_FDB),
    row(
        "RTM_NEWNEIGH",
        libc::EINVAL,
        "if it names a VLAN, the bridge has to filter by VLAN and the port to be in it: look with bridge vlan",
    ),
    row("RTM_DELNEIGH", libc::EOPNOTSUPP, NO_FDB),
    row("RTM_NEWQDISC", libc::ENOENT, "the parent is not there: look with tc qdisc and tc class show"),
    row("RTM_DELQDISC", libc::ENOENT, "there is none but the kernel's default one: look with tc qdisc show"),
    row("RTM_NEWTCLASS", libc::ENOENT, "make the qdisc first, with the handle that the class begins with"),
    row("RTM_GETTCLASS", libc::ENOENT, "the class is not there: make the parent first"),
    row("RTM_DELTCLASS", libc::EBUSY, "it has classes, or filters lead to it: remove those first"),
    row("RTM_NEWTFILTER", libc::EINVAL, "the interface needs the qdisc first: tc qdisc show"),
    row("NFNL_MSG_BATCH_BEGIN", libc::EPERM, NEEDS_NFT_ADMIN),
    row("NFNL_MSG_BATCH_BEGIN", libc::EOPNOTSUPP, NO_NFT),
    row("NFT_MSG_*", libc::EPERM, NEEDS_NFT_ADMIN),
    row("NFT_MSG_*", libc::EOPNOTSUPP, NO_NFT),
    row("NFT_MSG_GETTABLE", libc::EINVAL, NO_NFT),
    row(
        "NFT_MSG_NEWCHAIN",
        libc::ENOENT,
        "this kernel has no such chain: load nft_chain_nat (modprobe nft_chain_nat) or use a kernel built with CONFIG_NFT_NAT",
    ),
    row(
        "NFT_MSG_NEWRULE",
        libc::ENOENT,
        "this kernel lacks an expression of the rules: modprobe nft_nat nft_masq nft_ct nft_fib_inet",
    ),
    row(
        "NFT_MSG_NEWSETELEM",
        libc::ENOENT,
        "the network's table was removed by somebody else (nft flush ruleset?): attach again, which makes it anew",
    ),
    row(
        "NFT_MSG_NEWSETELEM",
        libc::EEXIST,
        "the port is published already, or the link, port or range is in the table: look with nft list ruleset",
    ),
    row("socket", libc::EPROTONOSUPPORT, NO_NFT),
    row("socket", libc::EMFILE, "too many open files: raise the limit (ulimit -n)"),
    row(
        "bind",
        libc::EADDRINUSE,
        "a program on this machine uses the port: find it with ss -lntup, or publish another",
    ),
    row("bind", libc::EADDRNOTAVAIL, "this machine does not have the address: look with ip address"),
    row(
        "unshare CLONE_NEWNET",
        libc::EPERM,
        "making a network namespace needs CAP_SYS_ADMIN: run as root, or in a user namespace of your own",
    ),
    row(
        "unshare CLONE_NEWNET",
        libc::ENOSPC,
        "too many network namespaces: look at /proc/sys/user/max_net_namespaces, and for ones that nothing needs with lsns",
    ),
    row("setns", libc::EPERM, "entering a network namespace needs CAP_SYS_ADMIN over it: run as root"),
    row("setns", libc::EINVAL, "the descriptor is not a network namespace: open /proc/PID/ns/net"),
    row("clone", libc::EAGAIN, "no thread could be made: look at pids.max of the control group and at ulimit -u"),
    row("flock", libc::EOPNOTSUPP, "the state directory's file system has no locks: choose another, such as /run"),
    row("flock", libc::ENOLCK, "the state directory's file system has no locks: choose another, such as /run"),
    row("mkdir", libc::EACCES, "choose a state directory that you may write, or run as root"),
    row("openat", libc::EACCES, "the state directory belongs to somebody else: choose another, or run as root"),
    row("write", libc::ENOSPC, "the state directory's file system is full"),
    row("openat", libc::ENOSPC, "the state directory's file system is full, or has no inodes left: see df -i"),
    row("symlinkat", libc::ENOSPC, "the state directory's file system is full, or has no inodes left: see df -i"),
    row("pwrite64", libc::ENOSPC, "the state directory's file system is full"),
    row(
        "symlinkat",
        libc::EPERM,
        "the state directory's file system has no symbolic links, by which addresses are leased: choose another, such as /run",
    ),
    row("symlinkat", libc::EACCES, "the state directory belongs to somebody else: choose another, or run as root"),
    row("openat", libc::ELOOP, "a symbolic link has the name of a file that this crate keeps: remove it"),
    row(
        "write net.ipv4.ip_forward",
        libc::EACCES,
        "/proc/sys is read-only here: set net.ipv4.ip_forward=1 outside first",
    ),
    row(
        "write net.ipv4.ip_forward",
        libc::EROFS,
        "/proc/sys is read-only here: set net.ipv4.ip_forward=1 outside first",
    ),
]);

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::{Errno, Error};

    /// Each row is reached by the operation it is for, and says something to look at.
    #[test]
    fn every_row_is_found() {
        for row in HINTS.0 {
            let operation = row.operation.replace('*', "GETLINK");
            let error = Error::from_errno(operation.clone(), row.errno).with_hints(&HINTS);
            assert_eq!(error.hint(), Some(row.hint), "{operation} {:?}", Errno(row.errno));
            assert_eq!(row.hint.lines().count(), 1);
            assert!(!row.hint.ends_with('.'), "{}", row.hint);
        }
    }

    #[test]
    fn what_is_not_known_gets_none() {
        assert_eq!(HINTS.find("RTM_NEWLINK", Errno(libc::ENOMEM)), None);
        assert_eq!(HINTS.find("sendmsg", Errno(libc::EPERM)), None);
    }
}
