//! Settings, security modules and limits: read, not tried.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::{Error, ErrorKind, ProcFd};

use super::text;
use super::{Area, Finding};
use crate::namespaces::KINDS;
use crate::status;
use crate::{Capability, CapabilitySet, Resource, sys};

/// What the sentences about namespaces depend on.
pub(super) struct Settings {
    most_namespaces: Vec<(&'static str, Option<u64>)>,
    pub(super) unprivileged_userns: Option<u64>,
    pub(super) apparmor_restricts: Option<u64>,
    /// The caller's; none where they could not be asked for.
    pub(super) capabilities: CapabilitySet,
    capabilities_unknown: Option<Error>,
    pub(super) seccomp: Option<u64>,
    status: Vec<u8>,
}

impl Settings {
    pub(super) fn read(proc: &ProcFd) -> Self {
        let sysctl = |name: &str| sysctl(proc, name).ok().flatten();
        let thread = proc.this_thread().and_then(|thread| thread.read("status".as_ref()));
        let status = thread.unwrap_or_default();
        let (capabilities, capabilities_unknown) = match CapabilitySet::of_this_thread() {
            Ok(set) => (set, None),
            Err(error) => (CapabilitySet::EMPTY, Some(error)),
        };
        Self {
            most_namespaces: KINDS.iter().map(|(_, name)| (*name, sysctl(&most_of(name)))).collect(),
            unprivileged_userns: sysctl("kernel.unprivileged_userns_clone"),
            apparmor_restricts: sysctl("kernel.apparmor_restrict_unprivileged_userns"),
            capabilities,
            capabilities_unknown,
            seccomp: status::field(&status, "Seccomp").and_then(|mode| text::number(mode.as_bytes())),
            status,
        }
    }

    pub(super) fn most_namespaces(&self, kind: &str) -> Option<u64> {
        self.most_namespaces.iter().find(|(name, _)| *name == kind).and_then(|(_, most)| *most)
    }
}

fn most_of(kind: &str) -> String {
    format!("user.max_{kind}_namespaces")
}

/// A number in /proc/sys; `None` when this kernel has no such setting.
fn sysctl(proc: &ProcFd, name: &str) -> cellkit_core::Result<Option<u64>> {
    let path = Path::new("sys").join(name.replace('.', "/"));
    match proc.read(&path) {
        Ok(content) => Ok(text::number(&content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn probe(proc: &ProcFd, settings: &Settings, findings: &mut Vec<Finding>) {
    sysctls(proc, settings, findings);
    security(proc, settings, findings);
    limits(proc, settings, findings);
}

fn sysctls(proc: &ProcFd, settings: &Settings, findings: &mut Vec<Finding>) {
    let privileged = settings.capabilities.contains(Capability::SYS_ADMIN);
    let mut add = |name: String, judge: &dyn Fn(u64) -> Option<&'static str>| match sysctl(proc, &name) {
        Ok(None) => {}
        Ok(Some(value)) => findings.push(match judge(value) {
            None => Finding::fact(Area::Settings, name, value.to_string()),
            Some(fix) => {
                let fix = fix.replace("{name}", &name);
                Finding::no(Area::Settings, name, value.to_string(), fix)
            }
        }),
        Err(error) => findings.push(Finding::unknown(Area::Settings, name, error.to_string())),
    };
    for (_, name) in KINDS {
        add(most_of(name), &|most| (most == 0).then_some("none can be made: as root, sysctl -w {name}=10000"));
    }
    add("kernel.unprivileged_userns_clone".into(), &|allowed| {
        (allowed == 0 && !privileged).then_some("user namespaces are for root only: as root, sysctl -w {name}=1")
    });
    add("kernel.apparmor_restrict_unprivileged_userns".into(), &|restricts| {
        (restricts != 0 && !privileged).then_some(
            "user namespaces have no power: as root, sysctl -w {name}=0, or an AppArmor profile with \"userns,\" for this \
             program",
        )
    });
    add("kernel.yama.ptrace_scope".into(), &|scope| {
        (scope > 2).then_some("nobody may trace a process until the next boot: set {name} to 1 in /etc/sysctl.d")
    });
    add("vm.memfd_noexec".into(), &|mode| {
        (mode > 1).then_some("programs in memory cannot be executed: as root, sysctl -w {name}=1")
    });
    for name in ["kernel.pid_max", "kernel.threads-max", "kernel.keys.maxkeys", "kernel.keys.maxbytes"] {
        add(name.into(), &|_| None);
    }
}

fn security(proc: &ProcFd, settings: &Settings, findings: &mut Vec<Finding>) {
    let text_of = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    findings.push(match text_of("/sys/kernel/security/lsm") {
        Ok(modules) => Finding::fact(Area::Security, "security modules", modules),
        Err(error) => {
            Finding::unknown(Area::Security, "security modules", format!("/sys/kernel/security/lsm: {error}"))
        }
    });
    let own_label = |file: &str| {
        let label = proc.this_thread().and_then(|thread| thread.read(file.as_ref())).ok()?;
        let label = String::from_utf8_lossy(&label).trim_end_matches(['\0', '\n']).to_owned();
        (!label.is_empty()).then_some(label)
    };
    if text_of("/sys/module/apparmor/parameters/enabled").is_ok_and(|enabled| enabled == "Y") {
        let profile = own_label("attr/apparmor/current").or_else(|| own_label("attr/current"));
        let profile = profile.map_or("enabled".into(), |profile| format!("enabled, this program's profile: {profile}"));
        findings.push(Finding::fact(Area::Security, "AppArmor", profile));
    }
    if let Ok(enforcing) = text_of("/sys/fs/selinux/enforce") {
        let mode = if enforcing == "1" { "enforcing" } else { "permissive" };
        let context =
            own_label("attr/current").map_or(String::new(), |context| format!(", this program's context: {context}"));
        findings.push(Finding::fact(Area::Security, "SELinux", format!("{mode}{context}")));
    }
    let field = |name| status::field(&settings.status, name);
    findings.push(match field("Seccomp") {
        Some("0") => Finding::fact(Area::Security, "seccomp", "no filter on the caller"),
        Some("2") => {
            let filters = field("Seccomp_filters").unwrap_or("some");
            Finding::fact(Area::Security, "seccomp", format!("{filters} filters on the caller, and on all it starts"))
        }
        Some(mode) => Finding::fact(Area::Security, "seccomp", format!("mode {mode}")),
        None => Finding::unknown(Area::Security, "seccomp", "not shown in /proc/self/status"),
    });
    findings.push(match field("NoNewPrivs") {
        Some("0") => Finding::fact(Area::Security, "no_new_privs", "not set"),
        Some(_) => Finding::no(
            Area::Security,
            "no_new_privs",
            "set on the caller",
            "newuidmap and sudo have no power below it: start this from a process without no_new_privs",
        ),
        None => Finding::unknown(Area::Security, "no_new_privs", "not shown in /proc/self/status"),
    });
    findings.push(match &settings.capabilities_unknown {
        None => Finding::fact(Area::Security, "capabilities", in_short(settings.capabilities)),
        Some(error) => Finding::unknown(Area::Security, "capabilities", error.to_string()),
    });
    let private = match proc.is_private() {
        true => "a procfs of its own",
        false => "the machine's /proc, verified at each lookup, for the caller may not mount one",
    };
    findings.push(Finding::fact(Area::Security, "procfs", private));
}

/// A full set is longer than a line, and what is missing in it is what matters.
fn in_short(set: CapabilitySet) -> String {
    let missing: Vec<&str> = Capability::ALL
        .iter()
        .filter(|capability| !set.contains(**capability))
        .map(|capability| capability.name())
        .collect();
    match missing.len() {
        0 => "all".into(),
        1..=10 => format!("all but {}", missing.join(",")),
        _ => set.to_string(),
    }
}

fn limits(proc: &ProcFd, settings: &Settings, findings: &mut Vec<Finding>) {
    for resource in [Resource::Nproc, Resource::Nofile] {
        findings.push(match sys::limits(resource) {
            Ok([soft, hard]) => Finding::fact(Area::Limits, resource.name(), format!("{soft}, at most {hard}")),
            Err(errno) => Finding::unknown(Area::Limits, resource.name(), format!("prlimit64: {errno}")),
        });
    }
    findings.extend(pids_max(proc));
    // Numbers in this pid namespace and those below it: of the caller, as many as it is deep below the procfs's own.
    if let Some(numbers) = status::field(&settings.status, "NSpid") {
        let below = numbers.split_whitespace().count().saturating_sub(1);
        let shown = format!("{below} below the one that /proc shows; 32 are allowed");
        findings.push(Finding::fact(Area::Limits, "pid namespaces, nested", shown));
    }
}

fn pids_max(proc: &ProcFd) -> Option<Finding> {
    let thread = proc.this_thread().ok()?;
    let (cgroup, mounts) = (thread.read("cgroup".as_ref()).ok()?, thread.read("mountinfo".as_ref()).ok()?);
    let group = text::pids_group(&cgroup, &mounts)?;
    let read = |file: &str| std::fs::read(group.join(file)).ok();
    let (most, current) = (read("pids.max")?, text::number(&read("pids.current")?)?);
    let area = Area::Limits;
    Some(match text::number(&most) {
        Some(most) if current >= most => {
            let fix = format!("the group is full: write more into {}", group.join("pids.max").display());
            Finding::no(area, "pids.max", format!("{current} of {most}"), fix)
        }
        Some(most) => Finding::fact(area, "pids.max", format!("{current} of {most}")),
        None => Finding::fact(area, "pids.max", format!("{current} of any number")),
    })
}
