//! One container start, from top to bottom: prepared (checked, printable, without effect), then run.
//!
//! ```text
//!  Request ──prepare()──► Start ──run()──► record, cgroup, clone3, id maps, network, go ──► wait ──► remove all
//!                           └─steps()──► --explain
//! ```
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cellkit_core::{Error, ErrorKind, Observer, ProcFd, ProcView, Result, StepText};
use cgroupfs::{Bytes, Cgroup, CgroupName, DeviceRules, Devices, Hierarchy, Limits, Max, MemoryEvents, Place};
use idmap::{Caller, MapPlan, SubIds};
use mountkit::Rootfs;
use ns_core::{ExitStatus, Net, Plan};
use vethnet::Attachment;

use crate::command;
use crate::devices;
use crate::exit;
use crate::layers::Layer;
use crate::net_mode;
use crate::network::Bridge;
use crate::pasta::{self, Pasta};
use crate::request::{NetMode, Request, RootChoice, Userns};
use crate::resolver::Resolver;
use crate::root_dir::RootDir;
use crate::rootfs;
use crate::state::{Record, StateDir};
use crate::supervise::{self, Pid1, Signals};
use crate::terminal::TerminalGuard;
use crate::user::User;

/// How long what is left of a container may take to die and be removed.
pub(crate) const REMOVAL_LIMIT: Duration = Duration::from_secs(10);

/// A container that could be started: everything is checked, nothing is made.
#[derive(Debug)]
pub struct Start {
    request: Request,
    state: StateDir,
    proc: ProcFd,
    group: Option<(Place, CgroupName)>,
    devices: Option<DeviceRules>,
    maps: Option<MapPlan>,
    layer: Layer,
    bridge: Option<Bridge>,
    pasta: Option<Pasta>,
    /// A root that is a directory of the host, which the start makes places for mounts in.
    writable: Option<(PathBuf, Rootfs)>,
    plan: Plan,
    notes: Vec<String>,
    /// How many of the notes, the first ones, are of what a person would miss.
    lacking: usize,
}

impl Start {
    /// Checks everything that can be checked without effect, and makes the plan.
    ///
    /// # Errors
    /// Of whatever would make the start fail, before anything is made.
    pub fn prepare(mut request: Request, state: StateDir, timed: bool) -> Result<Self> {
        // What is worth knowing, and of that what a person would miss.
        let (mut notes, mut lacks) = (Vec::new(), Vec::new());
        let proc = ProcFd::open(ProcView::Processes)?;
        let maps = id_maps(&request.userns, &mut lacks)?;
        let hierarchy = Hierarchy::detect_by(&proc);
        let has_cgroup2 = hierarchy.is_ok();
        let token = request.id.with_token()?;
        let group = place_for(&request, &token, hierarchy, &mut notes)?;
        let devices = devices::rules(group.is_some(), maps.is_some(), &request.volumes, &mut notes)?;
        request.net = net_mode::settled(request.net, maps.is_some(), &proc, &mut lacks)?;
        rootfs::rootfs(&request, None, maps.as_ref(), has_cgroup2)?.check()?;
        let mut layer = Layer::mount(&request.root, maps.as_ref(), &proc, &mut notes)?;
        let mut rootfs = rootfs::rootfs(&request, layer.take(), maps.as_ref(), has_cgroup2)?;
        let mut pasta = None;
        if request.net == NetMode::Pasta {
            let resolver = Resolver::of_the_machine();
            pasta = Some(Pasta::new(&request.ports, resolver.as_ref().and_then(Resolver::forwarder))?);
            match resolver {
                Some(resolver) => rootfs = rootfs::with_resolver(rootfs, &request, &resolver)?,
                None => lacks.push("no name is resolved: /etc/resolv.conf names nobody who can be asked".into()),
            }
        }
        rootfs.check()?;
        let writable = match &request.root {
            RootChoice::Bind(dir) if !request.read_only => Some((dir.clone(), rootfs.clone())),
            _ => None,
        };
        let bridge = (request.net == NetMode::Bridge).then(|| Bridge::new(&request, &token)).transpose()?;
        let user =
            request.user.as_deref().map(|text| User::parse(text, &rootfs::root_fd(&request.root)?)).transpose()?;
        let plan = command::command(&request, &state, maps.as_ref(), user, rootfs, timed)?.plan()?;
        state.check_free(&request.id)?;
        if let Some(bridge) = &bridge {
            bridge.check()?;
        }
        let lacking = lacks.len();
        notes.splice(0..0, lacks);
        Ok(Self { request, state, proc, group, devices, maps, layer, bridge, pasta, writable, plan, notes, lacking })
    }

    /// What is worth knowing before the list.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What of that a person at a terminal would miss: ids, a network, names.
    #[must_use]
    pub fn lacks(&self) -> &[String] {
        self.notes.get(..self.lacking).unwrap_or_default()
    }

    /// The list of system calls that [`run`](Self::run) makes, in order.
    ///
    /// # Errors
    /// Invalid for published ports that contradict each other.
    pub fn steps(&self) -> Result<Vec<StepText>> {
        let mut steps: Vec<StepText> = self.layer.made().iter().map(|(step, _)| step.clone()).collect();
        steps.push(self.claim_step());
        steps.extend(self.writable.as_ref().map(|(dir, _)| RootDir::step(dir)));
        if let Some((place, name)) = &self.group {
            steps.extend(place.describe_create(name, &self.request.limits));
            steps.extend(self.devices_step(place, name));
        }
        steps.push(self.clone_step());
        steps.push(self.record_step());
        if let Some(maps) = &self.maps {
            steps.extend(maps.describe());
        }
        if let Some(bridge) = &self.bridge {
            steps.extend(bridge.describe()?);
        }
        steps.extend(self.pasta.as_ref().map(Pasta::describe));
        steps.extend(self.plan.child_steps());
        Ok(steps)
    }

    fn clone_step(&self) -> StepText {
        if self.group.is_some() { self.plan.clone_step_in() } else { self.plan.clone_step() }
    }

    fn devices_step(&self, place: &Place, name: &CgroupName) -> Option<StepText> {
        let path = place.group().path().join(name.as_str());
        self.devices.as_ref().map(|rules| Devices::describe_attach(path, rules))
    }

    fn claim_step(&self) -> StepText {
        let path = self.state.path_of(&self.request.id);
        let arguments = format!("{path:?}, O_RDWR|O_CREAT|O_EXCL, 0600");
        StepText::new("openat", arguments, "a locked record of what will be made, so that nothing is lost").on(path)
    }

    fn record_step(&self) -> StepText {
        let path = self.state.path_of(&self.request.id);
        StepText::new("pwrite64", format!("{path:?}"), "the record names the process").on(path)
    }

    /// Starts the container, waits for its end, and removes everything. The status is the payload's, as a shell would say.
    ///
    /// # Errors
    /// Of the first step that failed; what had been made is gone by then.
    pub fn run(self, trace: &mut dyn Observer) -> Result<i32> {
        let signals = Signals::take()?;
        let mut record = Record {
            process: None,
            cgroup: self.group.as_ref().map(|(place, name)| place.group().path().join(name.as_str())),
            network: self.bridge.as_ref().map(Bridge::record),
            root: None,
            pasta: None,
        };
        for (step, took) in self.layer.made() {
            trace.made(step.clone(), *took);
        }
        let begun = Instant::now();
        let claim = self.state.claim(&self.request.id, &record, crate::recover::remove)?;
        trace.made(self.claim_step(), begun.elapsed());

        let mut made = Made::default();
        let outcome = self.start_and_wait(&mut record, &claim, &mut made, &signals, trace);
        // Without the memory controller nobody has counted.
        let events = made.group.as_ref().and_then(|group| group.memory().events().ok());
        let lost = made.pasta.as_mut().and_then(pasta::Running::lost);
        // Where something could not be removed the record stays, unlocked, so that a later start or `cellrun recover`
        // tries again.
        let removed = made.remove().and_then(|()| claim.remove());
        let status = match (outcome, removed) {
            (Ok(status), Ok(())) => status,
            (Err(error), Ok(())) => return Err(error),
            // The payload has had its end, and its status is not to be lost for what cellrun could not do.
            (Ok(status), Err(error)) => {
                say(&format!("{:#}", error.context("remove what the container left")));
                status
            }
            (Err(error), Err(further)) => return Error::all([error, further]).map(|()| exit::NOT_STARTED),
        };
        if let Some(error) = lost {
            say(&format!("{error:#}"));
        }
        let oom = events.and_then(|events| out_of_memory(&events, self.request.limits.memory_max));
        if let Some(line) = oom.filter(|_| !status.success()) {
            say(&line);
        }
        Ok(status.shell_code())
    }

    fn start_and_wait<'a>(
        &'a self,
        record: &mut Record,
        claim: &crate::state::Claim,
        made: &mut Made<'a>,
        signals: &Signals,
        trace: &mut dyn Observer,
    ) -> Result<ExitStatus> {
        if let Some((dir, rootfs)) = &self.writable {
            let begun = Instant::now();
            made.root = RootDir::hold(dir, rootfs)?;
            record.root = made.root.as_ref().and_then(RootDir::record);
            if record.root.is_some() && claim.update(record).is_err() {
                // Too long a list, or no text: its removal is this process's alone.
                record.root = None;
            }
            trace.made(RootDir::step(dir), begun.elapsed());
        }
        if let Some((place, name)) = &self.group {
            let group = made.group.insert(place.create(name, &self.request.limits, trace)?);
            if let Some(rules) = &self.devices {
                let begun = Instant::now();
                group
                    .devices()
                    .attach(rules)
                    .map_err(|error| error.context("keep other devices from the container"))?;
                let took = begun.elapsed();
                if let Some(step) = trace.listens().then(|| self.devices_step(place, name)).flatten() {
                    trace.made(step, took);
                }
            }
        }
        let begun = Instant::now();
        let child = match &made.group {
            Some(group) => self.plan.spawn_paused_in(group)?,
            None => self.plan.spawn_paused()?,
        };
        trace.made(child.clone_step().clone(), begun.elapsed());

        let begun = Instant::now();
        record.process = Some(child.id()?);
        claim.update(record)?;
        trace.made(self.record_step(), begun.elapsed());

        if let Some(maps) = &self.maps {
            maps.write(&child, &self.proc, trace)?;
        }
        if let Some(bridge) = &self.bridge {
            made.attachment = Some((bridge, bridge.attach(child.namespace::<Net>()?, trace)?));
        }
        if let Some(pasta) = &self.pasta {
            let note = |process| {
                record.pasta = Some(process);
                claim.update(record)
            };
            made.pasta = Some(pasta.start(&child, note, trace)?);
        }
        let mut child = child.resume(trace)?;
        let pid1 = if self.request.init { Pid1::Reaper } else { Pid1::Payload };
        let terminal = child.take_terminal().map(TerminalGuard::new).transpose();
        let outcome = terminal.and_then(|terminal| supervise::until_it_ends(&mut child, pid1, signals, terminal));
        if outcome.is_err() {
            // Nobody watches it any more, and what it lives in is about to be removed.
            let _ = child.kill();
            let _ = child.wait();
        }
        outcome
    }
}

/// What has been made outside of the container's own namespaces, for its removal.
#[derive(Debug, Default)]
struct Made<'a> {
    group: Option<Cgroup>,
    attachment: Option<(&'a Bridge, Attachment)>,
    root: Option<RootDir>,
    pasta: Option<pasta::Running>,
}

impl Made<'_> {
    /// The network first, so that no packet is sent to somebody who is gone; then whatever still runs; last what nobody uses
    /// any more by then.
    fn remove(self) -> Result<()> {
        let bridge = self.attachment.map(|(bridge, attachment)| bridge.detach(attachment)).transpose().err();
        let pasta = self.pasta.map(pasta::Running::stop).transpose().err();
        let group = self.group.map(|group| group.remove(REMOVAL_LIMIT)).transpose().err();
        let root = self.root.map(RootDir::remove).transpose().err();
        Error::all(bridge.into_iter().chain(pasta).chain(group).chain(root))
    }
}

/// The id maps of a new user namespace, if the container gets one.
fn id_maps(userns: &Userns, notes: &mut Vec<String>) -> Result<Option<MapPlan>> {
    if *userns == Userns::Host {
        return Ok(None);
    }
    let caller = Caller::current()?;
    let plan = match userns {
        Userns::SingleId => MapPlan::single_id(0, 0, &caller)?,
        Userns::Maps(maps) => MapPlan::explicit(maps.clone(), &caller, &SubIds::of(&caller)?)?,
        &Userns::KeepId(uid, gid) => MapPlan::keep_id(uid, gid, &caller, &SubIds::of(&caller)?)?,
        _ => MapPlan::auto(&caller, &SubIds::of(&caller)?)?,
    };
    if !plan.maps().inside_root_is_mapped() {
        let error = Error::invalid("--userns", "id 0 inside must be mapped: the container is made by its root");
        return Err(match plan.why_single_id() {
            Some(why) => error.with_hint(why.to_owned()),
            None => error,
        });
    }
    if let Some(why) = plan.why_single_id() {
        notes.push(format!("only root exists in the container: {why}"));
    }
    Ok(Some(plan))
}

/// Where the container's cgroup is to be made; `None` when it runs in the caller's own.
fn place_for(
    request: &Request,
    token: &str,
    hierarchy: Result<Hierarchy>,
    notes: &mut Vec<String>,
) -> Result<Option<(Place, CgroupName)>> {
    if !request.own_cgroup {
        notes.push("no cgroup of its own, as asked for".into());
        return Ok(None);
    }
    let limited = request.limits != Limits::new();
    let hierarchy = match hierarchy {
        Err(error) if !limited => return Err(error.with_hint("mount cgroup2, or run with --cgroup none")),
        hierarchy => hierarchy?,
    };
    let place = match hierarchy.place() {
        Err(error) if !limited && error.kind() == ErrorKind::Permission => {
            notes.push(format!("no cgroup of its own, it runs in the caller's: {error}"));
            return Ok(None);
        }
        place => place?,
    };
    request.limits.check(&place)?;
    Ok(Some((place, CgroupName::new(format!("cellrun-{token}"))?)))
}

/// The line that says that the kernel killed for want of memory, if it did.
fn out_of_memory(events: &MemoryEvents, limit: Option<Max<Bytes>>) -> Option<String> {
    let kills = events.oom_kill;
    // `oom` counts limits reached here or below; a kill without one is for a group above, or for the machine.
    let cause = match limit {
        Some(Max::Value(limit)) if events.oom > 0 => format!("at the limit of {limit}"),
        _ => "for want of memory outside of the container".to_owned(),
    };
    (kills > 0).then(|| {
        let processes = if kills == 1 { "a process" } else { "processes" };
        format!("out of memory: the kernel killed {processes} {cause} (memory.events: oom_kill {kills})")
    })
}

/// A line on standard error, if anybody takes it: what cannot be said must not cost the payload its status.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "cellrun: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_memory_was_short() {
        let line = |oom, kills, limit| {
            let text = format!("low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {kills}\n");
            out_of_memory(&text.parse().expect("events"), limit)
        };
        let limit = Some(Max::Value(Bytes::mib(1)));
        assert_eq!(line(1, 0, limit), None);
        let own = "out of memory: the kernel killed a process at the limit of 1048576 (memory.events: oom_kill 1)";
        assert_eq!(line(1, 1, limit).as_deref(), Some(own));
        // Another group's limit, or the machine's memory.
        for (oom, limit) in [(0, limit), (0, None), (0, Some(Max::Max))] {
            assert!(line(oom, 2, limit).expect("killed").contains("processes for want of memory outside of"));
        }
    }
}
