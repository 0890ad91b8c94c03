//! The one error of all cellkit crates.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::hint::EVERYWHERE;
use crate::{Errno, ErrorKind, HintTable, StepText, Subject};

/// `std::result::Result` with cellkit's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: the kernel's operation, its subject, the cause, and what to do about it.
///
/// It is one word wide, so that `Result<()>` is too. Match on [`kind`](Error::kind); print with one of three forms:
///
/// * `{}`: one line, the operation, the subject and the cause;
/// * `{:#}`: the layers of context before it, the kernel's own text after it, and each hint on a line of its own;
/// * `{:?}`: the same, a line each, as `fn main() -> Result<()>` prints it.
///
/// ```
/// use cellkit_core::{Error, ErrorKind, Subject};
/// use std::path::Path;
///
/// let error = Error::from_errno("mount_setattr", libc::EPERM)
///     .on(Path::new("/run/c1/root"))
///     .with_hint("the mount was made by a more privileged namespace: keep its nosuid flag")
///     .context("make the root read-only");
///
/// assert_eq!(error.kind(), ErrorKind::Permission);
/// assert_eq!(error.raw_os_error(), Some(libc::EPERM));
/// assert_eq!(error.to_string(), r#"mount_setattr "/run/c1/root": operation not permitted (EPERM)"#);
/// assert_eq!(
///     format!("{error:#}"),
///     "make the root read-only: mount_setattr \"/run/c1/root\": operation not permitted (EPERM)\n  \
///      hint: the mount was made by a more privileged namespace: keep its nosuid flag"
/// );
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    operation: Cow<'static, str>,
    subject: Option<Subject>,
    cause: Cause,
    kernel_text: Option<String>,
    hint: Option<Cow<'static, str>>,
    /// Innermost first.
    context: Vec<Cow<'static, str>>,
    /// Further failures of the same operation: a teardown goes on past errors.
    also: Vec<Error>,
    /// What a cloned child was at.
    step: Option<Box<StepText>>,
}

enum Cause {
    Errno(Errno),
    Gone(Option<Errno>),
    Invalid(Cow<'static, str>),
    Parse(Cow<'static, str>),
    Unsupported { feature: Cow<'static, str>, since: Option<&'static str>, errno: Option<Errno> },
    TimedOut(Duration),
    Limit(Cow<'static, str>),
    Other(Cow<'static, str>),
}

impl Error {
    fn new(operation: impl Into<Cow<'static, str>>, cause: Cause) -> Self {
        Self(Box::new(Inner {
            operation: operation.into(),
            subject: None,
            cause,
            kernel_text: None,
            hint: None,
            context: Vec::new(),
            also: Vec::new(),
            step: None,
        }))
    }

    /// The kernel answered `operation` with `errno`.
    #[must_use]
    pub fn from_errno(operation: impl Into<Cow<'static, str>>, errno: i32) -> Self {
        Self::new(operation, Cause::Errno(Errno(errno)))
    }

    /// `operation` failed in the standard library or in a crate that answers with `std::io::Error`.
    #[must_use]
    pub fn from_io(operation: impl Into<Cow<'static, str>>, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::from_errno(operation, errno),
            None => Self::new(operation, Cause::Other(error.to_string().into())),
        }
    }

    /// The subject died while `operation` was under way; `errno` is what the kernel said (ENODEV, ENOENT, ESRCH).
    #[must_use]
    pub fn gone(operation: impl Into<Cow<'static, str>>, errno: Option<i32>) -> Self {
        Self::new(operation, Cause::Gone(errno.map(Errno)))
    }

    /// An argument was refused before anything was done, and why.
    #[must_use]
    pub fn invalid(operation: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(operation, Cause::Invalid(why.into()))
    }

    /// A file, record or reply could not be understood, and why.
    #[must_use]
    pub fn parse(operation: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(operation, Cause::Parse(why.into()))
    }

    /// This machine lacks `feature`, which kernels have since version `since` (`None`: not a matter of the version).
    #[must_use]
    pub fn unsupported(
        operation: impl Into<Cow<'static, str>>,
        feature: impl Into<Cow<'static, str>>,
        since: Option<&'static str>,
    ) -> Self {
        Self::new(operation, Cause::Unsupported { feature: feature.into(), since, errno: None })
    }

    /// `operation` did not end within `limit`.
    #[must_use]
    pub fn timed_out(operation: impl Into<Cow<'static, str>>, limit: Duration) -> Self {
        Self::new(operation, Cause::TimedOut(limit))
    }

    /// A limit that the caller set was reached, and which.
    #[must_use]
    pub fn limit(operation: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(operation, Cause::Limit(why.into()))
    }

    /// `operation` failed without an errno, and why.
    #[must_use]
    pub fn other(operation: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(operation, Cause::Other(why.into()))
    }

    /// The step of a plan that the kernel answered with `errno`.
    #[must_use]
    pub fn at_step(step: StepText, errno: Errno) -> Self {
        let mut error = Self::from_errno(step.call.clone(), errno.0);
        error.0.subject.clone_from(&step.subject);
        error.0.step = Some(Box::new(step));
        error
    }

    /// What `errors` amount to: nothing, the one, or the first with the others attached.
    ///
    /// # Errors
    /// When there is at least one.
    pub fn all(errors: impl IntoIterator<Item = Self>) -> Result<()> {
        let mut errors = errors.into_iter();
        match errors.next() {
            None => Ok(()),
            Some(mut first) => {
                first.0.also.extend(errors);
                Err(first)
            }
        }
    }

    /// Says what the operation was done to.
    #[must_use]
    pub fn on(mut self, subject: impl Into<Subject>) -> Self {
        self.0.subject = Some(subject.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Takes the hint from a crate's table, unless there is one already or the table has none.
    #[must_use]
    pub fn with_hints(mut self, table: &HintTable) -> Self {
        if self.0.hint.is_none() {
            if let Some(errno) = self.errno() {
                self.0.hint = table.find(&self.0.operation, errno).map(Cow::Borrowed);
            }
        }
        self
    }

    /// Adds what the kernel itself said: a netlink extended acknowledgement, a file system context's log.
    #[must_use]
    pub fn with_kernel_text(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        // A helper program's words may be several lines, and hold what a terminal must not see.
        let words: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !words.is_empty() {
            self.0.kernel_text = Some(words);
        }
        self
    }

    /// Adds what the caller was doing, as an outer layer.
    #[must_use]
    pub fn context(mut self, doing: impl Into<Cow<'static, str>>) -> Self {
        self.0.context.push(doing.into());
        self
    }

    /// The sort of failure, for a program to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.0.cause {
            Cause::Errno(errno) => ErrorKind::of(*errno),
            Cause::Gone(_) => ErrorKind::Gone,
            Cause::Invalid(_) => ErrorKind::Invalid,
            Cause::Parse(_) => ErrorKind::Parse,
            Cause::Unsupported { .. } => ErrorKind::Unsupported,
            Cause::TimedOut(_) => ErrorKind::TimedOut,
            Cause::Limit(_) => ErrorKind::Limit,
            Cause::Other(_) => ErrorKind::Other,
        }
    }

    fn errno(&self) -> Option<Errno> {
        match &self.0.cause {
            Cause::Errno(errno) => Some(*errno),
            Cause::Gone(errno) | Cause::Unsupported { errno, .. } => *errno,
            _ => None,
        }
    }

    /// The kernel's error number, if the kernel said one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.errno().map(|errno| errno.0)
    }

    /// The operation by the kernel's own name: `clone3`, `write memory.max`, `RTM_NEWLINK`.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// What the operation was done to.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.0.subject.as_ref()
    }

    /// What to do about it, if anybody knows: from the crate that made the error, or from the few errnos that mean the same
    /// everywhere (EMFILE, ENFILE).
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref().or_else(|| EVERYWHERE.find(&self.0.operation, self.errno()?))
    }

    /// The step of a plan that failed, with its arguments. It was made in a cloned child, whose namespaces and privileges
    /// are not the caller's.
    ///
    /// ```
    /// use cellkit_core::{Errno, Error, StepText};
    ///
    /// let error = Error::at_step(StepText::new("fsopen", r#""overlay""#, "an overlay"), Errno(libc::ENODEV));
    /// assert_eq!(error.step().map(|step| step.to_string()), Some(r#"fsopen("overlay")"#.into()));
    /// assert!(Error::from_errno("fsopen", libc::ENODEV).step().is_none());
    /// ```
    #[must_use]
    pub fn step(&self) -> Option<&StepText> {
        self.0.step.as_deref()
    }

    /// What the kernel itself said beside the errno.
    #[must_use]
    pub fn kernel_text(&self) -> Option<&str> {
        self.0.kernel_text.as_deref()
    }

    /// Further failures of the same teardown.
    #[must_use]
    pub fn also(&self) -> &[Self] {
        &self.0.also
    }

    /// Whether the same call may succeed when made again, with nothing else changed.
    #[must_use]
    pub fn can_retry(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOBUFS))
            || self.kind() == ErrorKind::TimedOut
    }

    /// Turns ENODEV, ENOENT and ESRCH into [`ErrorKind::Gone`]: for calls on something that was alive before.
    #[must_use]
    pub fn or_gone(mut self) -> Self {
        if let Cause::Errno(errno @ Errno(libc::ENODEV | libc::ENOENT | libc::ESRCH)) = self.0.cause {
            self.0.cause = Cause::Gone(Some(errno));
        }
        self
    }

    /// Turns ENOSYS, EOPNOTSUPP and EINVAL into [`ErrorKind::Unsupported`]: for calls that old kernels answer so.
    #[must_use]
    pub fn or_unsupported(mut self, feature: &'static str, since: &'static str) -> Self {
        if let Cause::Errno(errno @ Errno(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL)) = self.0.cause {
            let feature = Cow::Borrowed(feature);
            self.0.cause = Cause::Unsupported { feature, since: Some(since), errno: Some(errno) };
        }
        self
    }

    /// Turns whatever errno it is into [`ErrorKind::Unsupported`], for a caller who knows that it can only mean that:
    /// a file that this kernel does not have, say. `since` is the first kernel with the feature, if that is what counts.
    #[must_use]
    pub fn as_unsupported(mut self, feature: impl Into<Cow<'static, str>>, since: Option<&'static str>) -> Self {
        let errno = self.errno();
        self.0.cause = Cause::Unsupported { feature: feature.into(), since, errno };
        self
    }

    /// A line for the hint, and for each other one of those that come along.
    fn hints(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        for hint in std::iter::once(self).chain(&self.0.also).filter_map(Self::hint) {
            if !said.contains(&hint) {
                write!(f, "\n  hint: {hint}")?;
                said.push(hint);
            }
        }
        Ok(())
    }

    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.operation)?;
        if let Some(subject) = &self.0.subject {
            write!(f, " {subject}")?;
        }
        write!(f, ": {}", self.0.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "{errno}"),
            Self::Gone(Some(errno)) => write!(f, "gone: {errno}"),
            Self::Gone(None) => f.write_str("gone"),
            Self::Invalid(why) | Self::Parse(why) | Self::Limit(why) | Self::Other(why) => f.write_str(why),
            Self::Unsupported { feature, since, errno } => {
                write!(f, "{feature} is not supported here")?;
                if let Some(since) = since {
                    write!(f, " (Linux {since} or newer)")?;
                }
                match errno {
                    Some(errno) => write!(f, ": {errno}"),
                    None => Ok(()),
                }
            }
            Self::TimedOut(limit) => write!(f, "not done within {limit:?}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return self.line(f);
        }
        for doing in self.0.context.iter().rev() {
            write!(f, "{doing}: ")?;
        }
        self.line(f)?;
        if let Some(text) = &self.0.kernel_text {
            write!(f, ": the kernel says: {text}")?;
        }
        for other in &self.0.also {
            write!(f, "; also: {other}")?;
        }
        self.hints(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line(f)?;
        if let Some(text) = &self.0.kernel_text {
            write!(f, "\n  the kernel says: {text}")?;
        }
        for doing in &self.0.context {
            write!(f, "\n  while: {doing}")?;
        }
        for other in &self.0.also {
            write!(f, "\n  also: {other}")?;
        }
        self.hints(f)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    /// Keeps the kind and, in `get_ref()`, the whole error; that one's [`raw_os_error`](Error::raw_os_error) has the errno.
    fn from(error: Error) -> Self {
        Self::new(error.kind().io(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn every_form_of_a_full_error() {
        let error = Error::from_errno("fsconfig", libc::EINVAL)
            .on(Path::new("over\nlay"))
            .with_kernel_text("overlay:\u{1b}Unknown\nparameter 'x'\n")
            .with_hint("look at x")
            .context("mount the root")
            .context("start c1");
        assert_eq!(error.to_string(), r#"fsconfig "over\nlay": invalid argument (EINVAL)"#);
        assert_eq!(
            format!("{error:#}"),
            "start c1: mount the root: fsconfig \"over\\nlay\": invalid argument (EINVAL): \
             the kernel says: overlay: Unknown parameter 'x'\n  hint: look at x"
        );
        assert_eq!(
            format!("{error:?}"),
            "fsconfig \"over\\nlay\": invalid argument (EINVAL)\n  \
             the kernel says: overlay: Unknown parameter 'x'\n  \
             while: mount the root\n  while: start c1\n  hint: look at x"
        );
    }

    #[test]
    fn kinds_of_causes() {
        assert_eq!(Error::from_errno("rmdir", libc::EBUSY).kind(), ErrorKind::Busy);
        assert!(Error::from_errno("rmdir", libc::EBUSY).can_retry());
        let gone = Error::from_errno("read memory.events", libc::ENODEV).or_gone();
        assert_eq!((gone.kind(), gone.raw_os_error()), (ErrorKind::Gone, Some(libc::ENODEV)));
        let old = Error::from_errno("listmount", libc::ENOSYS).or_unsupported("listing mounts by id", "6.8");
        assert_eq!(old.kind(), ErrorKind::Unsupported);
        assert_eq!(
            old.to_string(),
            "listmount: listing mounts by id is not supported here (Linux 6.8 or newer): \
             function not implemented (ENOSYS)"
        );
        assert_eq!(Error::timed_out("rmdir", Duration::from_secs(2)).to_string(), "rmdir: not done within 2s");
    }

    #[test]
    fn some_errnos_mean_the_same_everywhere() {
        let error = Error::from_errno("socketpair", libc::EMFILE);
        assert!(error.hint().is_some_and(|hint| hint.contains("ulimit -n")));
        assert!(format!("{error:#}").ends_with("see ulimit -n"));
        assert_eq!(error.with_hint("another").hint(), Some("another"));
        assert_eq!(Error::from_errno("socketpair", libc::EPERM).hint(), None);
    }

    #[test]
    fn a_teardown_keeps_every_error() {
        assert!(Error::all([]).is_ok());
        let all = Error::all(["rmdir", "unlink", "umount2"].map(|call| Error::from_errno(call, libc::EBUSY)));
        let error = all.unwrap_err();
        assert_eq!(error.also().len(), 2);
        assert!(format!("{error:#}").ends_with("also: umount2: device or resource busy (EBUSY)"));
        // What to do about each, once.
        let each = [("open", "a"), ("read", "b"), ("write", "a")];
        let all = Error::all(each.map(|(call, hint)| Error::from_errno(call, libc::EIO).with_hint(hint)));
        let error = all.unwrap_err();
        assert!(format!("{error:#}").ends_with("(EIO)\n  hint: a\n  hint: b"), "{error:#}");
        assert!(format!("{error:?}").ends_with("(EIO)\n  hint: a\n  hint: b"), "{error:?}");
    }

    #[test]
    fn the_io_error_keeps_the_kind_and_the_source() {
        let io = std::io::Error::from(Error::from_errno("openat2", libc::ENOENT));
        assert_eq!(io.kind(), std::io::ErrorKind::NotFound);
        assert!(io.to_string().contains("ENOENT"));
    }
}
