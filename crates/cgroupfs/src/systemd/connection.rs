//! A bus with a systemd on it.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ffi::OsString;
use std::future::Future;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cellkit_core::Subject;
use nix::unistd::geteuid;
use tokio::runtime::Handle;
use zbus::Message;
use zbus::names::OwnedUniqueName;
use zbus::zvariant::DynamicType;

use super::fault;
use crate::{Error, Result};

/// Where systemd's manager is on a bus.
pub(super) const NAME: &str = "org.freedesktop.systemd1";
pub(super) const PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// The well-known place of the system's bus.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// As long as systemd waits itself for most answers.
const LIMIT: Duration = Duration::from_secs(25);

/// A connection to a message bus on which a systemd takes orders. Clones share it.
///
/// * C calls: socket(2), connect(2); SASL EXTERNAL, which tells the bus the caller's user id.
/// * Privileges: to make units the system's systemd wants root, or a polkit rule; a user's own wants that user.
///
/// ```no_run
/// use cgroupfs::systemd::Connection;
/// use std::time::Duration;
///
/// # async fn example() -> cgroupfs::Result<()> {
/// let own = Connection::user().await?.limit(Duration::from_secs(5));
/// let elsewhere = Connection::at("/run/user/1000/bus").await?;
/// # Ok(())
/// # }
/// ```
///
/// See <https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html>.
#[derive(Clone, Debug)]
pub struct Connection {
    bus: zbus::Connection,
    limit: Duration,
}

impl Connection {
    /// The system's bus, `/run/dbus/system_bus_socket`, and by it the systemd that is init. No variable of the
    /// environment is read.
    ///
    /// # Errors
    /// NotFound when no bus is there; Permission; TimedOut; Invalid outside of a tokio runtime.
    pub async fn system() -> Result<Self> {
        Self::at(SYSTEM_BUS).await
    }

    /// The bus of the caller's own user, `/run/user/UID/bus` of the effective user id, and by it that user's systemd. No
    /// variable of the environment is read.
    ///
    /// # Errors
    /// NotFound when the user has no session and does not linger; as [`system`](Self::system).
    pub async fn user() -> Result<Self> {
        Self::at(Path::new("/run/user").join(geteuid().to_string()).join("bus")).await
    }

    /// The bus of the caller's own user as the environment has it: the path in `DBUS_SESSION_BUS_ADDRESS`, or else `bus`
    /// in `XDG_RUNTIME_DIR`. A set-user-id or set-group-id program does not ask its environment, which is its caller's.
    ///
    /// # Errors
    /// Invalid when neither is set, and in a set-id program; Unsupported for an address of another kind than `unix:path=`; as
    /// [`user`](Self::user).
    pub async fn user_by_environment() -> Result<Self> {
        if is_set_id() {
            let why = "the environment of a set-id program is not to be trusted";
            return Err(Error::invalid("DBUS_SESSION_BUS_ADDRESS", why)
                .with_hint("Connection::user() needs no environment: it goes by the effective user id"));
        }
        Self::at(bus_path(std::env::var_os("DBUS_SESSION_BUS_ADDRESS"), std::env::var_os("XDG_RUNTIME_DIR"))?).await
    }

    /// A bus that listens on the socket `path`.
    ///
    /// # Errors
    /// As [`system`](Self::system).
    pub async fn at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let connect = async {
            let stream = tokio::net::UnixStream::connect(path).await;
            let stream = stream.map_err(|error| refused(&error))?;
            Self::greet(stream).await
        };
        limited("connect", LIMIT, connect).await.map_err(|error| error.on(path))
    }

    /// A bus at the other end of `stream`, that the caller has connected.
    ///
    /// # Errors
    /// As [`system`](Self::system).
    pub async fn from_stream(stream: UnixStream) -> Result<Self> {
        let greet = async {
            let failed = |error| Error::from_io("epoll_ctl", &error);
            stream.set_nonblocking(true).map_err(failed)?;
            Self::greet(tokio::net::UnixStream::from_std(stream).map_err(failed)?).await
        };
        limited("connect", LIMIT, greet).await
    }

    async fn greet(stream: tokio::net::UnixStream) -> Result<Self> {
        let bus = zbus::connection::Builder::unix_stream(stream).build().await;
        let bus = bus.map_err(|error| fault::failed("connect", &error))?;
        Ok(Self { bus, limit: LIMIT })
    }

    /// How long one operation may take; 25 seconds if nothing is said.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(super) fn time_limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn bus(&self) -> &zbus::Connection {
        &self.bus
    }

    /// The connection that owns systemd's name. It may be another one each time: systemd can be executed anew.
    pub(super) async fn manager(&self) -> Result<OwnedUniqueName> {
        const OPERATION: &str = "GetNameOwner";
        let bus = Some("org.freedesktop.DBus");
        let answer = self
            .bus
            .call_method(bus, "/org/freedesktop/DBus", Some("org.freedesktop.DBus"), OPERATION, &NAME)
            .await
            .map_err(|error| fault::failed(OPERATION, &error))?;
        body(OPERATION, &answer)
    }

    /// A method of systemd's manager.
    pub(super) async fn call<B>(&self, owner: &OwnedUniqueName, method: &'static str, arguments: &B) -> Result<Message>
    where
        B: serde::Serialize + DynamicType,
    {
        self.call_on(owner, PATH, MANAGER, method, arguments).await
    }

    /// A method of one of systemd's objects.
    pub(super) async fn call_on<B>(
        &self,
        owner: &OwnedUniqueName,
        path: &str,
        interface: &str,
        method: &'static str,
        arguments: &B,
    ) -> Result<Message>
    where
        B: serde::Serialize + DynamicType,
    {
        let answer = self.bus.call_method(Some(owner), path, Some(interface), method, arguments).await;
        answer.map_err(|error| fault::failed(method, &error))
    }
}

/// `future`, for at most `limit`.
pub(super) async fn limited<T>(
    operation: impl Into<Cow<'static, str>>,
    limit: Duration,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    let operation = operation.into();
    if Handle::try_current().is_err() {
        return Err(Error::invalid(operation, "this needs a tokio runtime")
            .with_hint("call it inside Runtime::block_on of a runtime built with enable_io and enable_time"));
    }
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| {
        Err(Error::timed_out(operation, limit).with_hint("systemctl list-jobs shows what systemd is at"))
    })
}

/// What an answer holds.
pub(super) fn body<T>(operation: &'static str, answer: &Message) -> Result<T>
where
    T: for<'a> serde::Deserialize<'a> + zbus::zvariant::Type,
{
    answer
        .body()
        .deserialize()
        .map_err(|error| Error::parse(operation, format!("the answer is not as expected: {error}")))
}

fn refused(error: &std::io::Error) -> Error {
    let refused = Error::from_io("connect", error);
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ECONNREFUSED) => refused.with_hint(
            "no message bus is there: dbus is not running, or for a user nobody is logged in: loginctl enable-linger",
        ),
        _ => refused,
    }
}

/// Whether the program has more rights than who started it.
fn is_set_id() -> bool {
    use nix::unistd::{getegid, getgid, getuid};
    getuid() != geteuid() || getgid() != getegid()
}

/// The socket of the user's bus by what the environment holds.
fn bus_path(address: Option<OsString>, runtime_dir: Option<OsString>) -> Result<PathBuf> {
    const OPERATION: &str = "DBUS_SESSION_BUS_ADDRESS";
    let Some(address) = address else {
        return runtime_dir.map(|dir| PathBuf::from(dir).join("bus")).ok_or_else(|| {
            Error::invalid("XDG_RUNTIME_DIR", "it is not set").with_hint("Connection::user() needs no environment")
        });
    };
    let shown = || Subject::Value(address.to_string_lossy().into_owned());
    // Of several addresses, separated by semicolons, one may be chosen freely.
    let paths = address.as_bytes().split(|&byte| byte == b';').filter_map(|address| address.strip_prefix(b"unix:"));
    let path = paths.flat_map(|keys| keys.split(|&byte| byte == b',')).find_map(|key| key.strip_prefix(b"path="));
    let path =
        path.ok_or_else(|| Error::unsupported(OPERATION, "an address that is not unix:path=", None).on(shown()))?;
    let path = unquote(path).ok_or_else(|| Error::parse(OPERATION, "a % that begins no %NN").on(shown()))?;
    Ok(PathBuf::from(OsString::from_vec(path)))
}

/// Bytes of an address are written as `%NN` where they are not plain.
fn unquote(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        text = match text {
            [] => return Some(bytes),
            [b'%', high, low, rest @ ..] => {
                let value = char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?;
                bytes.push(u8::try_from(value).ok()?);
                rest
            }
            [b'%', ..] => return None,
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_bus_of_the_environment() {
        let path = |address: Option<&str>, dir: Option<&str>| bus_path(address.map(Into::into), dir.map(Into::into));
        for (address, dir, bus) in [
            (None, Some("/run/user/7"), "/run/user/7/bus"),
            (Some("unix:path=/run/user/7/bus"), Some("/x"), "/run/user/7/bus"),
            (Some("unix:guid=12,path=/a%20b%2fc"), None, "/a b/c"),
            (Some("tcp:host=x;unix:path=/bus"), None, "/bus"),
        ] {
            assert_eq!(path(address, dir).expect(bus), Path::new(bus));
        }
        assert_eq!(path(None, None).expect_err("nothing").kind(), ErrorKind::Invalid);
        for address in ["tcp:host=x,port=1", "unixexec:path=/bin/sh", "unix:abstract=/x", ""] {
            assert_eq!(path(Some(address), None).expect_err(address).kind(), ErrorKind::Unsupported, "{address}");
        }
        assert_eq!(path(Some("unix:path=/a%2"), None).expect_err("cut").kind(), ErrorKind::Parse);
    }

    #[test]
    fn without_a_runtime() {
        let waker = std::task::Waker::noop();
        let mut future = std::pin::pin!(Connection::system());
        let std::task::Poll::Ready(outcome) = future.as_mut().poll(&mut std::task::Context::from_waker(waker)) else {
            panic!("it waits");
        };
        assert_eq!(outcome.expect_err("no runtime").kind(), ErrorKind::Invalid);
    }
}
