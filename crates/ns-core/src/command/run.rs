//! Making the plan of a command, starting it, and waiting for it.
#![forbid(unsafe_code)]

use std::time::Duration;

use cellkit_core::Result;

use super::Command;
use crate::{Child, ExitStatus, Output, PausedChild, Plan, Stdio};

/// # Starting it
impl Command {
    /// Checks everything, without privilege and without effect, and makes the list of system calls.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let plan = Command::new("echo").arg("once more").plan()?;
    /// for _ in 0..2 {
    ///     assert!(plan.spawn()?.wait()?.success());
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid for what can be known to be wrong beforehand: NUL bytes, a host name over 64 bytes, a reaper without a pid
    /// namespace, an id of 4294967295. [`Unsupported`](crate::ErrorKind::Unsupported) for what this kernel lacks.
    pub fn plan(self) -> Result<Plan> {
        self.check_values()?;
        self.into_plan()
    }

    /// Checks all that [`plan`](Self::plan) checks, without privilege and without effect.
    ///
    /// ```
    /// # use ns_core::Command;
    /// let error = Command::new("/bin/true").hostname("web").check().unwrap_err();
    /// assert!(error.to_string().contains("without a UTS namespace this would rename the machine"));
    /// ```
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn check(&self) -> Result<()> {
        self.check_values()?;
        let joining = self.joining()?;
        self.namespace_steps(&joining)?;
        self.payload_steps(joining.new_user).map(drop)
    }

    /// [`plan`](Self::plan) and [`Plan::spawn`]: for everything but a new user namespace, whose id maps need
    /// [`spawn_paused`](Self::spawn_paused).
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// child.kill()?;
    /// assert_eq!(child.wait()?.signal(), Some(9));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of both.
    pub fn spawn(self) -> Result<Child> {
        self.plan()?.spawn()
    }

    /// [`plan`](Self::plan) and [`Plan::spawn_paused`]: the child waits for its id maps, its network, its cgroup.
    ///
    /// The crate `cellkit-idmap` writes maps of any size (`MapPlan::write`). One id, one's own, is mapped like this:
    ///
    /// ```
    /// use cellkit_core::{ProcFd, ProcView};
    /// use ns_core::{Command, Namespaces};
    ///
    /// # use std::os::unix::fs::MetadataExt;
    /// # if !ns_core::probe()?.can_make_with_user.contains(Namespaces::UTS) { return Ok(()) }
    /// # let me = std::fs::metadata("/proc/self").unwrap();
    /// # let (uid, gid) = (me.uid(), me.gid());
    /// let paused = Command::new("id")
    ///     .namespaces(Namespaces::USER | Namespaces::UTS)
    ///     .keep_groups() // setgroups is denied below
    ///     .spawn_paused()?;
    /// let files = ProcFd::open(ProcView::Processes)?.process(&paused)?;
    /// files.write("setgroups".as_ref(), b"deny")?; // before gid_map, for whoever has no CAP_SETGID
    /// files.write("uid_map".as_ref(), format!("0 {uid} 1").as_bytes())?;
    /// files.write("gid_map".as_ref(), format!("0 {gid} 1").as_bytes())?;
    /// assert!(paused.resume(&mut ())?.wait()?.success()); // uid=0(root) gid=0(root)
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of both.
    pub fn spawn_paused(self) -> Result<PausedChild> {
        self.plan()?.spawn_paused()
    }

    /// Starts it and waits for its end. It has the caller's standard descriptors where nothing else was said.
    ///
    /// ```
    /// # use ns_core::Command;
    /// assert!(Command::new("true").status()?.success());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Child::wait`](crate::Child::wait).
    pub fn status(self) -> Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Starts it, and answers with how it ended and all that it wrote. Where nothing else was said, its standard input is
    /// empty and the two outputs are caught.
    ///
    /// ```
    /// # use ns_core::Command;
    /// let output = Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).output()?;
    /// assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
    /// assert_eq!(output.status.code(), Some(3));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Child::wait_with_output`](crate::Child::wait_with_output).
    pub fn output(self) -> Result<Output> {
        self.caught().spawn()?.wait_with_output()
    }

    /// As [`output`](Self::output), for no longer than `limit`: then a command that still runs is killed, and what it wrote
    /// until then is in the answer, which says that it [timed out](Output::timed_out).
    ///
    /// A pid namespace is worth asking for beside it: with its first process all that this one has started is killed.
    ///
    /// ```
    /// # use ns_core::Command;
    /// use std::time::Duration;
    ///
    /// let output = Command::new("sh").args(["-c", "echo begun; exec sleep 100"]).output_timeout(Duration::from_millis(100))?;
    /// assert!(output.timed_out && output.stdout == b"begun\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`output`](Self::output) and [`Child::wait_with_output_timeout`](crate::Child::wait_with_output_timeout).
    #[doc(alias("timeout", "kill"))]
    pub fn output_timeout(self, limit: Duration) -> Result<Output> {
        self.caught().spawn()?.wait_with_output_timeout(&[], limit)
    }

    /// As [`output`](Self::output), with `input` as its standard input.
    ///
    /// ```
    /// # use ns_core::Command;
    /// assert_eq!(Command::new("rev").output_from("drawer\n")?.stdout, b"reward\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`output`](Self::output).
    pub fn output_from(self, input: impl AsRef<[u8]>) -> Result<Output> {
        self.stdin(Stdio::Pipe).caught().spawn()?.wait_with_output_from(input.as_ref())
    }

    /// An empty input and pipes for both outputs, where nothing else was said.
    fn caught(mut self) -> Self {
        let [stdin, stdout, stderr] = &mut self.descriptors.standard;
        stdin.get_or_insert(Stdio::Null);
        stdout.get_or_insert(Stdio::Pipe);
        stderr.get_or_insert(Stdio::Pipe);
        self
    }
}
