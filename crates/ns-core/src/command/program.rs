//! The payload's program: what it is given, and where it begins.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::Command;
use super::confinement::Confinement;
use super::credentials::Credentials;
use super::resources::Resources;
use super::stdio::Descriptors;
use crate::program::{Unshown, is_a_name};
use crate::{MountPropagation, Namespaces};

/// # The program
impl Command {
    /// A command that runs `program`: a path, or a name without a slash, which is looked for in the payload's PATH inside its
    /// root, or in the usual directories when its environment has no PATH.
    ///
    /// All of it happens in the child, as the payload: a path that does not begin with `/` is taken from
    /// [`current_dir`](Self::current_dir), and a program that is not there is an error of the start (execve, ENOENT).
    ///
    /// ```
    /// use ns_core::{Command, ErrorKind};
    ///
    /// assert!(Command::new("true").status()?.success());
    /// let error = Command::new("/no/such/program").spawn().unwrap_err();
    /// assert_eq!((error.kind(), error.operation()), (ErrorKind::NotFound, "execve"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See execve(2): <https://man7.org/linux/man-pages/man2/execve.2.html>.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            program_fd: None,
            args: Vec::new(),
            arg0: None,
            // What is no variable by its name cannot be taken over: `execve` lets anybody pass "=x=y" along.
            environment: Unshown(std::env::vars_os().filter(|(name, _)| is_a_name(name)).collect()),
            namespaces: Namespaces::empty(),
            propagation: MountPropagation::default(),
            joins: Vec::new(),
            time: None,
            loopback: false,
            hostname: None,
            domainname: None,
            cgroup: None,
            roots: Vec::new(),
            dir: None,
            descriptors: Descriptors::default(),
            credentials: Credentials::default(),
            confinement: Confinement::default(),
            resources: Resources::default(),
            new_session: false,
            new_group: false,
            die_with_parent: false,
            set_tid: Vec::new(),
            sibling: false,
            reaper: None,
            pre_exec: Vec::new(),
            copies_memory: false,
            timed: false,
        }
    }

    /// A command that runs the program behind a descriptor, whatever is at its path by then, or in no path at all. `arg0`
    /// is what it sees as `argv[0]`.
    ///
    /// The payload does not get the descriptor. So a script cannot be run like this, whose interpreter would have to open
    /// it again: that fails with ENOENT, and a hint.
    ///
    /// * C call: execveat(2) with AT_EMPTY_PATH, Linux 3.19. O_PATH descriptors will do.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let echo = std::fs::File::open("/bin/true").unwrap();
    /// assert!(Command::from_fd(echo, "true").spawn()?.wait()?.success());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See execveat(2): <https://man7.org/linux/man-pages/man2/execveat.2.html>.
    #[doc(alias("execveat", "fexecve"))]
    pub fn from_fd(program: impl Into<OwnedFd>, arg0: impl AsRef<OsStr>) -> Self {
        Self { program_fd: Some(Arc::new(program.into())), ..Self::new(arg0) }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let output = Command::new("printf").arg("%s.").args(["one", "two words"]).output()?;
    /// assert_eq!(output.stdout, b"one.two words.");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// What the payload sees as `argv[0]`, instead of the program as given.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// // A login shell, as login(1) starts it.
    /// let output = Command::new("/bin/sh").arg0("-sh").args(["-c", "echo $0"]).output()?;
    /// assert_eq!(output.stdout, b"-sh\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    pub fn arg0(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.arg0 = Some(arg.as_ref().to_owned());
        self
    }

    /// Sets a variable of the payload's environment.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let output = Command::new("/usr/bin/env").env_clear().env("LANG", "C").output()?;
    /// assert_eq!(output.stdout, b"LANG=C\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See environ(7): <https://man7.org/linux/man-pages/man7/environ.7.html>.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.0.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets variables of the payload's environment.
    pub fn envs(mut self, variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        let variables = variables.into_iter();
        self.environment.0.extend(variables.map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned())));
        self
    }

    /// Leaves a variable out of the payload's environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.0.remove(name.as_ref());
        self
    }

    /// Starts from an empty environment instead of the caller's.
    pub fn env_clear(mut self) -> Self {
        self.environment.0.clear();
        self
    }

    /// The payload's working directory, inside its root, entered as the payload's user. A relative one is taken from the
    /// caller's, or from `/` where the payload has another root than the caller.
    ///
    /// Errors: NotFound, Permission, each with a hint.
    ///
    /// * C calls: chdir(2); getcwd(2), which must not answer that this is outside of the root.
    /// * Errors, of the start: NotFound, Permission; Invalid for what is no directory.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// assert_eq!(Command::new("pwd").current_dir("/usr/bin/..").output()?.stdout, b"/usr\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See chdir(2): <https://man7.org/linux/man-pages/man2/chdir.2.html>.
    #[doc(alias = "chdir")]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }
}
