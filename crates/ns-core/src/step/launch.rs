//! The steps that make a child the payload: who watches over it, and the program itself.
#![forbid(unsafe_code)]

use std::ffi::CString;

use cellkit_core::{Slot, StepText, Subject};

use crate::program::Unshown;

/// See [`Step`](super::Step). Running them is `sys/steps/launch.rs`.
#[derive(Debug)]
pub(crate) enum LaunchStep {
    DieWithParent {
        sync: Slot,
    },
    Reaper(Front),
    /// Of the descriptor that an earlier step has put there.
    ExecFd {
        program: Slot,
        argv: Vec<CString>,
        envp: Unshown<Vec<CString>>,
        pointers: Pointers,
    },
    Exec {
        paths: Vec<CString>,
        argv: Vec<CString>,
        envp: Unshown<Vec<CString>>,
        pointers: Pointers,
    },
}

/// What the reaper in front of the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// The first process of a pid namespace.
    Pid1,
    /// Any other process, to whom the kernel gives the orphans among its descendants.
    Subreaper,
}

/// The NULL-terminated pointer arrays that execve wants, into the strings of the same step, made by `sys`.
#[derive(Debug)]
pub(crate) struct Pointers {
    pub(crate) argv: Box<[usize]>,
    pub(crate) envp: Box<[usize]>,
}

impl Pointers {
    pub(crate) fn to(argv: &[CString], envp: &[CString]) -> Self {
        let array = |strings: &[CString]| {
            strings.iter().map(|string| string.as_ptr() as usize).chain([0]).collect::<Box<[_]>>()
        };
        Self { argv: array(argv), envp: array(envp) }
    }
}

impl LaunchStep {
    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::DieWithParent { .. } => {
                StepText::new("prctl", "PR_SET_PDEATHSIG, SIGKILL", "the container ends with the process that owns it")
            }
            Self::Reaper(Front::Subreaper) => StepText::new(
                "clone",
                "SIGCHLD",
                "a subreaper stays behind: it reaps orphans and forwards signals to the payload",
            ),
            Self::Reaper(Front::Pid1) => StepText::new(
                "clone",
                "SIGCHLD",
                "PID 1 stays behind: it reaps orphans and forwards signals to the payload",
            ),
            Self::ExecFd { program, argv, envp, .. } => {
                let arguments = format!("{program}, \"\", {argv:?}, {} variables, AT_EMPTY_PATH", envp.len());
                let subject = argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                StepText::new("execveat", arguments, "the payload").on(Subject::Value(subject))
            }
            Self::Exec { paths, argv, envp, .. } => {
                let shown = match paths.as_slice() {
                    [path] => format!("{path:?}"),
                    paths => {
                        let all = paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(" or ");
                        format!("{all:?}")
                    }
                };
                let subject = argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                StepText::new("execve", format!("{shown}, {argv:?}, {} variables", envp.len()), "the payload")
                    .on(Subject::Value(subject))
            }
        }
    }
}
