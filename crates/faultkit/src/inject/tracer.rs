//! One run of a body under ptrace: counts its system calls, and does one thing at one of them.
//!
//! Every task (the body's own thread, and each process or thread cloned below it) counts for itself: between two that run
//! at the same time there is no order that would be the same in the next run. A process stops being followed when it
//! executes a program. As soon as the fault has happened, or the counted part has ended, everything runs on freely,
//! without a stop at each system call.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use super::{BEGIN, Call, END, Fault, MARK, names};
use crate::scan;
use crate::sys::ptrace::{self, Change, ChildSignal, Place, Resume};
use crate::sys::{self, SharedPage};

/// Where to do what.
pub(super) struct Target<'a> {
    pub(super) task: usize,
    pub(super) number: usize,
    pub(super) fault: Fault,
    /// Says of the call that is met there whether it is to be left alone.
    pub(super) spares: &'a dyn Fn(&Call) -> bool,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// The calls of each task, in order.
    pub(super) calls: Vec<Vec<Call>>,
    /// The call at which the fault happened.
    pub(super) hit: Option<Call>,
    /// The call was met and left alone.
    pub(super) spared: bool,
    /// How the body's own process ended.
    pub(super) status: Option<i32>,
    /// What was still running when time was up.
    pub(super) hung: Vec<String>,
}

/// Runs `body` in a fork and follows it.
pub(super) fn run(
    body: impl FnOnce(),
    page: &SharedPage,
    target: Option<&Target<'_>>,
    limit: Duration,
) -> io::Result<Trace> {
    let signal = ChildSignal::block();
    let known = scan::processes::family();
    let deadline = Instant::now() + limit;
    let caller = ptrace::fork(|| {
        signal.restore();
        body();
    })?;
    let mut tracer = Tracer {
        page,
        target,
        caller,
        counting: false,
        free: false,
        tasks: BTreeMap::from([(caller, Task { index: 0, answer: None, is_told: true })]),
        early: BTreeSet::new(),
        gone_early: BTreeSet::new(),
        held: Vec::new(),
        known,
        trace: Trace { calls: vec![Vec::new()], ..Trace::default() },
    };
    while !page.is_ready(Duration::from_millis(5)) {
        match ptrace::wait(Instant::now())? {
            Some((pid, Change::Ended(status))) if pid == caller => {
                tracer.trace.status = Some(status);
                return Ok(tracer.trace);
            }
            _ => {}
        }
        if Instant::now() > deadline {
            tracer.end_all();
            return Ok(tracer.trace);
        }
    }
    ptrace::seize(caller)?;
    ptrace::interrupt(caller);
    while !tracer.tasks.is_empty() || !tracer.early.is_empty() {
        match ptrace::wait(deadline)? {
            Some((pid, change)) => tracer.on(pid, change),
            None => {
                tracer.end_all();
                return Ok(tracer.trace);
            }
        }
    }
    // What was no longer followed is this process's to reap, once its parent has died.
    let mut pause = Duration::from_millis(1);
    while let Ok(change) = ptrace::wait(Instant::now() + pause) {
        if change.is_some() {
            continue;
        }
        if scan::processes::family().is_subset(&tracer.known) {
            break;
        }
        if Instant::now() > deadline {
            tracer.end_all();
            break;
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(tracer.trace)
}

struct Task {
    index: usize,
    /// What its system call is to answer instead.
    answer: Option<i64>,
    /// Its maker has told of it.
    is_told: bool,
}

struct Tracer<'a> {
    page: &'a SharedPage,
    target: Option<&'a Target<'a>>,
    caller: i32,
    /// Between the marks.
    counting: bool,
    /// Nothing is left to be done: no more stops at system calls.
    free: bool,
    tasks: BTreeMap<i32, Task>,
    /// Attached before their parent said that it made them.
    early: BTreeSet<i32>,
    /// Ended, or executed a program, before that.
    gone_early: BTreeSet<i32>,
    /// Stopped at a system call until the caller, which was killed, has ended.
    held: Vec<i32>,
    /// Were there before.
    known: BTreeSet<i32>,
    trace: Trace,
}

impl Tracer<'_> {
    fn on(&mut self, pid: i32, change: Change) {
        if let Change::Ended(status) = change {
            self.forget(pid);
            if pid == self.caller {
                self.trace.status = Some(status);
                for held in std::mem::take(&mut self.held) {
                    ptrace::resume(held, Resume::Freely, 0);
                }
            }
            return;
        }
        if !self.tasks.contains_key(&pid) {
            if !self.free {
                self.early.insert(pid);
                return;
            }
            self.tasks.insert(pid, Task { index: usize::MAX, answer: None, is_told: false });
        }
        match change {
            Change::Call => {
                if !self.on_call(pid) {
                    return;
                }
            }
            Change::Cloned(made) => {
                match self.tasks.get_mut(&made) {
                    Some(task) => task.is_told = true,
                    // Nothing more is to come of it. 0: the maker was killed before it could be asked, and what it made
                    // is told of by its own end.
                    None if made == 0 || self.gone_early.remove(&made) => {}
                    None => {
                        self.tasks.insert(made, Task { index: self.trace.calls.len(), answer: None, is_told: true });
                        self.trace.calls.push(Vec::new());
                    }
                }
                if self.early.remove(&made) {
                    self.resume(made, 0);
                }
            }
            Change::Executed => {
                self.forget(pid);
                ptrace::detach(pid);
                return;
            }
            Change::Attached if pid == self.caller && !self.counting => self.page.go(),
            Change::JobStopped => return ptrace::resume(pid, Resume::Listen, 0),
            Change::Signal(signal) => return self.resume(pid, signal),
            Change::Attached | Change::Ended(_) => {}
        }
        self.resume(pid, 0);
    }

    fn resume(&self, pid: i32, signal: i32) {
        let pending = self.tasks.get(&pid).is_some_and(|task| task.answer.is_some());
        let how = if self.free && !pending { Resume::Freely } else { Resume::ToNextCall };
        ptrace::resume(pid, how, signal);
    }

    /// Nothing more is to come of it.
    fn forget(&mut self, pid: i32) {
        self.early.remove(&pid);
        if !self.tasks.remove(&pid).is_some_and(|task| task.is_told) {
            self.gone_early.insert(pid);
        }
    }

    /// From now on nothing stops at system calls.
    fn set_free(&mut self) {
        self.free = true;
        for pid in std::mem::take(&mut self.early) {
            self.tasks.insert(pid, Task { index: usize::MAX, answer: None, is_told: false });
            ptrace::resume(pid, Resume::Freely, 0);
        }
    }

    /// Whether the task goes on at once.
    fn on_call(&mut self, pid: i32) -> bool {
        let Some(task) = self.tasks.get_mut(&pid) else { return true };
        match ptrace::call(pid) {
            Place::Entry(number, [MARK, what, ..]) if number == libc::SYS_getpid as u64 => match what {
                BEGIN => self.counting = true,
                END => self.set_free(),
                _ => {}
            },
            Place::Entry(number, args) if self.counting && !self.free => return self.on_entry(pid, number, args),
            Place::Exit(answer) => {
                if let Some(answer) = task.answer.take() {
                    ptrace::set_answer(pid, answer);
                    self.set_free();
                } else if RESTARTS.contains(&answer) {
                    // A signal came: the call will be made again, and is the same one then.
                    if let Some(calls) = self.trace.calls.get_mut(task.index) {
                        calls.pop();
                    }
                }
            }
            Place::Entry(..) | Place::Elsewhere => {}
        }
        true
    }

    fn on_entry(&mut self, pid: i32, number: u64, args: [u64; 6]) -> bool {
        let Some(task) = self.tasks.get_mut(&pid) else { return true };
        let Some(calls) = self.trace.calls.get_mut(task.index) else { return true };
        let call = Call { task: task.index, number: calls.len() + 1, name: names::name_of(number), args };
        calls.push(call.clone());
        let Some(target) = self.target.filter(|target| (target.task, target.number) == (call.task, call.number)) else {
            return true;
        };
        if (target.spares)(&call) {
            self.trace.spared = true;
            self.set_free();
            return true;
        }
        let happens_all_the_same = HAPPENS.contains(&call.name.as_str());
        self.trace.hit = Some(call);
        match target.fault {
            Fault::Fail(errno) => {
                task.answer = Some(-i64::from(errno));
                if !happens_all_the_same {
                    ptrace::skip_call(pid);
                }
                true
            }
            Fault::Kill => {
                sys::kill(pid);
                self.set_free();
                true
            }
            Fault::KillCaller => {
                sys::kill(self.caller);
                self.set_free();
                if pid != self.caller {
                    self.held.push(pid);
                }
                false
            }
        }
    }

    /// Time is up: says what is still there, and ends it.
    fn end_all(&mut self) {
        self.trace.hung = scan::processes::waiting_beside(&self.known);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let left: Vec<i32> = scan::processes::family().difference(&self.known).copied().collect();
            if left.is_empty() {
                return;
            }
            left.into_iter().for_each(sys::kill);
            // One may have been cloned meanwhile: it dies in the next round.
            let _ = ptrace::wait(Instant::now() + Duration::from_millis(5));
        }
    }
}

/// Answers of the kernel to itself that a tracer sees: -ERESTARTSYS, -ERESTARTNOINTR, -ERESTARTNOHAND and
/// -ERESTART_RESTARTBLOCK.
const RESTARTS: [i64; 4] = [-512, -513, -514, -516];

/// Calls that do their work whatever they answer: a descriptor is closed although close(2) fails.
const HAPPENS: [&str; 1] = ["close"];
