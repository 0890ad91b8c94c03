//! Starting a command and waiting for it, in one call.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::Command;
use crate::{ExitStatus, Output, Stdio};

impl Command {
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
    pub fn output(mut self) -> Result<Output> {
        let [stdin, stdout, stderr] = &mut self.descriptors.standard;
        stdin.get_or_insert(Stdio::Null);
        stdout.get_or_insert(Stdio::Pipe);
        stderr.get_or_insert(Stdio::Pipe);
        self.spawn()?.wait_with_output()
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
    pub fn output_from(mut self, input: impl AsRef<[u8]>) -> Result<Output> {
        let [stdin, stdout, stderr] = &mut self.descriptors.standard;
        *stdin = Some(Stdio::Pipe);
        stdout.get_or_insert(Stdio::Pipe);
        stderr.get_or_insert(Stdio::Pipe);
        self.spawn()?.wait_with_output_from(input.as_ref())
    }
}
