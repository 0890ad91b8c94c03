//! Waiting for a state of a group, as `cgroup.events` tells it.
//!
//! The kernel says when it changes by POLLPRI on the open file. That costs one descriptor for the moment, and no inotify
//! instance, of which a user has 128. The read is also what arms the poll: it answers to changes after it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use cellkit_core::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::{Cgroup, CgroupEvents, Result};

const READ: &str = "read cgroup.events";

/// The open `cgroup.events` of a group.
pub(crate) struct EventsFile<'a> {
    group: &'a Cgroup,
    file: File,
}

impl<'a> EventsFile<'a> {
    pub(crate) fn open(group: &'a Cgroup) -> Result<Self> {
        let file = group.open_file("cgroup.events", libc::O_RDONLY, &|| READ.to_owned())?;
        Ok(Self { group, file: file.into() })
    }

    pub(crate) fn read(&self) -> Result<CgroupEvents> {
        let mut buffer = [0; 4096];
        let length = loop {
            match self.file.read_at(&mut buffer, 0) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.group.fail(READ, Errno(error.raw_os_error().unwrap_or(libc::EIO)))),
                Ok(length) => break length,
            }
        };
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        text.parse().map_err(|error: crate::Error| error.on(self.group.path()))
    }

    /// Until it changes after the last [`read`](Self::read), at most for `most`; or a little less when a signal comes.
    pub(crate) fn wait(&self, most: Duration) -> Result<()> {
        // Rounded up, so as not to ask again and again in the last millisecond.
        let timeout = PollTimeout::try_from(most.saturating_add(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.group.fail("poll cgroup.events", Errno(errno as i32))),
        }
    }

    /// Until `done`; `false` when the time limit passed before.
    pub(crate) fn wait_for(&self, time_limit: Duration, done: impl Fn(&CgroupEvents) -> bool) -> Result<bool> {
        let started = Instant::now();
        loop {
            if done(&self.read()?) {
                return Ok(true);
            }
            let left = time_limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            self.wait(left)?;
        }
    }
}
