//! What a watch waits on: one epoll instance, and in it one timer.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::event::EventFile;
use crate::{Error, Result};

/// Events that are taken from the kernel at once.
pub(super) const BATCH: usize = 64;

/// What woke the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Timer,
    Group(u64, EventFile),
    Parent(u64),
    Trigger(u64),
}

impl Source {
    /// As the kernel keeps it for us: the index, and in the last three bits what it is the index of.
    fn token(self) -> u64 {
        let (index, kind) = match self {
            Self::Timer => (0, 0),
            Self::Group(index, EventFile::CgroupEvents) => (index, 1),
            Self::Group(index, EventFile::MemoryEvents) => (index, 2),
            Self::Group(index, EventFile::MemorySwapEvents) => (index, 3),
            Self::Group(index, EventFile::PidsEvents) => (index, 4),
            Self::Parent(index) => (index, 5),
            Self::Trigger(index) => (index, 6),
        };
        index << 3 | kind
    }

    fn of(token: u64) -> Self {
        let index = token >> 3;
        match token & 7 {
            1 => Self::Group(index, EventFile::CgroupEvents),
            2 => Self::Group(index, EventFile::MemoryEvents),
            3 => Self::Group(index, EventFile::MemorySwapEvents),
            4 => Self::Group(index, EventFile::PidsEvents),
            5 => Self::Parent(index),
            6 => Self::Trigger(index),
            _ => Self::Timer,
        }
    }
}

#[derive(Debug)]
pub(super) struct Poll {
    epoll: Epoll,
    timer: TimerFd,
    alarm: Option<Instant>,
}

impl Poll {
    pub fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| fail("epoll_create1", errno))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(|errno| fail("timerfd_create", errno))?;
        let poll = Self { epoll, timer, alarm: None };
        poll.add_with(&poll.timer, Source::Timer, EpollFlags::EPOLLIN)?;
        Ok(poll)
    }

    /// A file of events: kernfs answers POLLPRI from the moment it changed until it is read.
    pub fn add(&self, file: impl AsFd, source: Source) -> Result<()> {
        self.add_with(file, source, EpollFlags::EPOLLPRI)
    }

    /// A trigger of pressure stall information. Its POLLPRI is taken away by whoever polls first: when this epoll instance
    /// stands in another loop, that is the loop, and nothing would be left here. By edges, and with the POLLIN that such a file
    /// always has, no wake-up is lost.
    pub fn add_trigger(&self, file: impl AsFd, source: Source) -> Result<()> {
        self.add_with(file, source, EpollFlags::EPOLLPRI | EpollFlags::EPOLLIN | EpollFlags::EPOLLET)
    }

    fn add_with(&self, file: impl AsFd, source: Source, flags: EpollFlags) -> Result<()> {
        self.epoll.add(file, EpollEvent::new(flags, source.token())).map_err(|errno| fail("epoll_ctl", errno))
    }

    /// To be said before the descriptor is closed: a copy of it in a process that was forked would keep it here.
    pub fn forget(&self, file: impl AsFd) {
        let _ = self.epoll.delete(file);
    }

    /// Waits, without end for `None`, and says what happened. An interrupted wait is one that ended early.
    pub fn wait(&self, limit: Option<Duration>) -> Result<Vec<(Source, EpollFlags)>> {
        let limit = limit.map_or(EpollTimeout::NONE, |limit| {
            // Rounded up: a wait that ends too early would go round in circles.
            let millis = limit.as_nanos().div_ceil(1_000_000);
            EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
        });
        let mut events = [EpollEvent::empty(); BATCH];
        match self.epoll.wait(&mut events, limit) {
            Ok(count) => Ok(events.iter().take(count).map(|one| (Source::of(one.data()), one.events())).collect()),
            Err(nix::errno::Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(fail("epoll_wait", errno)),
        }
    }

    /// Has the timer go off in `delay`, or before if it would anyway.
    pub fn alarm_within(&mut self, delay: Duration) -> Result<()> {
        let at = Instant::now() + delay;
        if self.alarm.is_some_and(|alarm| alarm <= at) {
            return Ok(());
        }
        let after = Expiration::OneShot(TimeSpec::from_duration(delay));
        self.timer.set(after, TimerSetTimeFlags::empty()).map_err(|errno| fail("timerfd_settime", errno))?;
        self.alarm = Some(at);
        Ok(())
    }

    /// Whether the timer went off.
    pub fn take_alarm(&mut self) -> Result<bool> {
        let mut buffer = [0; 8];
        match nix::unistd::read(&self.timer, &mut buffer) {
            Ok(_) => {
                self.alarm = None;
                Ok(true)
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => Err(fail("read timerfd", errno)),
        }
    }
}

impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

fn fail(operation: &'static str, errno: nix::errno::Errno) -> Error {
    Error::from_errno(operation, errno as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_mean_what_they_were_made_of() {
        let groups = EventFile::ALL.map(|file| Source::Group(7, file));
        for source in
            [Source::Timer, Source::Parent(0), Source::Parent(1 << 40), Source::Trigger(3)].iter().chain(&groups)
        {
            assert_eq!(Source::of(source.token()), *source);
        }
    }
}
