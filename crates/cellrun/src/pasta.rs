//! A network for the container of somebody who may make no bridge, by pasta(1) of the package passt.
//!
//! # Theory of operation
//!
//! pasta enters the container's user and network namespace, makes a tap device there, gives it the machine's own
//! addresses and routes, and carries what comes out of the tap through ordinary sockets of its own outside: no privilege
//! is needed for any of it. It then shuts itself into a seccomp filter and an empty root.
//!
//! It is the one program that cellrun itself runs, so it is found in folders that only root writes to, and never by the
//! caller's `PATH`; it gets an empty environment, `/` to be in, a session of its own, and these descriptors:
//!
//! * standard input: `/dev/null`.
//! * standard output: a pipe. As `--pid` wants a file, and is written when everything is set up, this is where pasta says
//!   that it is ready, or by closing it that it is not.
//! * standard error: a pipe that never makes its writer wait. What it says is kept for the error.
//!
//! It stays in the foreground, so that it is a child like any other: known by a pidfd, in the record before it runs,
//! ended with the container, and by the kernel when cellrun ends in whatever way. It holds the network namespace open
//! itself, and would not notice by itself.
//!
//! Nothing is reachable that was not asked for. Left to itself pasta forwards whatever port somebody listens on, in both
//! directions, and takes the address of the gateway for the machine's own loopback; all of that is turned off.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use cellkit_core::{Error, Observer, ProcFd, Result, StepText, Subject};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ns_core::{Child, Command, ExitStatus, PausedChild, ProcessId, Stdio};
use vethnet::{Protocol, PublishedPort};

/// Where it is looked for: nobody but root writes there.
const DIRS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"];
/// The container's end, called as it is on a bridge.
const INTERFACE: &str = "eth0";
/// How long it may take to set everything up: some ten milliseconds on an idle machine.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long a killed one may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Kept of what it says.
const MOST_SAID: usize = 4096;

/// What it will be asked for.
#[derive(Debug)]
pub struct Pasta {
    program: PathBuf,
    options: Vec<String>,
}

impl Pasta {
    /// Finds the program. `forwarder` is the address inside whose name questions go to the machine's own resolver.
    ///
    /// # Errors
    /// NotFound when it is not installed; Invalid for the machine's root, whom it refuses to be.
    pub fn new(ports: &[PublishedPort], forwarder: Option<IpAddr>) -> Result<Self> {
        if nix::unistd::geteuid().is_root() && ns_core::in_initial_user_namespace()? {
            return Err(Error::invalid("--net", "pasta gives up root, and may then not enter the container")
                .on(Subject::Value("pasta".into()))
                .with_hint("as root use --net bridge"));
        }
        if let Some(port) = ports.iter().find(|port| port.protocol() == Protocol::Sctp) {
            return Err(Error::invalid("-p", "pasta carries tcp and udp only").on(Subject::Value(port.to_string())));
        }
        let quiet = ["--foreground", "--quiet", "--config-net", "--ns-ifname", INTERFACE];
        let shut = ["--no-map-gw", "--tcp-ns", "none", "--udp-ns", "none"];
        let mut options: Vec<String> = quiet.into_iter().chain(shut).map(str::to_owned).collect();
        for (option, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
            let mut published = ports.iter().filter(|port| port.protocol() == protocol).map(forward).peekable();
            if published.peek().is_none() {
                options.extend([option, "none"].map(str::to_owned));
            }
            options.extend(published.flat_map(|port| [option.to_owned(), port]));
        }
        options.extend(forwarder.into_iter().flat_map(|address| ["--dns-forward".to_owned(), address.to_string()]));
        Ok(Self { program: find()?, options })
    }

    fn text(&self, child: &str) -> StepText {
        let arguments = format!("{} --pid /proc/self/fd/1 {child}", self.options.join(" "));
        StepText::new(
            "pasta",
            arguments,
            "it makes eth0 inside, and carries for it outside as the caller's own program",
        )
        .on(self.program.clone())
    }

    /// What [`start`](Self::start) does.
    #[must_use]
    pub fn describe(&self) -> StepText {
        self.text("CHILD")
    }

    /// Runs it for `child`, whose id maps are written, and returns when the network is there. `note` writes down which
    /// process it is, before it does anything.
    ///
    /// # Errors
    /// What kept it from being ready, with what it said; TimedOut after ten seconds; those of `note`. It has ended then.
    pub fn start(
        &self,
        child: &PausedChild,
        note: impl FnOnce(ProcessId) -> Result<()>,
        observer: &mut dyn Observer,
    ) -> Result<Running> {
        let begun = Instant::now();
        let (said, theirs) = quiet_pipe()?;
        let pasta = Command::new(&self.program)
            .args(&self.options)
            // The number cannot be another's by the time it is looked at: the child is ours, and not reaped before.
            .args(["--pid".to_owned(), "/proc/self/fd/1".to_owned(), child.pid().to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::Null)
            .stdout(Stdio::Pipe)
            .stderr(theirs)
            .keep_groups()
            .new_session()
            .kill_with_parent()
            .spawn_paused()?;
        note(pasta.id()?)?;
        let mut running = Running { child: pasta.resume(&mut ())?, said, program: self.program.clone() };
        let ready = running.child.take_stdout();
        let ready = ready.ok_or_else(|| Error::other("pasta", "its standard output is no pipe"));
        if let Err(error) = ready.and_then(|ready| running.until_ready(ready)) {
            running.end();
            return Err(error);
        }
        if observer.listens() {
            observer.made(self.text(&child.pid().to_string()), begun.elapsed());
        }
        Ok(running)
    }
}

/// As its options want ports: `ADDRESS/HOST:CONTAINER`, each a port or a range.
fn forward(port: &PublishedPort) -> String {
    let address = port.host_address().map(|address| format!("{address}/")).unwrap_or_default();
    let range = |ports: RangeInclusive<u16>| match (ports.start(), ports.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    format!("{address}{}:{}", range(port.host_ports()), range(port.container_ports()))
}

fn find() -> Result<PathBuf> {
    let paths = DIRS.iter().map(|dir| Path::new(dir).join("pasta"));
    paths.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::from_errno("pasta", libc::ENOENT).on(Path::new(DIRS[0]).join("pasta")).with_hint(
            "install the package passt (Debian, Ubuntu, Fedora, Arch, Alpine), or use --net none or --net host",
        )
    })
}

/// Why a container is better left without a network than given one by pasta; `None` when nothing speaks against it.
#[must_use]
pub fn why_not(proc: &ProcFd) -> Option<String> {
    if find().is_err() {
        return Some("pasta is not installed (the package passt)".into());
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        return Some(format!("pasta needs /dev/net/tun: {error}"));
    }
    let routes = |file: &str| proc.this_thread().and_then(|this| this.read(Path::new(file))).unwrap_or_default();
    let has_way = leads_out_4(&routes("net/route")) || leads_out_6(&routes("net/ipv6_route"));
    (!has_way).then(|| "the machine has no default route".into())
}

/// RTF_UP and not RTF_REJECT: what pasta looks for.
fn is_usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 0x201 == 0x1)
}

/// Whether `/proc/net/route` has a route to everywhere: interface, destination, gateway, flags, …, mask.
fn leads_out_4(routes: &[u8]) -> bool {
    String::from_utf8_lossy(routes).lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.as_slice(), [_, "00000000", _, flags, _, _, _, "00000000", ..] if is_usable(flags))
    })
}

/// Whether `/proc/net/ipv6_route` has one: destination, its prefix length, …, flags, interface.
fn leads_out_6(routes: &[u8]) -> bool {
    String::from_utf8_lossy(routes).lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.as_slice(), [to, "00", .., flags, _] if to.bytes().all(|byte| byte == b'0') && is_usable(flags))
    })
}

/// A pipe whose writer never waits: what does not fit is lost.
fn quiet_pipe() -> Result<(File, OwnedFd)> {
    let (ours, theirs) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::from_errno("pipe2", errno as i32))?;
    for end in [&ours, &theirs] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| Error::from_errno("fcntl F_SETFL", errno as i32))?;
    }
    Ok((ours.into(), theirs))
}

/// A pasta that carries for a container.
#[derive(Debug)]
#[must_use = "stop it, or it runs as long as this program"]
pub struct Running {
    child: Child,
    said: File,
    program: PathBuf,
}

impl Running {
    fn until_ready(&mut self, mut ready: ChildStdout) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(ready.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => {
                    let error = Error::timed_out("pasta", READY_LIMIT).on(self.program.clone());
                    return Err(error.with_hint("see what it waits for: strace -f pasta --config-net true"));
                }
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::from_errno("poll", errno as i32)),
            }
        }
        // Its number, or nothing: it closed the pipe because it ends.
        match ready.read(&mut [0; 32]) {
            Ok(1..) => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// Why it has ended, or is about to.
    fn failure(&mut self) -> Error {
        let why = match self.child.wait_timeout(KILL_LIMIT) {
            Ok(Some(ExitStatus::Exited(status))) => format!("it gave up, with exit status {status}"),
            Ok(Some(status)) => format!("it ended: {status}"),
            _ => "it closed its standard output".to_owned(),
        };
        let words = self.words();
        let why = if words.is_empty() { why } else { format!("{why}: {words}") };
        let error = Error::other("pasta", why).on(self.program.clone());
        match hint(&words) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// What it said last: what comes before are things that it can do without.
    fn words(&mut self) -> String {
        let mut said = vec![0; MOST_SAID];
        let length = self.said.read(&mut said).unwrap_or(0);
        let said = String::from_utf8_lossy(said.get(..length).unwrap_or_default()).into_owned();
        // It also reports to the system's log, and where there is none about that.
        let matters = |line: &&str| !line.is_empty() && !line.contains("to syslog");
        said.lines().map(str::trim).rfind(matters).unwrap_or_default().to_owned()
    }

    /// Why it has ended already, if it has: the container had no network from then on.
    pub fn lost(&mut self) -> Option<Error> {
        let ended = matches!(self.child.try_wait(), Ok(Some(_)));
        ended.then(|| self.failure().context("the container lost its network"))
    }

    /// Ends it.
    ///
    /// # Errors
    /// TimedOut when it cannot be ended.
    pub fn stop(mut self) -> Result<()> {
        if self.end() { Ok(()) } else { Err(Error::timed_out("waitid", KILL_LIMIT).on(Subject::Pid(self.child.pid()))) }
    }

    fn end(&mut self) -> bool {
        // It may have ended this moment.
        let _ = self.child.kill();
        matches!(self.child.wait_timeout(KILL_LIMIT), Ok(Some(_)))
    }
}

/// What to do about what it said.
fn hint(words: &str) -> Option<&'static str> {
    let says = |text: &str| words.contains(text);
    if says("tun") {
        Some("pasta needs /dev/net/tun, readable and writable for everybody: modprobe tun; ls -l /dev/net/tun")
    } else if says("routable interface") || says("External interface") {
        Some("the machine itself has no way out: see ip route; or use --net none")
    } else if says("bind") || says("port") {
        Some("a port that is published is taken, or below net.ipv4.ip_unprivileged_port_start: see ss -ltun")
    } else if says("namespace") {
        Some("it may not enter the container: see its AppArmor or SELinux profile, and the kernel's log")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(ports: &[&str], forwarder: Option<IpAddr>) -> Option<String> {
        let ports: Vec<PublishedPort> = ports.iter().map(|port| port.parse().expect("a port")).collect();
        // Not installed, or this is root: nothing to look at.
        Pasta::new(&ports, forwarder).ok().map(|pasta| pasta.options.join(" "))
    }

    #[test]
    fn a_port_as_it_is_typed_there() {
        let forward = |text: &str| forward(&text.parse().expect("a port"));
        assert_eq!(forward("8080:80"), "8080:80");
        assert_eq!(forward("127.0.0.1:5353:53/udp"), "127.0.0.1/5353:53");
        assert_eq!(forward("[::1]:8000-8010:80-90"), "::1/8000-8010:80-90");
    }

    #[test]
    fn nothing_is_forwarded_that_was_not_asked_for() {
        let Some(none) = options(&[], None) else { return };
        for shut in ["--no-map-gw", "--tcp-ports none", "--udp-ports none", "--tcp-ns none", "--udp-ns none"] {
            assert!(none.contains(shut), "{none}");
        }
        let some = options(&["80:8080", "81:8081", "53:53/udp"], Some(crate::resolver::FORWARDER)).expect("as before");
        assert!(some.contains("--tcp-ports 80:8080 --tcp-ports 81:8081 --udp-ports 53:53"), "{some}");
        assert!(some.ends_with("--dns-forward 169.254.1.1"), "{some}");
    }

    #[test]
    fn a_way_out_is_a_default_route_that_is_up() {
        let four = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert!(leads_out_4(four.as_bytes()));
        assert!(!leads_out_4(four.replace("0003", "0203").as_bytes()), "unreachable");
        assert!(!leads_out_4(four.replace("0\t00000000\t0\t", "0\t00FFFFFF\t0\t").as_bytes()));
        let zeros = "0".repeat(32);
        let six = |flags: &str, length: &str| {
            format!("{zeros} {length} {zeros} 00 20010db8{:024} 00000400 1 0 {flags} eth0\n", 1)
        };
        assert!(leads_out_6(six("00000003", "00").as_bytes()));
        assert!(!leads_out_6(six("00200200", "00").as_bytes()), "the one that the loopback always has");
        assert!(!leads_out_6(six("00000003", "40").as_bytes()));
        assert!(!leads_out_4(b"") && !leads_out_6(b""));
    }

    #[test]
    fn what_it_says_leads_to_what_to_do() {
        assert!(hint("Failed to open tun socket in namespace").expect("hint").contains("/dev/net/tun"));
        assert!(hint("External interface not usable").expect("hint").contains("ip route"));
        assert!(hint("Failed to bind port 80 (Permission denied) for option '-t 80'").expect("hint").contains("ss -l"));
        assert_eq!(hint("it is late"), None);
    }
}
