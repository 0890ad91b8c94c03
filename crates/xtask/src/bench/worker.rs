//! A program that times itself: it answers one line for each line it is asked.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Result;

/// It ends when this is dropped, for its standard input does.
#[derive(Debug)]
pub struct Worker {
    name: String,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        let name = name.into();
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|e| format!("{name}: {e}"))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("a worker without output")?);
        Ok(Self { name, child, requests, answers })
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    /// When it has ended.
    pub fn ask(&mut self, request: &str) -> Result<String> {
        let requests = self.requests.as_mut().ok_or("a worker without input")?;
        let mut answer = String::new();
        writeln!(requests, "{request}").map_err(|e| format!("{}: {e}", self.name))?;
        self.answers.read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(format!("{} ended when asked to {request}", self.name).into());
        }
        Ok(answer.trim().to_owned())
    }

    /// # Errors
    /// When it has ended, or does not answer with nanoseconds.
    pub fn time(&mut self, request: &str) -> Result<Duration> {
        let answer = self.ask(request)?;
        Ok(Duration::from_nanos(answer.parse().map_err(|e| format!("{}: {answer}: {e}", self.name))?))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}
