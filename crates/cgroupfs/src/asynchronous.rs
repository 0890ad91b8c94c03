//! Waiting without blocking a thread, with feature `tokio`.
//!
//! A watch is an epoll instance, and stands as such in tokio's own. A trigger alone is put into a watch: tokio waits for
//! POLLPRI too, but cannot be asked for it by a stream.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::{Error, Event, PsiTrigger, Result, Stalled, Watch, What};

/// A [`Watch`] as a stream, made by [`Watch::into_stream`]. It ends when there is nothing left to wait for. With feature
/// `tokio`.
///
/// ```no_run
/// use cgroupfs::{Hierarchy, Watch, What};
///
/// # async fn example() -> cgroupfs::Result<()> {
/// let mut watch = Watch::new()?;
/// watch.add(&Hierarchy::detect()?.open("/web")?)?;
/// let mut events = watch.into_stream()?;
/// while let Some(event) = events.next().await {
///     println!("{}", event?.what);
/// }
/// # Ok(())
/// # }
/// ```
///
/// See epoll(7): <https://man7.org/linux/man-pages/man7/epoll.7.html>.
#[derive(Debug)]
pub struct WatchStream {
    watch: Watch,
    woken: AsyncFd<OwnedFd>,
}

impl Watch {
    /// The same watch, as a stream. With feature `tokio`.
    ///
    /// # Errors
    /// Invalid outside of a tokio runtime; Limit when there are too many descriptors.
    ///
    /// # Panics
    /// In a runtime that was built without `enable_io`.
    pub fn into_stream(self) -> Result<WatchStream> {
        let woken = registered(self.as_fd())?;
        Ok(WatchStream { watch: self, woken })
    }
}

impl WatchStream {
    /// The next event. Giving up the wait loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The watch, to add and to stop by. What is added is waited for from the next wait on.
    pub fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }
}

impl Stream for WatchStream {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.watch.try_next().transpose() {
                return Poll::Ready(Some(event));
            }
            if this.watch.is_empty() {
                return Poll::Ready(None);
            }
            // What came since is another edge, and wakes.
            match ready!(this.woken.poll_read_ready(context)) {
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => return Poll::Ready(Some(Err(failed(&error)))),
            }
        }
    }
}

/// A [`PsiTrigger`] as a stream, made by [`PsiTrigger::into_stream`]. It ends after an error, the first of which is mostly
/// that the group is gone. With feature `tokio`.
///
/// ```no_run
/// use cgroupfs::{PsiResource, PsiThreshold, PsiTrigger};
/// use std::time::Duration;
///
/// # async fn example() -> cgroupfs::Result<()> {
/// let threshold = PsiThreshold::some(Duration::from_millis(200));
/// let mut stalls = PsiTrigger::of_system(PsiResource::Memory, threshold)?.into_stream()?;
/// while let Some(stalled) = stalls.next().await {
///     println!("short of memory: {} us in all", stalled?.total_usec);
/// }
/// # Ok(())
/// # }
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html#monitoring-for-pressure-thresholds>.
#[derive(Debug)]
pub struct PsiStream {
    events: WatchStream,
    has_ended: bool,
}

impl PsiTrigger {
    /// The same trigger, as a stream. With feature `tokio`.
    ///
    /// # Errors
    /// Invalid outside of a tokio runtime; Limit when there are too many descriptors.
    ///
    /// # Panics
    /// In a runtime that was built without `enable_io`.
    pub fn into_stream(self) -> Result<PsiStream> {
        let mut watch = Watch::new()?;
        watch.add_trigger(self)?;
        Ok(PsiStream { events: watch.into_stream()?, has_ended: false })
    }
}

impl PsiStream {
    /// The next time it fires. Giving up the wait loses nothing.
    pub async fn next(&mut self) -> Option<Result<Stalled>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for PsiStream {
    type Item = Result<Stalled>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut this.events).poll_next(context)).map(|event| {
            let event = event?;
            match event.what {
                What::Stalled { total_usec, .. } => Ok(Stalled { total_usec }),
                _ => Err(Error::gone("poll", None).on(event.group.path())),
            }
        });
        this.has_ended = next.as_ref().is_none_or(Result::is_err);
        Poll::Ready(next)
    }
}

/// A duplicate of the descriptor in tokio's reactor.
fn registered(fd: impl AsFd) -> Result<AsyncFd<OwnedFd>> {
    if Handle::try_current().is_err() {
        return Err(Error::invalid("epoll_ctl", "this wait needs a tokio runtime")
            .with_hint("call it inside Runtime::block_on of a runtime built with enable_io"));
    }
    let fd = fd.as_fd().try_clone_to_owned().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
    // An owned descriptor stays the same until it is dropped, which is what the newer, unsafe constructor asks for.
    #[allow(deprecated, reason = "works with older tokio as well, and is sound here")]
    AsyncFd::with_interest(fd, Interest::READABLE).map_err(|error| failed(&error))
}

fn failed(error: &std::io::Error) -> Error {
    Error::from_io("epoll_ctl", error)
}
