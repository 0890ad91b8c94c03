//! What is typed after an option, read: each function is one option's, and its error names that.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result, Subject};
use cgroupfs::{Bytes, DevNum, IoMax, Limits, Max, MemoryPlusSwap, PidsMax, Quota};
use mountkit::{Tmpfs, Volume};
use ns_core::{Capability, CapabilitySet};
use vethnet::PublishedPort;

use super::NetMode;
use crate::cli::BoxArgs;

/// The capabilities that Docker gives a container.
const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::FSETID,
    Capability::FOWNER,
    Capability::MKNOD,
    Capability::NET_RAW,
    Capability::SETGID,
    Capability::SETUID,
    Capability::SETFCAP,
    Capability::SETPCAP,
    Capability::NET_BIND_SERVICE,
    Capability::SYS_CHROOT,
    Capability::KILL,
    Capability::AUDIT_WRITE,
];

pub(super) fn value(option: &'static str, why: &'static str, text: impl ToString) -> Error {
    Error::invalid(option, why).on(Subject::Value(text.to_string()))
}

/// Says which option a value was given to, when the library that refused it could not know.
pub(super) fn named(option: &'static str) -> impl Fn(Error) -> Error {
    move |error| error.context(option)
}

pub(super) fn limits(args: &BoxArgs) -> Result<Limits> {
    let mut limits = Limits::new();
    let memory = args.memory.as_deref().map(str::parse::<Bytes>).transpose().map_err(named("--memory"))?;
    if memory == Some(Bytes(0)) {
        return Err(value("--memory", "nothing runs in no memory", 0));
    }
    if let Some(memory) = memory {
        limits = limits.memory_max(memory);
    }
    if let Some(text) = &args.memory_swap {
        let total: MemoryPlusSwap = text.parse().map_err(named("--memory-swap"))?;
        let Some(memory) = memory else {
            return Err(value("--memory-swap", "this is memory and swap together: it needs --memory", text));
        };
        limits = limits.memory_swap_max(total.swap_only(Max::Value(memory)).map_err(named("--memory-swap"))?);
    }
    if let Some(text) = &args.cpus {
        limits = limits.cpu_max(Quota::parse_cpus(text).map_err(named("--cpus"))?);
    }
    if let Some(text) = &args.pids {
        limits = limits.pids_max(text.parse::<PidsMax>().map_err(named("--pids"))?);
    }
    for text in &args.io_max {
        let Some((device, rates)) = text.split_once(':').and_then(|(first, rest)| match rest.split_once(':') {
            // MAJOR:MINOR has a colon of its own.
            Some((minor, rates)) if !first.starts_with('/') => {
                Some((text.get(..first.len() + 1 + minor.len())?, rates))
            }
            _ => Some((first, rest)),
        }) else {
            return Err(value("--io-max", "this is DEVICE:rbps=…,wbps=…,riops=…,wiops=…", text));
        };
        let device: DevNum = device.parse().map_err(named("--io-max"))?;
        limits = limits.io_max(device, rates_of(rates)?);
    }
    Ok(limits)
}

/// `rbps=1m,wiops=100`: sizes as elsewhere on the command line, operations as numbers, `max` for none.
fn rates_of(text: &str) -> Result<IoMax> {
    let why = "a rate is rbps= or wbps= and bytes, riops= or wiops= and operations, above 0";
    let wrong = || value("--io-max", why, text);
    let bytes = |amount: &str| match amount.parse::<Max<Bytes>>() {
        Ok(Max::Value(Bytes(0))) | Err(_) => Err(wrong()),
        Ok(rate) => Ok(Some(rate)),
    };
    let operations = |amount: &str| match (amount, amount.parse::<u64>()) {
        ("max", _) => Ok(Some(Max::Max)),
        (_, Ok(0) | Err(_)) => Err(wrong()),
        (_, Ok(rate)) => Ok(Some(Max::Value(rate))),
    };
    let mut limit = IoMax::default();
    for word in text.split(',') {
        match word.split_once('=').ok_or_else(wrong)? {
            ("rbps", amount) => limit.rbps = bytes(amount)?,
            ("wbps", amount) => limit.wbps = bytes(amount)?,
            ("riops", amount) => limit.riops = operations(amount)?,
            ("wiops", amount) => limit.wiops = operations(amount)?,
            _ => return Err(wrong()),
        }
    }
    Ok(limit)
}

pub(super) fn capabilities(add: &[String], drop: &[String]) -> Result<(CapabilitySet, CapabilitySet)> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("all");
    let mut set: CapabilitySet = DEFAULT_CAPABILITIES.into_iter().collect();
    let mut named_set = CapabilitySet::EMPTY;
    if drop.iter().any(is_all) {
        set = CapabilitySet::EMPTY;
    }
    if add.iter().any(is_all) {
        set = CapabilitySet::FULL;
    }
    for name in add.iter().filter(|name| !is_all(name)) {
        let capability = name.parse().map_err(named("--cap-add"))?;
        set = set.with(capability);
        named_set = named_set.with(capability);
    }
    for name in drop.iter().filter(|name| !is_all(name)) {
        let capability = name.parse().map_err(named("--cap-drop"))?;
        set = set.without(capability);
        named_set = named_set.without(capability);
    }
    Ok((set, named_set))
}

pub(super) fn port(text: &str, net: &NetMode) -> Result<PublishedPort> {
    let port: PublishedPort = text.parse().map_err(named("-p"))?;
    match port.host_address() {
        Some(address) if address.is_loopback() && *net == NetMode::Bridge => {
            Err(value("-p", "ports are not published on the loopback", text)
                .with_hint("leave the address out, or name one of the machine's others"))
        }
        _ => Ok(port),
    }
}

/// `SOURCE:TARGET[:ro|rw]`. A colon cannot be part of a path here, as with Docker.
pub(super) fn volume(text: &OsStr) -> Result<Volume> {
    let wrong = || value("-v", "this is SOURCE:TARGET, SOURCE:TARGET:ro or SOURCE:TARGET:rw", text.to_string_lossy());
    let parts: Vec<&[u8]> = text.as_bytes().split(|&byte| byte == b':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        &[source, target] | &[source, target, b"rw"] => (source, target, false),
        &[source, target, b"ro"] => (source, target, true),
        _ => return Err(wrong()),
    };
    if source.is_empty() || target.is_empty() {
        return Err(wrong());
    }
    let volume = Volume::bind(Path::new(OsStr::from_bytes(source)), Path::new(OsStr::from_bytes(target)));
    Ok(if read_only { volume.read_only() } else { volume })
}

/// `TARGET[:size=64m,mode=1777,noexec]`.
pub(super) fn tmpfs(text: &str) -> Result<(PathBuf, Tmpfs)> {
    let (target, list) = text.split_once(':').unwrap_or((text, ""));
    let wrong = || value("--tmpfs", "this is TARGET or TARGET:size=64m,mode=1777,noexec", text);
    let mut options = Tmpfs::new();
    for option in list.split(',').filter(|option| !option.is_empty()) {
        options = match option.split_once('=') {
            Some(("size", size)) => options.size(size.parse::<Bytes>().map_err(named("--tmpfs"))?.0),
            Some(("mode", mode)) => options.mode(u32::from_str_radix(mode, 8).map_err(|_| wrong())?),
            None if option == "noexec" => options.no_exec(),
            _ => return Err(wrong()),
        };
    }
    if target.is_empty() {
        return Err(wrong());
    }
    Ok((target.into(), options))
}

/// `NAME=VALUE`; or `NAME`, which takes the caller's value, if there is one.
pub(super) fn variable(text: &OsStr) -> Result<Option<(OsString, OsString)>> {
    let bytes = text.as_bytes();
    let (name, given) = match bytes.iter().position(|&byte| byte == b'=') {
        Some(equals) => {
            let (name, rest) = bytes.split_at(equals);
            (OsStr::from_bytes(name), Some(OsStr::from_bytes(rest.get(1..).unwrap_or(&[])).to_owned()))
        }
        None => (text, None),
    };
    if name.is_empty() {
        return Err(value("-e", "this is NAME=VALUE or NAME", text.to_string_lossy()));
    }
    let value = given.or_else(|| std::env::var_os(name));
    Ok(value.map(|value| (name.to_owned(), value)))
}
