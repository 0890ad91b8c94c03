//! A unit that is there, and its group.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::time::Duration;

use cellkit_core::Subject;
use zbus::names::OwnedUniqueName;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

use super::{Connection, Properties, UnitName, connection, job};
use crate::{Cgroup, Error, ErrorKind, Hierarchy, Result};

/// A unit of systemd's that has a group: a scope or slice that was started, or any by its name.
///
/// Dropping it leaves the unit as it is; [`stop`](Self::stop) stops it.
///
/// ```no_run
/// use cgroupfs::systemd::{Connection, Unit, UnitName};
///
/// # async fn example() -> cgroupfs::Result<()> {
/// let unit = Unit::open(&Connection::system().await?, &UnitName::new("system.slice")?).await?;
/// println!("{:?}", unit.cgroup().cpu().stat()?);
/// # Ok(())
/// # }
/// ```
///
/// See systemd.unit(5): <https://man7.org/linux/man-pages/man5/systemd.unit.5.html>.
#[derive(Debug)]
pub struct Unit {
    name: UnitName,
    connection: Connection,
    cgroup: Cgroup,
}

impl Unit {
    /// GetUnit and its property `ControlGroup`: a unit that is loaded and has a group, which is opened below the hierarchy of
    /// the calling process. That it is the same group is checked by its number, where systemd tells that.
    ///
    /// # Errors
    /// Gone when no such unit is loaded, or it has no group any more; Invalid when the hierarchy that the caller sees is not
    /// systemd's own, such as in a container; TimedOut.
    pub async fn open(connection: &Connection, name: &UnitName) -> Result<Self> {
        let open = async {
            let owner = connection.manager().await?;
            let answer = connection.call(&owner, "GetUnit", &name.as_str()).await.map_err(or_gone)?;
            let path: OwnedObjectPath = connection::body("GetUnit", &answer)?;
            let group = property(connection, &owner, &path, name, "ControlGroup").await.map_err(or_gone)?;
            let group = String::try_from(group).map_err(|_| Error::parse("ControlGroup", "this is no path"))?;
            if group.is_empty() {
                return Err(Error::gone("ControlGroup", None));
            }
            let cgroup = Hierarchy::detect()?.open(&group).map_err(Error::or_gone)?;
            // Of an older systemd the number is not to be had: then the path has to do.
            let number = property(connection, &owner, &path, name, "ControlGroupId").await.ok();
            let number = number.and_then(|number| u64::try_from(number).ok());
            if number.is_some_and(|number| number != 0 && Some(number) != inode(&cgroup)) {
                return Err(Error::invalid(
                    "ControlGroup",
                    format!("{group:?} is another group here than it is for systemd"),
                )
                .with_hint("the hierarchy here is not the whole one that systemd sees: is this a container?"));
            }
            Ok(Self { name: name.clone(), connection: connection.clone(), cgroup })
        };
        let opened = connection::limited("GetUnit", connection.time_limit(), open).await;
        opened.map_err(|error| match error.subject() {
            Some(_) => error.context(format!("open the group of {name}")),
            None => error.on(Subject::Value(name.to_string())),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &UnitName {
        &self.name
    }

    /// Its group. What is below it is the caller's if the unit is [delegated](super::Delegate). A group that passes
    /// controllers down has no processes itself, so a scope's move into a leaf first:
    ///
    /// ```no_run
    /// use cgroupfs::{CgroupName, Controller};
    ///
    /// # fn example(unit: &cgroupfs::systemd::Unit) -> cgroupfs::Result<()> {
    /// let leaf = unit.cgroup().create_child(&CgroupName::new("payload")?)?;
    /// unit.cgroup().enable_evacuating(Controller::Memory, &leaf)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// SetUnitProperties: changes properties of the running unit, until it ends.
    ///
    /// Limits are checked before anything is asked for; [`Properties::limits`] says which there are. systemd writes them to
    /// the group's files by itself, and what the kernel refuses there is only in its journal.
    ///
    /// # Errors
    /// Gone when the unit is; as [`Limits::check_values`](crate::Limits::check_values); Unsupported for a limit that is no
    /// property, and for a property that this systemd does not know, or that cannot be changed any more; Invalid for a
    /// value it does not take, and for a `memory.max` below what the group uses, unless
    /// [`BelowUsage::ReclaimOrKill`](crate::BelowUsage::ReclaimOrKill) was chosen; Permission; TimedOut.
    ///
    /// See <https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html>.
    pub async fn set_properties(&self, properties: &Properties) -> Result<()> {
        let properties = properties.for_running(&self.cgroup)?;
        let properties: Vec<(&str, Value<'_>)> =
            properties.iter().map(|(name, value)| (name.as_str(), value.to_value())).collect();
        // `true`: not written to a file that would outlive the unit.
        self.call("SetUnitProperties", &(self.name.as_str(), true, properties)).await
    }

    /// KillUnit: sends `signal` to all processes of the unit. See also [`Cgroup::kill`](crate::Cgroup::kill), which leaves
    /// none out and needs no bus.
    ///
    /// # Errors
    /// Gone when the unit is; Invalid for a number that is no signal; Permission; TimedOut.
    pub async fn kill(&self, signal: i32) -> Result<()> {
        self.call("KillUnit", &(self.name.as_str(), "all", signal)).await
    }

    /// StopUnit: SIGTERM to its processes, SIGKILL when its [timeout](super::Scope::timeout_stop) has passed, and waits until
    /// they are gone and the group with them. The caller's own process is no exception. A unit that is gone already is no
    /// error.
    ///
    /// # Errors
    /// TimedOut after `limit`, and then systemd goes on without the caller; Permission; Gone when the bus is; Other with
    /// systemd's own word for how the job ended.
    pub async fn stop(self, limit: Duration) -> Result<()> {
        let stopped = job::run(&self.connection, &self.name, "StopUnit", &(self.name.as_str(), "replace"), limit).await;
        match stopped {
            Err(error) if is_no_such_unit(&error) => Ok(()),
            other => other,
        }
    }

    async fn call<B>(&self, method: &'static str, arguments: &B) -> Result<()>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
    {
        let call = async {
            let owner = self.connection.manager().await?;
            self.connection.call(&owner, method, arguments).await.map_err(or_gone)
        };
        let answer = connection::limited(method, self.connection.time_limit(), call).await;
        answer.map(drop).map_err(|error| error.on(Subject::Value(self.name.to_string())))
    }
}

async fn property(
    connection: &Connection,
    owner: &OwnedUniqueName,
    path: &OwnedObjectPath,
    unit: &UnitName,
    name: &'static str,
) -> Result<OwnedValue> {
    let arguments = (unit.interface(), name);
    let answer = connection.call_on(owner, path.as_str(), "org.freedesktop.DBus.Properties", "Get", &arguments).await?;
    connection::body(name, &answer)
}

fn is_no_such_unit(error: &Error) -> bool {
    error.kernel_text().is_some_and(|text| text.starts_with("org.freedesktop.systemd1.NoSuchUnit:"))
}

/// A unit that is not loaded any more has ended.
fn or_gone(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound { error.or_gone() } else { error }
}

/// The number of a group is that of its directory.
fn inode(cgroup: &Cgroup) -> Option<u64> {
    cellkit_core::sys::inode(cgroup.as_fd()).ok().map(|(number, _)| number)
}
