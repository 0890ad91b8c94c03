//! One attach under way, on a thread of its own.
//!
//! Theory of operation. Everything between the decision and the last message is done by one thread: it holds the lock,
//! makes what is missing of the network and the host's side in the network namespace that it was born in, enters the
//! container's, sets and opens what belongs there, and ends there. So there is one thread for an attach and one setns(2),
//! and nothing waits for a runtime in between.
//!
//! Who called waits for what the thread tells. Each step is told of as it was made, and the thread goes on when it was
//! taken notice of; nobody listening means that the future was dropped. Then, as on an error, the thread undoes what it
//! did. What was made belongs to a [`RollbackGuard`] until the caller has it in hand: also a result that is never picked
//! up undoes itself.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use cellkit_core::{Error, ErrorKind, Observer, Result, StepText, Subject};
use tokio::sync::mpsc;

use crate::exchange::{Mode, Request};
use crate::forwarding::{self, Switch};
use crate::hint::HINTS;
use crate::lease::State;
use crate::limit;
use crate::lock::Lock;
use crate::name::IfName;
use crate::netns::{JoinGuard, died, enter, spawn_small};
use crate::network::{Network, Wiring};
use crate::obstacle;
use crate::plan::{self, Action, Channel, End, Known, Layout, Missing, Numbers, Side, Step};
use crate::record::Record;
use crate::settle;
use crate::socket::{Family, Socket};
use crate::spec::Checked;
use crate::sysctl;
use crate::teardown::RollbackGuard;

/// What the thread tells.
enum Told {
    /// Steps were made. It goes on when it is told that this was seen.
    Made(Vec<StepText>, Duration),
    /// The end. The guard undoes all of it unless it is disarmed.
    Done(Result<Box<(Record, RollbackGuard)>>),
}

/// Attaches, and tells the observer. When the future is dropped, everything is undone before that returns.
pub(crate) async fn attach<O: Observer + ?Sized>(work: Work, lock: Lock, observer: &mut O) -> Result<Record> {
    // Dropped in the reverse order: first nobody listens any more, then the thread's end is awaited.
    let mut thread = JoinGuard(None);
    let (tell, mut told) = mpsc::unbounded_channel();
    let (seen, answers) = sync_channel(1);
    let answers = observer.listens().then_some(answers);
    thread.0 = Some(spawn_small(move || {
        let talker = Talker { tell: tell.clone(), answers };
        // Nobody listens when the future was dropped: what was not taken undoes itself.
        let _ = tell.send(Told::Done(work.run(lock, &talker).map(Box::new)));
    })?);
    loop {
        match told.recv().await {
            Some(Told::Made(texts, took)) => {
                report(observer, texts, took);
                let _ = seen.send(());
            }
            Some(Told::Done(result)) => {
                return result.map(|made| {
                    let (record, rollback) = *made;
                    rollback.disarm();
                    record
                });
            }
            None => return Err(died()),
        }
    }
}

fn report<O: Observer + ?Sized>(observer: &mut O, texts: Vec<StepText>, took: Duration) {
    // What was done in one go is told of with the time of the whole at its end.
    let last = texts.len().saturating_sub(1);
    for (index, text) in texts.into_iter().enumerate() {
        observer.made(text, if index == last { took } else { Duration::ZERO });
    }
}

/// The thread's way to who called.
struct Talker {
    tell: mpsc::UnboundedSender<Told>,
    /// That what was told was seen; `None` where nobody is to see it. Its other end is with who called, and not in what is
    /// told: a message that crosses the drop of the future stays in the channel for as long as there is a sender, and this
    /// thread would wait for itself.
    answers: Option<Receiver<()>>,
}

impl Talker {
    /// Tells of what was made, and fails when nobody waits for it any more.
    fn made(&self, steps: &[Step], took: Duration) -> Result<()> {
        let alive = match &self.answers {
            Some(answers) => {
                let texts = steps.iter().flat_map(Step::describe).collect();
                self.tell.send(Told::Made(texts, took)).is_ok() && answers.recv().is_ok()
            }
            None => !self.tell.is_closed(),
        };
        if alive { Ok(()) } else { Err(Error::other("attach", "nobody waits for it any more")) }
    }
}

/// One attach under way.
pub(crate) struct Work {
    network: Network,
    layout: Layout,
    checked: Checked,
    netns: OwnedFd,
    rollback: RollbackGuard,
    known: Known,
    /// What removes the tables of which one is missing, in the transaction that makes them anew.
    leftovers: Vec<Request>,
    /// A connection inside, once the thread is there.
    inside: Option<Socket>,
}

impl Work {
    pub(crate) fn new(
        network: &Network,
        layout: Layout,
        checked: Checked,
        netns: OwnedFd,
        rollback: RollbackGuard,
    ) -> Self {
        let network = network.clone();
        Self { network, layout, checked, netns, rollback, known: Known::default(), leftovers: Vec::new(), inside: None }
    }

    fn run(mut self, lock: Lock, talker: &Talker) -> Result<(Record, RollbackGuard)> {
        let result = self.prepare(lock, talker).and_then(|record| {
            self.make(&plan::container(&self.layout.clone(), &record, self.checked.metric), talker)?;
            Ok(record)
        });
        match result {
            Ok(record) => Ok((record, self.rollback)),
            Err(error) => {
                let doing = format!("attach {:?} to {}", self.checked.owner.as_str(), self.layout.name);
                let errors = std::iter::once(error.context(doing)).chain(self.rollback.roll_back());
                // There is at least one.
                Error::all(errors).and(Err(Error::other("attach", "failed")))
            }
        }
    }

    /// What needs the lock: the lease, and what the containers share.
    fn prepare(&mut self, lock: Lock, talker: &Talker) -> Result<Record> {
        let state = self.network.state();
        obstacle::check_ports(&self.layout, &self.checked)?;
        let missing = self.missing(&lock, &state)?;
        let claimed = state.claim(&lock, &self.layout, &self.checked, |addresses| {
            self.checked.record(&self.network, &self.layout, addresses.to_vec())
        });
        let record = claimed.map_err(|error| {
            // Undone while the lock is held: after that, the owner's lease could be somebody else's.
            let errors = self.rollback.host.take_down_shared(&lock, &state, &self.layout.name);
            match Error::all(std::iter::once(error).chain(errors)) {
                Err(error) => error,
                Ok(()) => Error::other("attach", "failed"),
            }
        })?;
        self.rollback.arm(&record);
        for (switch, turn_on) in
            [(Switch::V4, missing.forwarding_v4), (Switch::V6, missing.forwarding_v6 && self.layout.has_ipv6())]
        {
            if turn_on {
                switch.remember(&lock, &state, &self.rollback.host.proc)?;
            }
        }
        self.make(&plan::network(&self.layout.clone(), missing), talker)?;
        if missing.table {
            self.fill_again(&state, &record)?;
        }
        Ok(record)
    }

    /// What there is not yet of what the containers share. Somebody else's things of its names are an error.
    fn missing(&mut self, lock: &Lock, state: &State) -> Result<Missing> {
        let host = &self.rollback.host;
        let bridge = host.bridge_of(&self.layout)?;
        self.known.bridge = bridge.as_ref().map(|link| link.index);
        let leftovers = host.check_tables(&self.layout)?;
        let table = leftovers.is_some();
        self.leftovers = leftovers.unwrap_or_default();
        if table || (bridge.is_none() && self.layout.wiring == Wiring::Bridge) {
            // The first one, or somebody removed what was there: rare, so all leases may be read.
            if state.in_use(lock)? {
                state.leases()?.iter().try_for_each(|lease| lease.check_wiring(self.layout.wiring))?;
            } else if bridge.is_none() {
                obstacle::check_ranges(host, &self.layout)?;
            }
        }
        let missing = Missing {
            bridge: bridge.is_none(),
            table,
            forwarding_v4: !Switch::V4.is_on(&host.proc)?,
            forwarding_v6: self.layout.has_ipv6() && !Switch::V6.is_on(&host.proc)?,
        };
        if missing.forwarding_v6 {
            forwarding::check_advertised_routes(host)?;
        }
        Ok(missing)
    }

    /// After somebody removed the table (`nft flush ruleset`): the elements of the containers that were there.
    fn fill_again(&self, state: &State, record: &Record) -> Result<()> {
        let mut requests = Vec::new();
        for lease in state.leases()?.iter().filter(|lease| lease.owner != record.owner) {
            requests.extend(plan::admit(lease)?);
            requests.extend(plan::publish(lease, self.layout.settings)?);
        }
        self.rollback.host.tables(&self.layout.name).make(&requests)
    }

    /// Makes the steps, in as few goes as their channels allow.
    fn make(&mut self, steps: &[Step], talker: &Talker) -> Result<()> {
        for run in plan::runs(steps) {
            let start = Instant::now();
            let Some(channel) = run.first().map(Step::channel) else { continue };
            match channel {
                Channel::Sysctls(side) => self.sysctls(side, run)?,
                Channel::NewLink(end) => self.new_link(end, &self.requests(run)?)?,
                Channel::Route(side) => {
                    let (socket, requests) = (self.route(side)?, self.requests(run)?);
                    let answers = socket.talk(&requests, Mode::Each).map_err(limit::explain)?;
                    settle::wait(socket, &requests, answers)?;
                }
                Channel::FirstOf => limit::first_of(&self.rollback.host, &self.requests(run)?)?,
                Channel::Netfilter => self.netfilter(run)?,
            }
            talker.made(run, start.elapsed())?;
        }
        Ok(())
    }

    fn requests(&self, steps: &[Step]) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        for step in steps {
            if matches!(step, Step::NewTable(_)) {
                requests.extend(self.leftovers.iter().cloned());
            }
            requests.extend(step.requests(&self.known, self.netns.as_fd(), self.layout.settings)?);
        }
        Ok(requests)
    }

    fn route(&self, side: Side) -> Result<&Socket> {
        match side {
            Side::Host => Ok(&self.rollback.host.route),
            Side::Container => self
                .inside
                .as_ref()
                .ok_or_else(|| Error::other("setns", "the container's namespace was not entered yet")),
        }
    }

    /// Makes an interface and learns its number. What acts on it comes later: had the name been taken, it would act on
    /// somebody else's.
    fn new_link(&mut self, end: End, requests: &[Request]) -> Result<()> {
        let answers = self.rollback.host.route.talk(requests, Mode::Each).map_err(|error| match end {
            End::Ifb => limit::explain_ifb(error),
            End::Bridge => self.bridge_gone(error),
            _ => self.name_taken(self.bridge_gone(error)),
        })?;
        let numbers = answers
            .last()
            .and_then(|body| Numbers::parse(body))
            .ok_or_else(|| Error::parse("RTM_GETLINK", "the kernel's answer has no interface"))?;
        match end {
            End::Bridge => self.known.bridge = Some(numbers.index),
            End::Ifb => self.known.ifb = Some(numbers.index),
            _ => (self.known.host, self.known.container) = (Some(numbers.index), numbers.peer),
        }
        Ok(())
    }

    /// The kernel calls the number of a bridge that vanished an invalid argument.
    fn bridge_gone(&self, error: Error) -> Error {
        let host = &self.rollback.host;
        let was = self.known.bridge.filter(|_| error.raw_os_error() == Some(libc::EINVAL));
        match (was, host.bridge_of(&self.layout)) {
            (Some(index), Ok(bridge)) if bridge.as_ref().map(|link| link.index) != Some(index) => {
                Error::gone("RTM_NEWLINK", Some(libc::ENODEV))
                    .on(Subject::Interface(self.layout.name.to_string()))
                    .with_hints(&HINTS)
            }
            _ => error,
        }
    }

    /// The kernel says of either end's name that it is taken, and does not say of which.
    fn name_taken(&self, error: Error) -> Error {
        let name = IfName::of_owner(&self.layout.name, &self.checked.owner);
        if error.raw_os_error() != Some(libc::EEXIST) || !matches!(self.rollback.host.link(&name), Ok(None)) {
            return error;
        }
        Error::from_errno("RTM_NEWLINK", libc::EEXIST)
            .on(Subject::Thing(format!("interface {:?} of the container", self.checked.ifname.as_str())))
            .with_hint(
                "the container has an interface of this name, of another network perhaps: choose one by Attach::ifname",
            )
    }

    /// Sets the values. Those inside are preceded by the thread's one setns(2), and a connection is opened there.
    fn sysctls(&mut self, side: Side, steps: &[Step]) -> Result<()> {
        if side == Side::Container && self.inside.is_none() {
            enter(&self.netns)?;
            self.inside = Some(Socket::open(Family::Route)?);
        }
        for step in steps {
            if let Step::Sysctls { list, .. } = step {
                // What is expected before what is done.
                let (expected, written): (Vec<_>, Vec<_>) =
                    list.iter().partition(|sysctl| sysctl.action == Action::Expect);
                for sysctl in expected.into_iter().chain(written) {
                    let is_there = sysctl::apply(&self.rollback.host.proc, sysctl)?;
                    // Only switches of IPv6 may be missing.
                    self.known.without_ipv6 |= side == Side::Host && !is_there;
                }
            }
        }
        Ok(())
    }

    fn netfilter(&mut self, steps: &[Step]) -> Result<()> {
        let requests = self.requests(steps)?;
        let publishes = steps.iter().any(|step| matches!(step, Step::Publish(_)));
        // All or none: when the transaction failed, the ports that exist are not ours.
        if publishes {
            self.rollback.ports_published(true);
        }
        let result = self.rollback.host.netfilter.talk(&requests, Mode::Batch);
        if publishes && matches!(&result, Err(error) if error.raw_os_error().is_some()) {
            self.rollback.ports_published(false);
        }
        match result {
            // The kernel knows that it is taken; the leases, by whom.
            Err(error) if publishes && error.kind() == ErrorKind::AlreadyExists => Err(self.who_publishes(error)),
            other => other.map(drop),
        }
    }

    /// The error for a port that is published already, with the name of whose it is, if it is one of this network's.
    fn who_publishes(&self, error: Error) -> Error {
        let others = self.network.state().leases().unwrap_or_default();
        let others = others.iter().filter(|lease| lease.owner != self.checked.owner);
        let mut taken = others.flat_map(|lease| self.checked.ports.iter().map(|port| lease.check_port(port)));
        taken.find_map(Result::err).unwrap_or(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// The future is dropped while the thread tells of something: it must not wait for an answer of nobody.
    #[test]
    fn whoever_tells_goes_on_when_nobody_listens_any_more() {
        let (rounds, round) = sync_channel::<(Talker, std::sync::mpsc::SyncSender<()>)>(1);
        thread::spawn(move || {
            for (talker, done) in round {
                while talker.made(&[], Duration::ZERO).is_ok() {}
                let _ = done.send(());
            }
        });
        for spins in 0..10_000_u32 {
            let (tell, mut told) = mpsc::unbounded_channel();
            let ((seen, answers), (done, ended)) = (sync_channel(1), sync_channel(1));
            rounds.send((Talker { tell, answers: Some(answers) }, done)).expect("the thread runs");
            for _ in 0..spins % 1_000 {
                if let Ok(Told::Made(..)) = told.try_recv() {
                    seen.send(()).expect("it waits for this");
                }
            }
            // As the future's parts are dropped.
            drop(seen);
            drop(told);
            ended.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("it waits, in round {spins}"));
        }
    }
}
