//! A transient scope: a group for processes that run already.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use cellkit_core::{ProcFd, ProcView, Subject};
use nix::unistd::getpid;
use zbus::zvariant::{Fd, Value};

use super::property::{Properties, PropertyValue};
use super::{Connection, Unit, UnitName, fault, job};
use crate::{Controllers, Error, ErrorKind, Limits, Result};

/// What is below the unit's group is left to the unit: systemd makes, changes and removes nothing there.
///
/// ```
/// use cgroupfs::Controller;
/// use cgroupfs::systemd::Delegate;
///
/// let delegate = Delegate::Controllers([Controller::Memory, Controller::Pids].into_iter().collect());
/// assert_ne!(delegate, Delegate::All);
/// ```
///
/// See <https://systemd.io/CGROUP_DELEGATION/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delegate {
    /// Nothing is delegated: what one makes there systemd may remove.
    No,
    /// With all controllers that this systemd has itself.
    All,
    /// With these controllers, and others that units beside it need.
    Controllers(Controllers),
}

/// When systemd forgets a unit that has ended.
///
/// ```
/// use cgroupfs::systemd::{CollectMode, Scope};
///
/// let scope = Scope::new("web.scope").collect_mode(CollectMode::InactiveOrFailed);
/// ```
///
/// See systemd.unit(5): <https://man7.org/linux/man-pages/man5/systemd.unit.5.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CollectMode {
    /// When it has ended well. One that failed, such as by the out-of-memory killer, stays to be looked at, and its name is
    /// taken, until `systemctl reset-failed`. This is systemd's default.
    Inactive,
    /// However it ended.
    InactiveOrFailed,
}

impl CollectMode {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::InactiveOrFailed => "inactive-or-failed",
        }
    }
}

/// A transient scope, to be [started](Self::start): a group of its own for processes that somebody else started and that
/// stay their starter's children. The equivalent of `systemd-run --scope`.
///
/// ```no_run
/// use cgroupfs::systemd::{Connection, Delegate, Scope};
/// use cgroupfs::{Bytes, Limits};
/// use std::time::Duration;
///
/// # async fn example(child: std::process::Child) -> cgroupfs::Result<()> {
/// let unit = Scope::new("web.scope")
///     .description("the web server")
///     .slice("machine.slice")
///     .pid(child.id())
///     .delegate(Delegate::All)
///     .limits(Limits::new().memory_max(Bytes::mib(512)))
///     .timeout_stop(Duration::from_secs(5))
///     .start(&Connection::system().await?)
///     .await?;
/// assert!(unit.cgroup().procs()?.contains(&(child.id() as i32)));
/// # Ok(())
/// # }
/// ```
///
/// See systemd.scope(5): <https://man7.org/linux/man-pages/man5/systemd.scope.5.html>.
#[derive(Clone, Debug)]
#[must_use]
pub struct Scope<'a> {
    name: String,
    slice: Option<String>,
    pidfds: Vec<BorrowedFd<'a>>,
    pids: Vec<u32>,
    delegate: Option<Delegate>,
    properties: Properties,
}

impl<'a> Scope<'a> {
    /// A scope of this name, which ends in `.scope`. It is checked by [`start`](Self::start).
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            slice: None,
            pidfds: Vec::new(),
            pids: Vec::new(),
            delegate: None,
            properties: Properties::new(),
        }
    }

    /// What a person is to read of it.
    pub fn description(self, text: impl Into<String>) -> Self {
        self.property("Description", PropertyValue::String(text.into()))
    }

    /// The slice whose group it is in, made if need be; `system.slice` of the system and `app.slice` of a user if nothing is
    /// said.
    pub fn slice(mut self, name: impl Into<String>) -> Self {
        self.slice = Some(name.into());
        self
    }

    /// A process that it begins with, by pidfd, for example a child that waits to be told to go on.
    ///
    /// systemd takes pidfds since version 255. An older one is given the number: so that it stays the process's number, the
    /// process must not have been waited for before [`start`](Self::start) has returned.
    pub fn pidfd(mut self, process: &'a impl AsFd) -> Self {
        self.pidfds.push(process.as_fd());
        self
    }

    /// A process that it begins with, by its number as systemd sees it. The caller sees to it that this is still that
    /// process: it is the caller itself, or a child that has not been waited for.
    pub fn pid(mut self, process: u32) -> Self {
        self.pids.push(process);
        self
    }

    /// Whether what is below its group is the caller's to make and to change. systemd's default is no.
    pub fn delegate(mut self, delegate: Delegate) -> Self {
        self.delegate = Some(delegate);
        self
    }

    /// What it may use. See [`Properties::limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.properties = self.properties.limits(limits);
        self
    }

    /// When systemd forgets it.
    pub fn collect_mode(self, mode: CollectMode) -> Self {
        self.property("CollectMode", mode.word())
    }

    /// How long its processes may take to end between SIGTERM and SIGKILL when it is stopped; 90 seconds if nothing is said.
    pub fn timeout_stop(self, time: Duration) -> Self {
        self.property("TimeoutStopUSec", time)
    }

    /// Any other property of a scope, by the name it has on the bus.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<PropertyValue>) -> Self {
        self.properties = self.properties.set(name, value);
        self
    }

    /// StartTransientUnit: has systemd make the scope and move the processes into it, and waits until that is done.
    ///
    /// Everything is checked before anything is asked for. When the job fails or the connection's time limit passes, systemd
    /// takes back what it began, and the processes are where they were; only a job that ends at that very moment stays.
    ///
    /// * systemd: 244; 255 for pidfds, which older ones are given as numbers.
    /// * Privileges: as for [`Connection`]. A user's systemd takes that user's own processes.
    ///
    /// # Errors
    /// Invalid for a name that is none, or when there are no processes; as
    /// [`Limits::check_values`](crate::Limits::check_values); Unsupported for a limit that is no property; AlreadyExists; Permission, which is also what the
    /// lack of a polkit agent is; Unsupported when systemd has no such property, or is not there; TimedOut; Gone when the bus
    /// or the last process is; Other with systemd's own word for how the job ended.
    ///
    /// See <https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html>.
    pub async fn start(&self, connection: &Connection) -> Result<Unit> {
        let name = UnitName::of_kind(&self.name, "scope", "a scope's name ends in .scope")?;
        if self.pids.is_empty() && self.pidfds.is_empty() {
            return Err(Error::invalid(OPERATION, "a scope begins with at least one process")
                .on(Subject::Value(name.to_string()))
                .with_hint("a slice may be empty: see Slice"));
        }
        if self.pids.contains(&0) {
            return Err(Error::invalid(OPERATION, "0 is the number of no process").on(Subject::Value(name.to_string())));
        }
        let mut properties = self.properties.for_new().map_err(|error| error.context(format!("start {name}")))?;
        properties.extend(slice(self.slice.as_deref())?);
        properties.extend(self.delegate.map(delegation));
        let mut numbers = self.pids.clone();
        if self.pidfds.is_empty() {
            run(connection, &name, &properties, &numbers, &[]).await?;
        } else {
            let by_pidfd = run(connection, &name, &properties, &numbers, &self.pidfds).await;
            match by_pidfd {
                Err(error) if is_unknown_pidfds(&error) => {
                    for process in &self.pidfds {
                        numbers.push(number_of(*process)?);
                    }
                    run(connection, &name, &properties, &numbers, &[]).await?;
                }
                other => other?,
            }
        }
        Unit::open(connection, &name).await
    }
}

const OPERATION: &str = "StartTransientUnit";

pub(super) fn slice(name: Option<&str>) -> Result<Option<(String, PropertyValue)>> {
    let name = name.map(|name| UnitName::of_kind(name, "slice", "a slice's name ends in .slice")).transpose()?;
    Ok(name.map(|name| ("Slice".to_owned(), name.as_str().into())))
}

fn delegation(delegate: Delegate) -> (String, PropertyValue) {
    match delegate {
        Delegate::No => ("Delegate".to_owned(), false.into()),
        Delegate::All => ("Delegate".to_owned(), true.into()),
        Delegate::Controllers(controllers) => {
            let names = controllers.iter().map(|controller| controller.name().to_owned()).collect();
            ("DelegateControllers".to_owned(), PropertyValue::Strings(names))
        }
    }
}

/// The call. Processes by number and by pidfd are two properties, for a unit of any kind that has them.
pub(super) async fn run(
    connection: &Connection,
    name: &UnitName,
    properties: &[(String, PropertyValue)],
    pids: &[u32],
    pidfds: &[BorrowedFd<'_>],
) -> Result<()> {
    let mut all: Vec<(&str, Value<'_>)> =
        properties.iter().map(|(name, value)| (name.as_str(), value.to_value())).collect();
    if !pids.is_empty() {
        all.push(("PIDs", Value::from(pids)));
    }
    if !pidfds.is_empty() {
        all.push(("PIDFDs", Value::from(pidfds.iter().map(|&pidfd| Fd::from(pidfd)).collect::<Vec<_>>())));
    }
    let others: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
    let arguments = (name.as_str(), "fail", all, others);
    job::run(connection, name, OPERATION, &arguments, connection.time_limit()).await
}

fn is_unknown_pidfds(error: &Error) -> bool {
    let text = error.kernel_text().unwrap_or_default();
    error.kind() == ErrorKind::Unsupported && text.starts_with(fault::UNKNOWN_PROPERTY) && text.contains("PIDFDs")
}

/// The number of a pidfd's process, from its `fdinfo`.
fn number_of(process: BorrowedFd<'_>) -> Result<u32> {
    let path = format!("{}/fdinfo/{}", getpid(), process.as_raw_fd());
    let text = ProcFd::open(ProcView::Processes)?.read(path.as_ref())?;
    let text = String::from_utf8_lossy(&text);
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:")).map(|number| number.trim().parse::<i32>());
    match number {
        Some(Ok(number)) if number > 0 => Ok(number.unsigned_abs()),
        // What has ended is -1; 0 is a process of another pid namespace.
        Some(Ok(-1)) => {
            Err(Error::gone(OPERATION, Some(libc::ESRCH)).on(Subject::Thing("a process of the scope".into())))
        }
        Some(Ok(_)) => {
            Err(Error::invalid(OPERATION, "a process of another pid namespace, and this systemd knows no pidfds"))
        }
        _ => Err(Error::invalid(OPERATION, "this descriptor is no pidfd")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_pidfds() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().expect("sleep");
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let pidfd = cellkit_core::sys::pidfd_open(pid.as_raw()).expect("pidfd");
        assert_eq!(number_of(pidfd.as_fd()).expect("number"), child.id());
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(number_of(pidfd.as_fd()).expect_err("ended").kind(), ErrorKind::Gone);
        let file = std::fs::File::open("/dev/null").expect("file");
        assert_eq!(number_of(file.as_fd()).expect_err("no pidfd").kind(), ErrorKind::Invalid);
    }
}
