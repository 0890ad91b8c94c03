//! `--net pasta`: a network for an ordinary user's boxes. Every packet stays in namespaces that the test made: this one is
//! "the machine", with a link to another, which is "far away".

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use faultkit::{OrdinaryUser, TempDir};
use nix::sys::signal::Signal;

use crate::run::{Running, Said, assert_no_records, children, eventually, host, nothing_is_left, program_for, say};

/// The machine's address, its gateway's, and one far away.
const MACHINE: &str = "10.99.0.1";
const GATEWAY: &str = "10.99.0.2";
const FAR: &str = "203.0.113.5";

/// A machine with a network, a resolver of names, and `/dev/net/tun` for everybody.
struct World {
    user: OrdinaryUser,
    far: Child,
    _files: TempDir,
}

impl World {
    fn new(resolv_conf: &str) -> Self {
        let user = OrdinaryUser::new(23456, 23456);
        let files = TempDir::new();
        let resolver = files.join("resolv.conf");
        fs::write(&resolver, resolv_conf).expect("write");
        host(&format!(
            "mknod -m 666 {0}/tun c 10 200; mount --bind {0}/tun /dev/net/tun; chmod 755 {0}
             mount --bind {0}/resolv.conf /etc/resolv.conf; chmod 644 {0}/resolv.conf
             ip link add near type veth peer name far
             ip addr add {MACHINE}/24 dev near; ip -6 addr add 2001:db8::1/64 dev near nodad; ip link set near up
             ip route add default via {GATEWAY}; ip -6 route add default via 2001:db8::2",
            files.display()
        ));
        let far = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().expect("unshare");
        let comm = format!("/proc/{}/comm", far.id());
        eventually("it is sleep", || fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep"));
        host(&format!("ip link set far netns {}", far.id()));
        let world = Self { user, far, _files: files };
        world.far(&format!(
            "ip link set lo up; ip addr add {GATEWAY}/24 dev far; ip -6 addr add 2001:db8::2/64 dev far nodad
             ip link set far up; ip addr add {FAR}/32 dev lo; ip -6 addr add 2001:db8:5::5/128 dev lo nodad"
        ));
        world
    }

    /// What a shell script prints far away.
    #[track_caller]
    fn far(&self, script: &str) -> String {
        let net = format!("--net=/proc/{}/ns/net", self.far.id());
        let said = say(Command::new("nsenter").args([&net, "sh", "-ec", script]));
        assert_eq!(said.status, 0, "{script}: {said:#?}");
        said.out
    }

    /// Somebody far away who answers each connection to `address` with a word.
    fn serve(&self, address: &str, port: u16) -> Running {
        let mut command = Command::new("nsenter");
        command.args([format!("--net=/proc/{}/ns/net", self.far.id()), "python3".into(), "-c".into()]);
        let mut running = Running::start(command.args([SERVER, address, &port.to_string()]));
        running.until("ready");
        running
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.user.command(program_for(&self.user));
        command.arg("box").args(args).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn boxed(&self, args: &[&str]) -> Said {
        say(&mut self.command(args))
    }

    #[track_caller]
    fn inside(&self, options: &[&str], script: &str) -> String {
        self.boxed(&[options, &["--", "sh", "-c", script]].concat()).ok()
    }

    fn end(mut self) {
        self.far.kill().expect("kill");
        self.far.wait().expect("wait");
        eventually("links go with their namespace", || !Path::new("/sys/class/net/near").exists());
        host("umount /etc/resolv.conf /dev/net/tun; ip -6 route flush dev lo 2>/dev/null || true");
        assert!(pastas().is_empty(), "{:?}", pastas());
        assert_no_records(&self.user.runtime_dir().join("cellrun"));
        nothing_is_left();
    }
}

const SERVER: &str = r#"
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.socket(family, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen(8)
print("ready", flush=True)
while True:
    connection, peer = listener.accept()
    connection.recv(9)
    connection.sendall(b"word\n")
    connection.recv(9)
    connection.close()
"#;

/// A shell's words for asking a server, which answers or does not.
///
/// Who asks speaks first and hangs up first: the pasta of Debian 12 loses what is said by somebody who hangs up at once.
fn ask(address: &str, port: u16) -> String {
    format!("python3 -c '{CLIENT}' {address} {port} 2>/dev/null || echo silence")
}

const CLIENT: &str = r#"
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
connection.sendall(b"ask\n")
sys.stdout.write(connection.recv(9).decode() or "silence\n")
"#;

/// The pids of all processes called so.
fn pastas() -> Vec<String> {
    let is_one = |pid: &String| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"/usr/bin/pasta\0")
    };
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_one).collect()
}

#[test]
fn far_away_is_reached_and_the_machine_is_not() {
    faultkit::require!(root, userns, program("pasta"), program("ip"), program("python3"), program("nsenter"));
    faultkit::isolated!(|| {
        let world = World::new("nameserver 127.0.0.1\nsearch example.org\n");
        let far = [world.serve(FAR, 90), world.serve("2001:db8:5::5", 90)];
        // One on every address that the machine has, its loopback too, and one on the loopback alone.
        let wide = TcpListener::bind("[::]:91").expect("bind");
        let own = TcpListener::bind("127.0.0.1:92").expect("bind");

        // The default of an ordinary user.
        let addresses =
            world.inside(&[], "ip -br -4 addr show dev eth0; ip route show default; cat /proc/self/uid_map");
        let words: Vec<&str> = addresses.split_whitespace().collect();
        assert_eq!(words[2..8], ["10.99.0.1/24", "default", "via", GATEWAY, "dev", "eth0"]);
        assert_eq!(words[words.len() - 3..], ["0", "23456", "1"]);

        assert_eq!(world.inside(&[], &ask(FAR, 90)), "word\n");
        let retried = format!(
            "for i in 1 2 3 4 5 6; do x=$({}); [ $x = word ] && break; sleep 0.5; done; echo $x",
            ask("2001:db8:5::5", 90)
        );
        assert_eq!(world.inside(&[], &retried), "word\n");
        for address in [MACHINE, GATEWAY, "169.254.1.1", "127.0.0.1"] {
            let both = format!("{}; {}", ask(address, 91), ask(address, 92));
            assert_eq!(world.inside(&[], &both), "silence\nsilence\n", "{address}: the machine's services are its own");
        }
        // Nor is anything inside reached from outside that was not published.
        let mut running = Running::start(&mut world.command(&["--", "python3", "-c", SERVER, "0.0.0.0", "93"]));
        running.until("ready");
        assert_eq!(world.far(&ask(MACHINE, 93)), "silence\n");
        assert_eq!(pastas().len(), 1);
        running.signal(Signal::SIGTERM);
        assert_eq!(running.end().status, 143);
        drop((wide, own, far));
        world.end();
    });
}

#[test]
fn names_are_resolved_by_the_machines_resolver() {
    faultkit::require!(root, userns, program("pasta"), program("ip"), program("nsenter"));
    faultkit::isolated!(|| {
        let world = World::new("# a stub, as systemd-resolved is one\nnameserver 127.0.0.1\nsearch example.org\n");
        let resolver = UdpSocket::bind("127.0.0.1:53").expect("bind");
        std::thread::scope(|scope| {
            let _stop = Stop;
            scope.spawn(|| answer_all(&resolver));
            let said = world.inside(&[], "cat /etc/resolv.conf; getent ahostsv4 web.example | head -1");
            let expected = "nameserver 169.254.1.1\nsearch example.org\n203.0.113.5     STREAM web.example\n";
            assert_eq!(said, expected);

            // A root of its own: without the file, and with a link to where nothing is.
            let rootfs = world.user.home().join("rootfs");
            host(&format!(
                "mkdir -p {0}/etc {0}/usr && ln -s usr/bin usr/lib usr/lib64 usr/sbin {0} && chown -hR 23456:23456 {0}",
                rootfs.display()
            ));
            let usr = ["-v", "/usr:/usr:ro", "--rootfs", rootfs.to_str().expect("UTF-8")];
            for link in [None, Some("../run/systemd/resolve/stub-resolv.conf")] {
                if let Some(link) = link {
                    symlink(link, rootfs.join("etc/resolv.conf")).expect("symlink");
                }
                assert_eq!(world.inside(&usr, "cat /etc/resolv.conf"), "nameserver 169.254.1.1\nsearch example.org\n");
                let writable = [&usr[..], &["--writable"]].concat();
                assert_eq!(world.inside(&writable, "head -1 /etc/resolv.conf"), "nameserver 169.254.1.1\n");
                assert_eq!(rootfs.join("etc/resolv.conf").is_symlink(), link.is_some(), "nothing is left in it");
                assert!(!rootfs.join("run/systemd").exists(), "nothing is left in it");
            }
            // Who brings one has it.
            let own = world.user.home().join("own");
            fs::write(&own, "nameserver 192.0.2.9\n").expect("write");
            let volume = format!("{}:/etc/resolv.conf", own.display());
            assert_eq!(world.inside(&["-v", &volume], "cat /etc/resolv.conf"), "nameserver 192.0.2.9\n");
        });
        drop(resolver);
        world.end();
    });
}

/// Ends [`answer_all`], also when the test fails.
struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"", "127.0.0.1:53"));
    }
}

/// Answers each question for an IPv4 address with [`FAR`], each other with nothing, until an empty one comes.
fn answer_all(resolver: &UdpSocket) {
    let mut question = [0; 512];
    while let Ok((length @ 1.., from)) = resolver.recv_from(&mut question) {
        let name = question[12..length].iter().position(|&byte| byte == 0).expect("a name");
        let end = 12 + name + 5;
        let is_a = question[end - 4..end - 2] == [0, 1];
        let mut answer = question[..end].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 5]);
        }
        resolver.send_to(&answer, from).expect("send");
    }
}

#[test]
fn a_published_port_is_reached_from_outside() {
    faultkit::require!(root, userns, program("pasta"), program("ip"), program("python3"), program("nsenter"));
    faultkit::isolated!(|| {
        let world = World::new("");
        let ports = ["-p", "8080:80", "-p", "127.0.0.1:8081:80", "--", "python3", "-c", SERVER, "0.0.0.0", "80"];
        let mut running = Running::start(&mut world.command(&ports));
        running.until("ready");
        assert_eq!(world.far(&ask(MACHINE, 8080)), "word\n");
        assert_eq!(world.far(&ask(MACHINE, 8081)), "silence\n");
        assert_eq!(host(&ask("127.0.0.1", 8081)), "word\n");
        assert_eq!(host(&ask("127.0.0.1", 80)), "silence\n");
        // It is taken now, and another box is told so.
        let said = world.boxed(&["-p", "8080:80", "--", "true"]);
        assert_eq!(said.status, 125);
        assert!(said.failure().contains("8080"), "{said:?}");
        assert!(said.err.contains("hint: a port that is published is taken"), "{said:?}");
        running.signal(Signal::SIGTERM);
        running.end();
        eventually("nobody listens", || host("ss -Hltn").is_empty());
        world.end();
    });
}

#[test]
fn what_is_missing_is_said_and_nothing_is_left() {
    faultkit::require!(root, userns, program("pasta"), program("ip"), program("nsenter"));
    faultkit::isolated!(|| {
        let world = World::new("nameserver 127.0.0.1\n");
        let notes = |world: &World| {
            let said = world.boxed(&["--explain", "--", "true"]).ok();
            said.lines().filter(|line| line.starts_with("note: no network")).collect::<String>()
        };
        let fails = |option: &[&str], line: &str, hint: &str| {
            let said = world.boxed(&[option, &["--", "true"]].concat());
            assert_eq!(said.status, 125, "{said:?}");
            assert!(said.failure().contains(line), "{said:?}");
            assert!(said.err.contains(&format!("  hint: {hint}")), "{said:?}");
            assert!(pastas().is_empty());
        };
        assert_eq!(notes(&world), "");
        fails(&["-p", "9:80"], "Failed to bind any port for '-t 9:80'", "a port that is published is taken, or below");
        fails(&["--net", "pasta", "--userns", "host"], "a container with a user namespace", "use --userns auto");
        let said =
            say(&mut crate::run::cellrun(["box", "--net", "pasta", "--userns", "100000:100000:65536", "--", "true"]));
        assert!(said.failure().contains("pasta gives up root") && said.err.contains("--net bridge"), "{said:?}");

        host("chmod 600 /dev/net/tun");
        assert!(
            notes(&world).contains("no network but a loopback interface: pasta needs /dev/net/tun: Permission denied")
        );
        assert_eq!(world.inside(&[], "ls /sys/class/net"), "lo\n");
        fails(&["--net", "pasta"], "Failed to open tun socket", "pasta needs /dev/net/tun");
        host("chmod 666 /dev/net/tun; ip route del default; ip -6 route del default");
        assert!(notes(&world).contains("the machine has no default route"));
        assert_eq!(world.inside(&[], "ls /sys/class/net"), "lo\n");
        fails(&["--net", "pasta"], "External interface not usable", "the machine itself has no way out");

        let empty = TempDir::new();
        host(&format!("ip route add default via {GATEWAY}; mount --bind {} /usr/local/bin", empty.display()));
        // Neither a missing program nor another in a folder of the user's is run.
        let bin = world.user.home().join("bin");
        host(&format!(
            "mkdir {0}; printf '#!/bin/sh\\ntouch {0}/ran\\n' >{0}/pasta; chmod 755 {0}/pasta; chown -R 23456 {0}
             mount --bind /dev/null /usr/bin/pasta",
            bin.display()
        ));
        let said = say(world.command(&["--net", "pasta", "--", "true"]).env("PATH", &bin));
        assert!(said.failure().starts_with("pasta \"/usr/bin/pasta\": no such file"), "{said:?}");
        assert!(said.err.contains("hint: install the package passt"), "{said:?}");
        assert!(notes(&world).contains("pasta is not installed (the package passt)"));
        assert!(!bin.join("ran").exists());
        host("umount /usr/bin/pasta /usr/local/bin");
        world.end();
    });
}

#[test]
fn pasta_ends_with_its_box_in_whatever_way_that_ends() {
    faultkit::require!(root, userns, program("pasta"), program("ip"), program("nsenter"));
    faultkit::isolated!(|| {
        let world = World::new("");
        let start = || {
            let mut running =
                Running::start(&mut world.command(&["--name", "x", "--", "sh", "-c", "echo ready; read line || true"]));
            running.until("ready");
            assert_eq!(pastas().len(), 1);
            running
        };
        // It is in no group of the terminal's, and has no descriptor of its maker's.
        let running = start();
        let pid = &pastas()[0];
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        assert_eq!(stat.split_whitespace().nth(5), Some(pid.as_str()), "a session of its own");
        assert_eq!(fs::read(format!("/proc/{pid}/environ")).expect("environ"), b"");
        assert_eq!(running.end().status, 0);
        assert!(pastas().is_empty());

        let running = start();
        running.signal(Signal::SIGKILL);
        assert_eq!(running.end().status, -9);
        let mine = i32::try_from(std::process::id()).expect("a pid");
        eventually("pasta and the payload die with cellrun", || {
            faultkit::reap_orphans();
            pastas().is_empty() && children(mine).len() == 1
        });
        let mut recover = world.user.command(program_for(&world.user));
        assert_eq!(say(recover.arg("recover")).ok(), "x\n");

        // One that lost its network ends as its payload ends, and says so.
        let running = start();
        let stat = format!("/proc/{}/stat", pastas()[0]);
        host(&format!("kill -9 {}", pastas()[0]));
        eventually("it is a zombie", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(" Z ")));
        let said = running.end();
        assert_eq!(said.status, 0);
        assert!(said.err.contains("the container lost its network") && said.err.contains("it ended: "), "{said:?}");
        world.end();
    });
}
