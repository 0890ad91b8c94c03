//! How failures become exit statuses, as Docker uses them.
#![forbid(unsafe_code)]

use cellkit_core::Error;

/// The container could not be started.
pub const NOT_STARTED: i32 = 125;
/// The command was found and could not be run.
pub const NOT_EXECUTABLE: i32 = 126;
/// The command was not found.
pub const NOT_FOUND: i32 = 127;

/// The exit status that says what `error` kept from happening.
#[must_use]
pub fn status_of(error: &Error) -> i32 {
    match (error.operation(), error.raw_os_error()) {
        ("execve", Some(libc::ENOENT)) => NOT_FOUND,
        ("execve", Some(_)) => NOT_EXECUTABLE,
        _ => NOT_STARTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_has_them() {
        assert_eq!(status_of(&Error::from_errno("execve", libc::ENOENT)), 127);
        assert_eq!(status_of(&Error::from_errno("execve", libc::EACCES)), 126);
        assert_eq!(status_of(&Error::from_errno("execve", libc::ENOEXEC)), 126);
        assert_eq!(status_of(&Error::from_errno("clone3", libc::ENOENT)), 125);
        assert_eq!(status_of(&Error::invalid("execve", "the command is empty")), 125);
    }
}
