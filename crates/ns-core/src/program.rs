//! What execve is given: the candidates of a PATH search, the arguments and the environment, all made before the clone.
#![forbid(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;

use cellkit_core::{Error, Result, Subject};

/// What has no business in a log: the Debug form of it says that it is there, and no more.
pub(crate) struct Unshown<T>(pub(crate) T);

impl<T> fmt::Debug for Unshown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

impl<T> Deref for Unshown<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Where a name without a slash is looked for when the payload's environment has no PATH.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A NUL-terminated string, or an error that says which one held a NUL.
pub(crate) fn c_string(text: impl AsRef<OsStr>, what: &'static str) -> Result<CString> {
    let text = text.as_ref();
    CString::new(text.as_bytes()).map_err(|_| {
        Error::invalid(what, "it holds a NUL byte").on(Subject::Value(text.to_string_lossy().into_owned()))
    })
}

/// Whether a variable of an environment can be called so.
pub(crate) fn is_a_name(name: &OsStr) -> bool {
    !name.is_empty() && !name.as_bytes().contains(&b'=')
}

/// The paths that execvp would try for `program`, in order.
pub(crate) fn candidates(program: &OsStr, path: Option<&OsStr>) -> Result<Vec<CString>> {
    if program.is_empty() {
        return Err(Error::invalid("execve", "the command is empty").on(Subject::Value(String::new())));
    }
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program, "execve")?]);
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    path.as_bytes()
        .split(|&byte| byte == b':')
        .map(|dir| {
            // An empty entry of PATH means the working directory.
            let mut candidate = OsString::from(OsStr::from_bytes(if dir.is_empty() { b"." } else { dir }));
            candidate.push("/");
            candidate.push(program);
            c_string(candidate, "execve")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(program: &str, path: Option<&str>) -> Vec<String> {
        let list = candidates(program.as_ref(), path.map(OsStr::new)).expect("no NUL");
        list.into_iter().map(|path| path.into_string().expect("ASCII")).collect()
    }

    #[test]
    fn a_slash_means_no_search() {
        assert_eq!(shown("/bin/sh", Some("/usr/bin")), ["/bin/sh"]);
        assert_eq!(shown("./run", Some("/usr/bin")), ["./run"]);
    }

    #[test]
    fn path_is_searched_in_order() {
        assert_eq!(shown("sh", Some("/usr/bin::/bin")), ["/usr/bin/sh", "./sh", "/bin/sh"]);
        assert_eq!(shown("sh", None).len(), 6);
    }

    #[test]
    fn wrong_names_are_refused() {
        assert!(candidates("".as_ref(), None).is_err());
        assert!(candidates("a\0b".as_ref(), None).unwrap_err().to_string().contains("NUL"));
    }
}
