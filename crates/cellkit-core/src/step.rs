//! One system call of a plan, in words.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::Subject;

/// One system call of a plan in words: what `cellrun box --explain` prints and what an error is made from.
///
/// ```
/// use cellkit_core::StepText;
///
/// let step = StepText::new("sethostname", r#""web", 3"#, "the container has a name of its own");
/// assert_eq!(step.to_string(), r#"sethostname("web", 3)"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepText {
    /// The operation: the kernel's own name, as in [`Error::operation`](crate::Error::operation).
    pub call: Cow<'static, str>,
    /// The arguments, as strace would print them.
    pub arguments: String,
    /// Why the step is there, in one short clause.
    pub reason: Cow<'static, str>,
    /// What an error at this step is about.
    pub subject: Option<Subject>,
}

impl StepText {
    /// A step without a subject.
    pub fn new(
        call: impl Into<Cow<'static, str>>,
        arguments: impl Into<String>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { call: call.into(), arguments: arguments.into(), reason: reason.into(), subject: None }
    }

    /// The same step, with what it is done to.
    #[must_use]
    pub fn on(mut self, subject: impl Into<Subject>) -> Self {
        self.subject = Some(subject.into());
        self
    }
}

impl fmt::Display for StepText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.call, self.arguments)
    }
}

/// Who is told of every step a library makes in the calling process, as it is made: `--trace` is one.
///
/// `()` is the observer that does not listen.
pub trait Observer {
    /// `step` has been made, and took this long.
    fn made(&mut self, step: StepText, took: Duration);

    /// Whether anybody listens; a library need not build the text when nobody does.
    fn listens(&self) -> bool {
        true
    }
}

impl Observer for () {
    fn made(&mut self, _: StepText, _: Duration) {}
    fn listens(&self) -> bool {
        false
    }
}

impl Observer for Vec<(StepText, Duration)> {
    fn made(&mut self, step: StepText, took: Duration) {
        self.push((step, took));
    }
}
