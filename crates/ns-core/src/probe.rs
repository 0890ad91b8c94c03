//! What holds on this machine, for this caller, and what to do about what does not.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;

use cellkit_core::{ProcFd, ProcView, Result};

use crate::Namespaces;

mod features;
mod namespaces;
mod settings;
pub(crate) mod text;

/// Finds out what can be done here, and why not what cannot.
///
/// Whether a namespace can be made is not guessed from settings but tried: with this crate's own clone3, in a child that is
/// killed before it does anything. Nothing else has an effect.
///
/// * C calls: clone3(2) for each kind of namespace, twice; and harmless questions to the calls that a start makes.
/// * Files: `/proc/sys/user/max_*_namespaces`, `/proc/sys/kernel/*`, `/sys/kernel/security/lsm`, `/proc/PID/status`,
///   `pids.max` of the caller's cgroup.
/// * Privileges: none. It shows what the caller may do, so ask as the user who will.
/// * Takes some milliseconds, most of them for network namespaces.
///
/// ```
/// let probe = ns_core::probe()?;
/// for finding in probe.failing() {
///     eprintln!("{finding}");
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// # Errors
/// When no procfs can be had. Everything else that fails is a finding.
///
/// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
pub fn probe() -> Result<Probe> {
    let proc = ProcFd::open(ProcView::Whole)?;
    let settings = settings::Settings::read(&proc);
    let mut findings = Vec::new();
    let can_make = namespaces::probe(&proc, &settings, &mut findings);
    settings::probe(&proc, &settings, &mut findings);
    features::probe(&mut findings);
    Ok(Probe { findings, can_make: can_make.directly, can_make_with_user: can_make.with_user })
}

/// What [`probe`](crate::probe()) found. Printing it is a table.
///
/// ```
/// use ns_core::{Namespaces, probe};
///
/// let here = probe()?;
/// if !here.can_make.contains(Namespaces::NET) && here.can_make_with_user.contains(Namespaces::NET) {
///     println!("add Namespaces::USER");
/// }
/// print!("{here}");
/// assert!(here.to_string().contains("net namespace"));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probe {
    /// One row for each thing, by [`Area`].
    pub findings: Vec<Finding>,
    /// The kinds of namespace that the caller can make as it is.
    pub can_make: Namespaces,
    /// The kinds that the caller can make together with a user namespace of its own.
    pub can_make_with_user: Namespaces,
}

impl Probe {
    /// The finding about `what`, as the table names it.
    ///
    /// ```
    /// let probe = ns_core::probe()?;
    /// let release = probe.get("kernel release").map(|finding| &*finding.detail);
    /// assert!(release.is_some_and(|release| release.contains('.')));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    #[must_use]
    pub fn get(&self, what: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.what == what)
    }

    /// What is in the way, each with the sentence that helps.
    pub fn failing(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.state == State::No)
    }
}

impl fmt::Display for Probe {
    /// A table: state, subject, detail; below what fails, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
        let mut area = None;
        for Finding { area: of, what, state, detail, fix } in &self.findings {
            if area.replace(*of) != Some(*of) {
                writeln!(f, "{of}")?;
            }
            writeln!(f, "  {state:<4} {what:<width$}  {detail}")?;
            if let Some(fix) = fix {
                writeln!(f, "       → {fix}")?;
            }
        }
        Ok(())
    }
}

/// One thing that was looked at.
///
/// ```
/// for finding in &ns_core::probe()?.findings {
///     println!("{}: {}", finding.what, finding.detail);
///     if let Some(fix) = &finding.fix {
///         println!("  what to do: {fix}");
///     }
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What sort of thing it is.
    pub area: Area,
    /// The thing, by the kernel's name where it has one: `net namespace`, `user.max_net_namespaces`, `clone3`.
    pub what: Cow<'static, str>,
    /// How it stands.
    pub state: State,
    /// What was found, in a few words: a value, or the error.
    pub detail: String,
    /// What to do about it. There for everything whose state is [`No`](State::No), and only for that.
    pub fix: Option<String>,
}

impl Finding {
    fn fact(area: Area, what: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { area, what: what.into(), state: State::Fact, detail: detail.into(), fix: None }
    }

    fn yes(area: Area, what: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { state: State::Yes, ..Self::fact(area, what, detail) }
    }

    fn no(area: Area, what: impl Into<Cow<'static, str>>, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::No, fix: Some(fix.into()), ..Self::fact(area, what, detail) }
    }

    fn unknown(area: Area, what: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { state: State::Unknown, ..Self::fact(area, what, detail) }
    }
}

impl fmt::Display for Finding {
    /// One line: `net namespace: clone3 …: operation not permitted (EPERM): run as root, …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.detail)?;
        match &self.fix {
            Some(fix) => write!(f, ": {fix}"),
            None => Ok(()),
        }
    }
}

/// How a thing stands.
///
/// ```
/// use ns_core::{State, probe};
///
/// // Whatever stands in the way comes with what to do about it, and nothing else does.
/// assert!(probe()?.findings.iter().all(|finding| (finding.state == State::No) == finding.fix.is_some()));
/// # Ok::<(), ns_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It works here.
    Yes,
    /// It does not, or it is in the way of something.
    No,
    /// A value that is neither good nor bad.
    Fact,
    /// It could not be found out.
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::No => "NO",
            Self::Fact => "",
            Self::Unknown => "?",
        })
    }
}

/// What sort of thing a [`Finding`] is about.
///
/// ```
/// use ns_core::{Area, probe};
///
/// let here = probe()?;
/// let limits = here.findings.iter().filter(|finding| finding.area == Area::Limits);
/// assert!(limits.count() > 0);
/// # Ok::<(), ns_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Area {
    /// Namespaces, tried.
    Namespaces,
    /// Settings of the machine, in /proc/sys.
    Settings,
    /// Security modules, and what the caller itself may do.
    Security,
    /// Limits of the caller.
    Limits,
    /// The kernel and its system calls.
    Kernel,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Namespaces => "namespaces",
            Self::Settings => "settings",
            Self::Security => "security",
            Self::Limits => "limits",
            Self::Kernel => "kernel",
        })
    }
}
