//! The payload's descriptors and its terminal: what is asked for, checked, and made into steps.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use cellkit_core::{ChildSteps, Error, Result, Slot, Subject};

use super::Command;
use crate::stdio::{EndSlots, Fresh};
use crate::step::{DescriptorStep, Source, Step, TerminalStep};
use crate::{Limit, Resource, Stdio, sys};

/// Where the payload's descriptors come from.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    pub(super) standard: [Option<Stdio>; 3],
    more: Vec<(RawFd, OwnedFd, Directories)>,
    terminal: bool,
    terminal_size: Option<(u16, u16)>,
}

/// Whether a directory may be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directories {
    Refused,
    Allowed,
}

/// # Descriptors, terminal, session
impl Command {
    /// The payload's standard input.
    ///
    /// * C call: dup3(2) in the child; openat(2) of `/dev/null`, pipe2(2) as [`Stdio`] says.
    ///
    /// ```
    /// use ns_core::{Command, Stdio};
    ///
    /// let mut child = Command::new("sh").args(["-c", "cat; cat no/such/file"]).stdin(Stdio::Null).stderr(Stdio::Null).spawn()?;
    /// assert_eq!(child.wait()?.code(), Some(1));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See dup(2): <https://man7.org/linux/man-pages/man2/dup.2.html>.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.descriptors.standard[0] = Some(stdio.into());
        self
    }

    /// The payload's standard output.
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// use ns_core::{Command, Stdio};
    ///
    /// let mut child = Command::new("echo").arg("hello").stdout(Stdio::Pipe).spawn()?;
    /// let mut said = String::new();
    /// child.take_stdout().expect("a pipe").read_to_string(&mut said).unwrap();
    /// assert_eq!(said, "hello\n");
    /// child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.descriptors.standard[1] = Some(stdio.into());
        self
    }

    /// The payload's standard error.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.descriptors.standard[2] = Some(stdio.into());
        self
    }

    /// Gives the payload this descriptor, under this number, from 3 on. What is not named here or by
    /// [`stdin`](Self::stdin) and its like is closed in the payload, whatever the caller holds open.
    ///
    /// Numbers and sources may be mixed in any order: one descriptor's number may be another's target. The caller's own
    /// stays as it is.
    ///
    /// * C call: fcntl(2) F_DUPFD_CLOEXEC out of the way, then dup3(2) to the number, in the child.
    ///
    /// A listening socket for a service that is written for systemd's socket activation (sd_listen_fds(3)), which wants
    /// descriptors from 3 on and its own process number; as the first process of a pid namespace that is 1, behind an
    /// [`init`](Self::init) 2:
    ///
    /// ```no_run
    /// use ns_core::{Command, Namespaces};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:8080")?;
    /// let service = Command::new("/usr/sbin/service")
    ///     .namespaces(Namespaces::PID | Namespaces::NET)
    ///     .fd(3, listener)
    ///     .env("LISTEN_FDS", "1")
    ///     .env("LISTEN_FDNAMES", "http")
    ///     .env("LISTEN_PID", "1")
    ///     .spawn()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Without a pid namespace nobody knows the number before the child is there, so a shell puts it in:
    /// `Command::new("sh").args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\"", "/usr/sbin/service"])`.
    ///
    /// # Errors
    /// [`plan`](Self::plan) answers Invalid for a number below 3, one given twice, one that the limit on open files
    /// (RLIMIT_NOFILE) leaves no room for, and for a directory: see [`fd_outside_root`](Self::fd_outside_root).
    ///
    /// See <https://man7.org/linux/man-pages/man2/dup.2.html>.
    #[doc(alias("dup2", "dup3", "preserve-fds", "LISTEN_FDS"))]
    pub fn fd(mut self, number: RawFd, fd: impl Into<OwnedFd>) -> Self {
        self.descriptors.more.push((number, fd.into(), Directories::Refused));
        self
    }

    /// As [`fd`](Self::fd), also for a directory. **With a directory of the caller's the payload is not confined to its
    /// root**: openat(2) and fchdir(2) lead from there to all that the mount it is on holds, `..` included, as far as
    /// the payload's ids reach. For payloads that are trusted, or that have no root of their own.
    ///
    /// ```
    /// use std::fs::File;
    ///
    /// use ns_core::Command;
    ///
    /// let open = || File::open("/etc").unwrap();
    /// assert!(Command::new("ls").fd(3, open()).check().is_err());
    /// let output = Command::new("ls").arg("/proc/self/fd/3/").fd_outside_root(3, open()).output()?;
    /// assert!(String::from_utf8_lossy(&output.stdout).contains("passwd"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    pub fn fd_outside_root(mut self, number: RawFd, fd: impl Into<OwnedFd>) -> Self {
        self.descriptors.more.push((number, fd.into(), Directories::Allowed));
        self
    }

    /// Gives the payload a pseudo-terminal as its controlling terminal, on each of the three standard descriptors for
    /// which nothing else was said, and makes it the leader of a session; the caller's end is
    /// [`Child::take_terminal`](crate::Child::take_terminal).
    ///
    /// A payload with [steps](Self::steps) for a root of its own gets a terminal of that root's devpts, which is also its
    /// `/dev/console`: the root needs a devpts at `/dev/pts` and a file `/dev/console`. Any other payload gets one of the
    /// caller's devpts, made through `/dev/ptmx`. The payload's [user](Self::user) owns it, where the caller may give it
    /// away.
    ///
    /// ```
    /// use std::{fs::File, io::Read};
    /// use ns_core::Command;
    ///
    /// let mut child = Command::new("tty").terminal().spawn()?;
    /// let mut said = String::new();
    /// let mut terminal = File::from(child.take_terminal().expect("a terminal"));
    /// let _ = terminal.read_to_string(&mut said); // EIO when the last process that had it open has gone
    /// assert!(said.starts_with("/dev/pts/"));
    /// assert!(child.wait()?.success());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// * C calls: openat(2) of ptmx, ioctl(2) TIOCSPTLCK, TIOCGPTPEER (Linux 4.13), TIOCSCTTY; setsid(2).
    ///
    /// See <https://man7.org/linux/man-pages/man7/pty.7.html>.
    #[doc(alias("pty", "openpty", "forkpty", "TIOCSCTTY"))]
    pub fn terminal(mut self) -> Self {
        self.descriptors.terminal = true;
        self
    }

    /// The size of that [`terminal`](Self::terminal) from the beginning, in rows and columns of characters. Without one,
    /// [`plan`](Self::plan) answers Invalid.
    ///
    /// * C call: ioctl(2) TIOCSWINSZ.
    ///
    /// ```
    /// use std::{fs::File, io::Read};
    ///
    /// use ns_core::Command;
    ///
    /// let mut child = Command::new("stty").arg("size").terminal().terminal_size(25, 80).spawn()?;
    /// let mut said = String::new();
    /// let _ = File::from(child.take_terminal().expect("a terminal")).read_to_string(&mut said);
    /// assert_eq!(said.trim(), "25 80");
    /// child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See TIOCSWINSZ(2const): <https://man7.org/linux/man-pages/man2/TIOCSWINSZ.2const.html>.
    #[doc(alias = "TIOCSWINSZ")]
    pub fn terminal_size(mut self, rows: u16, columns: u16) -> Self {
        self.descriptors.terminal_size = Some((rows, columns));
        self
    }

    /// Makes the payload the leader of a new session, without a controlling terminal.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// // Its session is its own.
    /// let output = Command::new("sh").args(["-c", "cut -d' ' -f1,6 /proc/$$/stat"]).new_session().output()?;
    /// let text = String::from_utf8_lossy(&output.stdout).into_owned();
    /// let (pid, session) = text.trim().split_once(' ').unwrap();
    /// assert_eq!(pid, session);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See setsid(2): <https://man7.org/linux/man-pages/man2/setsid.2.html>.
    #[doc(alias = "setsid")]
    pub fn new_session(mut self) -> Self {
        self.new_session = true;
        self
    }

    /// Makes the payload the leader of a new process group, so that a signal to the caller's group, such as a terminal's
    /// Ctrl-C, is not for it. A [new session](Self::new_session) or a [terminal](Self::terminal) brings one anyway.
    ///
    /// * C call: setpgid(2) in the child.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let output = Command::new("sh").args(["-c", "cut -d' ' -f1,5 /proc/$$/stat"]).new_process_group().output()?;
    /// let text = String::from_utf8_lossy(&output.stdout).into_owned();
    /// let (pid, group) = text.trim().split_once(' ').unwrap();
    /// assert_eq!(pid, group);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See setpgid(2): <https://man7.org/linux/man-pages/man2/setpgid.2.html>.
    #[doc(alias = "setpgid")]
    pub fn new_process_group(mut self) -> Self {
        self.new_group = true;
        self
    }

    /// Whether the payload gets a terminal, and with it a session.
    pub(super) fn wants_terminal(&self) -> bool {
        self.descriptors.terminal
    }

    /// What every start makes anew.
    pub(super) fn fresh(&self) -> Fresh {
        let Descriptors { standard, terminal, terminal_size, .. } = &self.descriptors;
        Fresh {
            pipes: standard.each_ref().map(|stdio| matches!(stdio, Some(Stdio::Pipe))),
            terminal: (*terminal && self.roots.is_empty()).then_some(*terminal_size),
        }
    }

    pub(super) fn check_descriptors(&self) -> Result<()> {
        let mut seen = [0, 1, 2].into_iter().collect::<std::collections::BTreeSet<RawFd>>();
        for (number, fd, directories) in &self.descriptors.more {
            let subject = || Subject::Thing(format!("descriptor {number}"));
            if *number < 3 {
                let why = "numbers from 3 on are chosen; 0, 1 and 2 are stdin, stdout and stderr";
                return Err(Error::invalid("dup3", why).on(subject()));
            }
            if !seen.insert(*number) {
                return Err(Error::invalid("dup3", "this number was given twice").on(subject()));
            }
            if *directories == Directories::Refused {
                refuse_directory(fd.as_raw_fd(), subject)?;
            }
        }
        for (number, stdio) in self.descriptors.standard.iter().enumerate() {
            if let Some(Stdio::Fd(fd)) = stdio {
                refuse_directory(fd.as_raw_fd(), || Subject::Thing(format!("standard descriptor {number}")))?;
            }
        }
        if let (Some((rows, columns)), false) = (self.descriptors.terminal_size, self.descriptors.terminal) {
            return Err(Error::invalid("ioctl TIOCSWINSZ", "there is no terminal to be of this size")
                .on(Subject::Thing(format!("{rows} rows, {columns} columns")))
                .with_hint("add Command::terminal"));
        }
        if self.descriptors.more.is_empty() {
            return Ok(());
        }
        // All of them are lifted above the highest number, with the socket, before they are put in place.
        let highest = seen.last().copied().unwrap_or(2);
        let room = highest.unsigned_abs() as u64 + seen.len() as u64 + 2;
        let [limit, _] = sys::limits(Resource::Nofile).map_err(|errno| Error::from_errno("prlimit64", errno.0))?;
        if Limit::Value(room) > limit {
            let why = format!("the limit on open files is {limit}, and placing descriptors needs numbers up to {room}");
            return Err(Error::invalid("dup3", why)
                .on(Subject::Thing(format!("descriptor {highest}")))
                .with_hint("choose a lower number, or raise ulimit -n"));
        }
        Ok(())
    }

    /// The session and the terminal; where there is one, the slot of the payload's end.
    pub(super) fn terminal_steps(&self, steps: &mut ChildSteps, ends: &EndSlots) -> Option<Slot> {
        if self.new_session || self.descriptors.terminal {
            steps.push(Step::NewSession);
        } else if self.new_group {
            steps.push(TerminalStep::NewGroup);
        }
        if !self.descriptors.terminal {
            return None;
        }
        if self.roots.is_empty() {
            let peer = ends.terminal;
            self.grant_step(steps, peer);
            steps.push(TerminalStep::ControllingTerminal { peer });
            return Some(peer);
        }
        let (master, peer, console) = (steps.slot(), steps.slot(), steps.slot());
        steps.push(TerminalStep::OpenMaster { out: master });
        steps.push(TerminalStep::UnlockPeer { master });
        if let Some((rows, columns)) = self.descriptors.terminal_size {
            steps.push(TerminalStep::WindowSize { master, rows, columns });
        }
        steps.push(TerminalStep::OpenPeer { master, out: peer });
        self.grant_step(steps, peer);
        steps.push(TerminalStep::SendTerminal { master, sync: ends.sync });
        steps.push(TerminalStep::ControllingTerminal { peer });
        steps.push(TerminalStep::CloneConsole { peer, out: console });
        steps.push(TerminalStep::AttachConsole { console });
        Some(peer)
    }

    fn grant_step(&self, steps: &mut ChildSteps, fd: Slot) {
        if let Some((uid, _)) = self.credentials.user {
            steps.push(DescriptorStep::Grant { fd, uid });
        }
    }

    /// The payload's table of descriptors: each source is first moved above the numbers wanted, then put in its place, and
    /// everything else is closed. What steps after these need is `later`, and is found in the slots answered.
    pub(super) fn descriptor_steps(
        &self,
        steps: &mut ChildSteps,
        ends: &EndSlots,
        terminal: Option<Slot>,
        later: &[Arc<OwnedFd>],
    ) -> Result<Vec<Slot>> {
        let mut sources = BTreeMap::new();
        let mut keep: Vec<RawFd> = vec![0, 1, 2];
        for ((target, stdio), pipe) in (0..).zip(&self.descriptors.standard).zip(ends.pipes) {
            let source = match (stdio, terminal) {
                (None, Some(peer)) => Source::Slot(peer),
                // Its own place already. One that closes on execve is something else, which got the number of a standard
                // descriptor that was closed: a file of the caller's, a pidfd or a namespace of this crate's.
                (None | Some(Stdio::Inherit), _) if sys::is_inherited(target) => {
                    refuse_directory(target, || Subject::Thing(format!("standard descriptor {target}")))?;
                    continue;
                }
                (None | Some(Stdio::Inherit | Stdio::Null), _) => Source::Owned(Arc::new(null()?)),
                (Some(Stdio::Pipe), _) => {
                    self.grant_step(steps, pipe);
                    Source::Slot(pipe)
                }
                (Some(Stdio::Fd(fd)), _) => Source::Owned(Arc::new(duplicate(fd)?)),
            };
            sources.insert(target, source);
        }
        for (target, fd, _) in &self.descriptors.more {
            keep.push(*target);
            sources.insert(*target, Source::Owned(Arc::new(duplicate(fd)?)));
        }
        keep.sort_unstable();
        let above = keep.last().map_or(3, |highest| highest.saturating_add(1));
        let mut places = Vec::new();
        for (target, source) in sources {
            let out = steps.slot();
            steps.push(DescriptorStep::Lift { source, above, out });
            places.push(DescriptorStep::Place { from: out, target });
        }
        // Before the places are taken: its own number may be one of them.
        steps.push(DescriptorStep::LiftSync { sync: ends.sync, above });
        let mut lifted = Vec::new();
        for fd in later {
            let out = steps.slot();
            steps.push(DescriptorStep::Lift { source: Source::Owned(Arc::clone(fd)), above, out });
            lifted.push(out);
        }
        for place in places {
            steps.push(place);
        }
        steps.push(DescriptorStep::CloseOthers { sync: ends.sync, keep, lifted: lifted.clone() });
        Ok(lifted)
    }
}

fn refuse_directory(fd: RawFd, subject: impl Fn() -> Subject) -> Result<()> {
    if !sys::is_directory(fd).map_err(|errno| Error::from_errno("fstat", errno.0).on(subject()))? {
        return Ok(());
    }
    let why = "a directory here would be a way out of the container's root";
    Err(Error::invalid("fstat", why).on(subject()).with_hint(
        "give it a file, a pipe, or /dev/null; a payload that may have one gets it by Command::fd_outside_root",
    ))
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))
}

/// `/dev/null` of the caller's machine.
fn null() -> Result<OwnedFd> {
    let path = Path::new("/dev/null");
    let file = std::fs::File::options().read(true).write(true).open(path);
    file.map(OwnedFd::from).map_err(|error| Error::from_io("openat", &error).on(path))
}
