//! What the bus and systemd answer, as errors of this crate.
//!
//! systemd's own programs turn the name of a D-Bus error into an errno; the same errnos are used here, so that a program
//! can match on the kind, and the name and message are kept as they came.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::Error;

/// A D-Bus error by name, the errno that systemd's library has for it, and what to do.
struct Row {
    name: &'static str,
    errno: i32,
    hint: Option<&'static str>,
}

const fn row(name: &'static str, errno: i32, hint: Option<&'static str>) -> Row {
    Row { name, errno, hint }
}

const POLKIT: Option<&str> =
    Some("only root may ask the system's systemd, or whom a polkit agent lets: ask one's own by Connection::user()");

const ROWS: &[Row] = &[
    row(
        "org.freedesktop.systemd1.UnitExists",
        libc::EEXIST,
        Some(
            "a unit of this name is there: take another name, or stop it first; one that failed stays until \
         systemctl reset-failed, unless it is collected: see CollectMode",
        ),
    ),
    row("org.freedesktop.systemd1.NoSuchUnit", libc::ENOENT, None),
    row("org.freedesktop.systemd1.NoSuchJob", libc::ENOENT, None),
    row("org.freedesktop.systemd1.NoUnitForPID", libc::ESRCH, None),
    row("org.freedesktop.systemd1.LoadFailed", libc::EIO, Some("systemctl status and the journal say more")),
    row("org.freedesktop.systemd1.BadUnitSetting", libc::ENOEXEC, Some("systemctl status and the journal say more")),
    row("org.freedesktop.systemd1.JobFailed", libc::EREMOTEIO, None),
    row("org.freedesktop.systemd1.TransactionJobsConflicting", libc::EDEADLK, None),
    row("org.freedesktop.systemd1.TransactionOrderIsCyclic", libc::EDEADLK, None),
    row(
        "org.freedesktop.systemd1.TransactionIsDestructive",
        libc::EDEADLK,
        Some("another job for it is under way, or the machine is shutting down: systemctl list-jobs"),
    ),
    row("org.freedesktop.systemd1.UnitMasked", libc::ERFKILL, Some("the unit, or its slice, is masked")),
    row("org.freedesktop.systemd1.OnlyByDependency", libc::EINVAL, None),
    row("org.freedesktop.systemd1.ShuttingDown", libc::ECANCELED, None),
    row("org.freedesktop.systemd1.ScopeNotRunning", libc::EHOSTDOWN, None),
    row("org.freedesktop.DBus.Error.AccessDenied", libc::EACCES, POLKIT),
    row("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", libc::EACCES, POLKIT),
    row("org.freedesktop.DBus.Error.AuthFailed", libc::EACCES, POLKIT),
    row("org.freedesktop.DBus.Error.UnixProcessIdUnknown", libc::ESRCH, None),
    row("org.freedesktop.DBus.Error.NoMemory", libc::ENOMEM, None),
    row(
        "org.freedesktop.DBus.Error.LimitsExceeded",
        libc::ENOBUFS,
        Some("the bus has too many connections or match rules of this user"),
    ),
    row("org.freedesktop.DBus.Error.InvalidArgs", libc::EINVAL, None),
    row(
        "org.freedesktop.DBus.Error.NoReply",
        libc::ETIMEDOUT,
        Some("systemd went away, or does not answer: systemctl status"),
    ),
    row("org.freedesktop.DBus.Error.Timeout", libc::ETIMEDOUT, None),
    row("org.freedesktop.DBus.Error.Disconnected", libc::ECONNRESET, None),
    row("org.freedesktop.DBus.Error.NotSupported", libc::EOPNOTSUPP, None),
];

/// No systemd has its name on this bus.
const NOT_RUNNING: [&str; 2] =
    ["org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.ServiceUnknown"];

/// This systemd is older than what was asked of it.
const UNKNOWN: [&str; 4] = [
    UNKNOWN_PROPERTY,
    "org.freedesktop.DBus.Error.UnknownProperty",
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.DBus.Error.UnknownInterface",
];

/// How systemd answers a property it does not know, as well as one that cannot be set.
pub(super) const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";

/// The error of a call. What it was done to is the caller's to add.
pub(super) fn failed(operation: impl Into<Cow<'static, str>>, error: &zbus::Error) -> Error {
    match error {
        zbus::Error::MethodError(name, message, _) => {
            answered(operation.into(), name.as_str(), message.as_deref().unwrap_or_default())
        }
        zbus::Error::InputOutput(error) => lost(operation).with_kernel_text(error.to_string()),
        other => Error::other(operation, format!("the bus was not understood: {other}")),
    }
}

/// The connection is no more.
pub(super) fn lost(operation: impl Into<Cow<'static, str>>) -> Error {
    Error::gone(operation, None)
        .with_hint("the connection to the bus ended: what was under way may have been done or not")
}

fn answered(operation: Cow<'static, str>, name: &str, message: &str) -> Error {
    let error = if NOT_RUNNING.contains(&name) {
        Error::unsupported(operation, "systemd (it is not on this bus)", None)
            .with_hint("systemd is not init here, or has no user manager for this user: loginctl enable-linger")
    } else if UNKNOWN.contains(&name) {
        Error::unsupported(operation, "what was asked of systemd", None)
            .with_hint("systemctl --version shows how old this systemd is")
    } else if let Some(row) = ROWS.iter().find(|row| row.name == name) {
        let error = Error::from_errno(operation, row.errno);
        match row.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    } else {
        Error::other(operation, "systemd refused")
    };
    error.with_kernel_text(format!("{name}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_found_once() {
        let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).chain(NOT_RUNNING).chain(UNKNOWN).collect();
        assert_eq!(names.len(), ROWS.len() + NOT_RUNNING.len() + UNKNOWN.len());
        for row in ROWS {
            let error = answered("StartTransientUnit".into(), row.name, "words");
            assert_eq!(error.raw_os_error(), Some(row.errno));
            assert_eq!(error.kernel_text(), Some(format!("{}: words", row.name).as_str()));
            assert_eq!(error.hint(), row.hint);
            assert!(row.hint.is_none_or(|hint| !hint.contains("  ")), "{:?}", row.hint);
        }
    }

    #[test]
    fn kinds() {
        let kind = |name: &str| answered("x".into(), name, "").kind();
        assert_eq!(kind("org.freedesktop.DBus.Error.AccessDenied"), ErrorKind::Permission);
        assert_eq!(kind("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"), ErrorKind::Permission);
        assert_eq!(kind("org.freedesktop.systemd1.UnitExists"), ErrorKind::AlreadyExists);
        assert_eq!(kind("org.freedesktop.systemd1.NoSuchUnit"), ErrorKind::NotFound);
        assert_eq!(kind("org.freedesktop.DBus.Error.NameHasNoOwner"), ErrorKind::Unsupported);
        assert_eq!(kind(UNKNOWN_PROPERTY), ErrorKind::Unsupported);
        assert_eq!(kind("org.example.New"), ErrorKind::Other);
        assert_eq!(lost("x").kind(), ErrorKind::Gone);
    }
}
