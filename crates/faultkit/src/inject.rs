//! Faults at every system call: each is made to fail, or the process that makes it is killed, one run each.
//!
//! ```text
//!   the test's process                      a fork of it, one a run
//!   ------------------                      -----------------------
//!                                           write the ledger down
//!   fork ─────────────────────────────────► body: what it prepares for itself
//!   PTRACE_SEIZE ◄───────────────────────── Counted::run: ready
//!   go ───────────────────────────────────► begin
//!   count the calls of each task;           the counted part, and the children that it clones,
//!   at the k-th do it, then let go          each until its execve
//!                                           end; the ledger must be as before
//!   judge ◄──────────────────────────────── what the body returned
//! ```
//!
//! A run is one fork and costs about as much as the body does: after the fault nothing stops at system calls any more, and
//! the ledger of each run leaves out what takes other programs to find out (links, addresses, rules). Those are compared
//! once, when the [`isolated!`](crate::isolated) test ends, which a sweep has to be part of: the forks need a process
//! with one thread, whose orphans come to it.
#![forbid(unsafe_code)]

mod names;
mod spared;
mod tracer;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Ledger;
use crate::sys::{SharedPage, ptrace};
use spared::SPARED;
use tracer::{Target, Trace};

const MARK: u64 = 0x6661_756c_746b_6974;
const BEGIN: u64 = 1;
const END: u64 = 2;

/// What happens at a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not made and fails with this errno. A close(2) is made and fails all the same, as the kernel's does.
    Fail(i32),
    /// The process that is about to make it gets SIGKILL.
    Kill,
    /// The process that runs the body gets SIGKILL, and has ended when the call is made.
    KillCaller,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(errno) => write!(f, "errno {errno} ({})", std::io::Error::from_raw_os_error(*errno)),
            Self::Kill => f.write_str("SIGKILL for the process"),
            Self::KillCaller => f.write_str("SIGKILL for the caller"),
        }
    }
}

/// One system call of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// Whose: 0 is the caller, others are the processes and threads it cloned, as they came.
    pub task: usize,
    /// The how many-th of this task, from 1.
    pub number: usize,
    /// Its name, such as `openat`.
    pub name: String,
    /// Its arguments. Pointers among them mean nothing here.
    pub args: [u64; 6],
}

impl Call {
    /// Whether the body's own thread makes it, and not a child.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        self.task == 0
    }
}

impl fmt::Display for Call {
    /// `call 17 of the caller, openat(0xffffff9c, ...)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.args;
        write!(f, "call {} of ", self.number)?;
        match self.task {
            0 => f.write_str("the caller")?,
            task => write!(f, "child {task}")?,
        }
        write!(f, ", {}({a:#x}, {b:#x}, {c:#x}, {d:#x})", self.name)
    }
}

/// An error of the body, as its judge gets to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed: the name of a system call.
    pub operation: String,
    /// With which errno.
    pub errno: Option<i32>,
    /// What it says.
    pub text: String,
}

impl Failure {
    /// From the parts of an error.
    pub fn new(operation: impl Into<String>, errno: Option<i32>, text: impl fmt::Display) -> Self {
        Self { operation: operation.into(), errno, text: text.to_string() }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The body returned this.
    Returned(Result<(), Failure>),
    /// The caller was killed, as it was to be.
    Killed,
}

/// A run in which the fault happened, for the judge.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// What was done.
    pub fault: Fault,
    /// At which call.
    pub call: Call,
    /// What came of it.
    pub end: End,
}

/// Given to the body, which runs in it what is to be counted.
#[derive(Debug)]
pub struct Counted<'a>(&'a SharedPage);

impl Counted<'_> {
    /// The part of the body whose system calls count, and those of the processes that it makes, each until its execve.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        self.0.await_go();
        ptrace::mark(MARK, BEGIN);
        let result = work();
        ptrace::mark(MARK, END);
        result
    }
}

/// A body to be run once for each of its system calls, with a fault at that call.
///
/// ```no_run
/// use faultkit::{End, Failure, Fault, Sweep};
///
/// faultkit::isolated!(|| {
///     let sweep = Sweep::new(|counted| {
///         let error = |error: std::io::Error| Failure::new("openat", error.raw_os_error(), &error);
///         counted.run(|| std::fs::read("/etc/passwd")).map(drop).map_err(error)
///     });
///     // Every call fails once; no descriptor, child, mount or group may be left, and the error must be the one injected.
///     sweep.each(Fault::Fail(libc::EMFILE), |run| match &run.end {
///         End::Returned(Err(failure)) if failure.errno == Some(libc::EMFILE) => Ok(()),
///         other => Err(format!("{other:?}")),
///     });
/// });
/// ```
#[must_use = "a sweep does nothing until `each`"]
pub struct Sweep<'a> {
    body: Box<Body<'a>>,
    spares: Vec<(Box<Spares<'a>>, &'static str)>,
    observe: Box<dyn Fn() -> Vec<String> + 'a>,
    recover: Box<dyn Fn() + 'a>,
    limit: Duration,
    stride: usize,
    ends_of_rows: bool,
}

type Body<'a> = dyn Fn(&Counted<'_>) -> Result<(), Failure> + 'a;
type Spares<'a> = dyn Fn(&Call) -> bool + 'a;

impl fmt::Debug for Sweep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweep").field("limit", &self.limit).field("stride", &self.stride).finish_non_exhaustive()
    }
}

/// What a sweep has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// How many runs met the fault.
    pub runs: usize,
    /// How many calls were not made again in three more runs, by a body whose calls vary.
    pub unmet: usize,
    /// How many calls were left alone, for each reason.
    pub spared: BTreeMap<&'static str, usize>,
}

/// More than this is not told of one sweep.
const MOST_PROBLEMS: usize = 25;

impl<'a> Sweep<'a> {
    /// A sweep over what `body` runs in [`Counted::run`]. The body is run in a fork each time; it must succeed when nothing
    /// is injected, and should make the same calls each time. Children that the test itself has must not end meanwhile.
    pub fn new(body: impl Fn(&Counted<'_>) -> Result<(), Failure> + 'a) -> Self {
        Self {
            body: Box::new(body),
            spares: Vec::new(),
            observe: Box::new(Vec::new),
            recover: Box::new(|| {}),
            limit: Duration::from_secs(10) * crate::slowness(),
            stride: 1,
            ends_of_rows: false,
        }
    }

    /// Does not let the calls fail for which `is` holds, and says why. There is a list for all sweeps already: what
    /// cannot fail, the allocator's and the C library's own calls, and what the test itself writes.
    pub fn spare(mut self, why: &'static str, is: impl Fn(&Call) -> bool + 'a) -> Self {
        self.spares.push((Box::new(is), why));
        self
    }

    /// What else must be the same in the process before and after the body: asked there, twice a run.
    pub fn observe(mut self, lines: impl Fn() -> Vec<String> + 'a) -> Self {
        self.observe = Box::new(lines);
        self
    }

    /// Puts in order what a killed caller leaves, as the crate promises that it can be: run after each kill of the caller,
    /// before the ledgers are compared.
    pub fn recover(mut self, recover: impl Fn() + 'a) -> Self {
        self.recover = Box::new(recover);
        self
    }

    /// How long one run may take: ten seconds unless told, and more in an emulated machine.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit * crate::slowness();
        self
    }

    /// Of calls of the same name that follow each other, only the first and the last: for the second errno and those after
    /// it, which say nothing new at each of the 40 calls of one loop.
    pub fn ends_of_rows(mut self) -> Self {
        self.ends_of_rows = true;
        self
    }

    /// Only every `stride`-th call, for the slow machine.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride.max(1);
        self
    }

    /// The calls of each task when nothing is injected.
    ///
    /// # Panics
    /// When the body fails, or leaves something behind.
    #[track_caller]
    pub fn calls(&self) -> Vec<Vec<Call>> {
        let page = SharedPage::new().unwrap_or_else(|e| panic!("mmap: {e}"));
        let trace = self.run(&page, None);
        match answer(&trace, &page) {
            Ok((Ok(()), differences)) if differences.is_empty() && trace.hung.is_empty() => trace.calls,
            other => panic!("the body fails without any fault: {other:?} {}", trace.hung.join("\n")),
        }
    }

    /// Runs the body once for each system call of each task, with `fault` at that call, and lets `judge` say whether what
    /// came of it is right. Whatever the judge says, nothing may be left behind, panic or hang.
    ///
    /// # Panics
    /// When something was wrong, with a line for each: the call, the fault, and what was wrong.
    #[track_caller]
    pub fn each(&self, fault: Fault, mut judge: impl FnMut(&Run) -> Result<(), String>) -> Swept {
        assert!(is_alone(), "a sweep forks: it needs a process with one thread, which isolated! gives");
        let here = Ledger::quick();
        let calls = self.calls();
        let mut problems = Vec::new();
        let mut swept = Swept { runs: 0, unmet: 0, spared: BTreeMap::new() };
        for (task, calls) in calls.iter().enumerate() {
            for number in (1..).step_by(self.stride) {
                let known = calls.get(number - 1);
                if self.ends_of_rows && is_within_row(calls, number - 1) {
                    continue;
                }
                if let Some(why) = known.and_then(|call| self.spares(fault, call)) {
                    *swept.spared.entry(why).or_default() += 1;
                    continue;
                }
                let mut page = SharedPage::new().unwrap_or_else(|e| panic!("mmap: {e}"));
                let spares = |call: &Call| self.spares(fault, call).is_some();
                let target = Target { task, number, fault, spares: &spares };
                let mut trace = self.run(&page, Some(&target));
                for _ in 0..3 {
                    if trace.hit.is_some() || trace.spared || known.is_none() || !trace.hung.is_empty() {
                        break;
                    }
                    page = SharedPage::new().unwrap_or_else(|e| panic!("mmap: {e}"));
                    trace = self.run(&page, Some(&target));
                }
                let Some(call) = &trace.hit else {
                    match known {
                        // Past the last one.
                        None => break,
                        Some(call) if !trace.hung.is_empty() => {
                            problems.push(format!("{call}, without a fault, hangs: {}", trace.hung.join("; ")));
                        }
                        Some(_) if trace.spared => {}
                        Some(_) => swept.unmet += 1,
                    }
                    continue;
                };
                swept.runs += 1;
                let mut say = |what: String| problems.push(format!("{fault} at {call}: {what}"));
                if !trace.hung.is_empty() {
                    say(format!("did not end within {:?}: {}", self.limit, trace.hung.join("; ")));
                    continue;
                }
                let killed = trace.status.is_some_and(|status| libc::WTERMSIG(status) == libc::SIGKILL);
                let end = if killed && !matches!(fault, Fault::Fail(_)) {
                    (self.recover)();
                    settled(&here).into_iter().for_each(&mut say);
                    End::Killed
                } else {
                    match answer(&trace, &page) {
                        Ok((returned, differences)) => {
                            differences.into_iter().for_each(&mut say);
                            End::Returned(returned)
                        }
                        Err(why) => {
                            say(why);
                            continue;
                        }
                    }
                };
                let run = Run { fault, call: call.clone(), end };
                if let Err(why) = judge(&run) {
                    say(why);
                }
                if problems.len() >= MOST_PROBLEMS {
                    break;
                }
            }
        }
        settled(&here).into_iter().for_each(|difference| problems.push(format!("after all runs: {difference}")));
        let (wrong, runs) = (problems.len(), swept.runs);
        assert!(problems.is_empty(), "{wrong} wrong in {runs} runs with {fault}:\n  {}", problems.join("\n  "));
        swept
    }

    /// Why a call is left alone, if it is.
    fn spares(&self, fault: Fault, call: &Call) -> Option<&'static str> {
        if !matches!(fault, Fault::Fail(_)) {
            return None;
        }
        let of_all = SPARED.iter().find(|spared| (spared.is)(call)).map(|spared| spared.why);
        of_all.or_else(|| self.spares.iter().find(|(is, _)| is(call)).map(|(_, why)| *why))
    }

    #[track_caller]
    fn run(&self, page: &SharedPage, target: Option<&Target<'_>>) -> Trace {
        let body = || {
            let (before, seen) = (Ledger::quick(), (self.observe)());
            let returned = catch_unwind(AssertUnwindSafe(|| (self.body)(&Counted(page))));
            let mut differences = settled(&before);
            let now = (self.observe)();
            if now != seen {
                differences.push(format!("{seen:?} became {now:?}"));
            }
            page.answer(tell(returned, &differences).to_string().as_bytes());
        };
        tracer::run(body, page, target, self.limit).unwrap_or_else(|e| panic!("could not trace a fork: {e}"))
    }
}

/// The differences that do not go away within a second.
fn settled(before: &Ledger) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(1) * crate::slowness();
    loop {
        let differences = before.differences();
        if differences.is_empty() || Instant::now() > deadline {
            return differences;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the calls before and after this one have its name too.
fn is_within_row(calls: &[Call], index: usize) -> bool {
    let name = |index: Option<usize>| calls.get(index?).map(|call| &call.name);
    let this = name(Some(index));
    this.is_some() && name(index.checked_sub(1)) == this && name(index.checked_add(1)) == this
}

/// Whether this is the only thread. One that was joined is in the list of tasks for a moment longer.
fn is_alone() -> bool {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
        if alone || Instant::now() > until {
            return alone;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

type Returned = Result<(), Failure>;

/// In the fork: what its answer is.
fn tell(returned: std::thread::Result<Returned>, differences: &[String]) -> Value {
    let returned = match returned {
        Ok(Ok(())) => json!({ "ok": true }),
        Ok(Err(failure)) => json!({ "operation": failure.operation, "errno": failure.errno, "text": failure.text }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            json!({ "panic": text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without words") })
        }
    };
    json!({ "returned": returned, "differences": differences })
}

/// What the fork, which has ended, answered: what its body returned, and what differed.
fn answer(trace: &Trace, page: &SharedPage) -> Result<(Returned, Vec<String>), String> {
    let text = page.text();
    let Ok(all) = serde_json::from_slice::<Value>(&text) else {
        return Err(match trace.status {
            Some(status) if libc::WIFSIGNALED(status) => {
                format!("the caller died of signal {}", libc::WTERMSIG(status))
            }
            status => format!("the caller ended with wait status {status:?} and did not answer"),
        });
    };
    let returned = &all["returned"];
    let text = |key: &str| returned[key].as_str().unwrap_or_default().to_owned();
    if returned["panic"].is_string() {
        return Err(format!("the body panicked: {}", text("panic")));
    }
    let differences = all["differences"].as_array().into_iter().flatten();
    let differences = differences.filter_map(|line| Some(line.as_str()?.to_owned())).collect();
    if returned["ok"] == true {
        return Ok((Ok(()), differences));
    }
    let errno = returned["errno"].as_i64().and_then(|errno| i32::try_from(errno).ok());
    Ok((Err(Failure { operation: text("operation"), errno, text: text("text") }), differences))
}
