//! What `cellrun box` was asked for, in values that cannot be wrong.
#![forbid(unsafe_code)]

mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use cellkit_core::{Error, Result, Subject};
use cgroupfs::Limits;
use idmap::{Caller, IdMaps};
use mountkit::{Tmpfs, Volume};
use ns_core::{CapabilitySet, TimeOffsets};
use vethnet::{PublishedPort, Subnet};

use crate::cli::BoxArgs;
use crate::state::Id;
use values::{capabilities, limits, named, port, tmpfs, value, variable, volume};

/// Which ids the container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Userns {
    /// The caller's own user namespace.
    Host,
    /// A new one, with what the caller may map.
    Auto,
    /// A new one, in which the caller is this uid and gid.
    KeepId(u32, u32),
    /// A new one, with nobody in it but root, who is the caller.
    SingleId,
    /// A new one, with these.
    Maps(IdMaps),
}

/// Which network the container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetMode {
    /// The best that the caller may have without privileges: `Pasta` where that can be, else `None`.
    Auto,
    /// A new one, attached to a bridge.
    Bridge,
    /// A new one, for which pasta carries.
    Pasta,
    /// A new one with a loopback interface only.
    None,
    /// The caller's.
    Host,
    /// Another container's.
    Container(Id),
}

/// What the root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootChoice {
    /// The machine's own, under a throw-away layer.
    Host,
    /// A directory, under a throw-away layer.
    Overlay(PathBuf),
    /// A directory, written into.
    Bind(PathBuf),
}

/// Everything about one container that can be said without looking at the machine.
#[derive(Debug)]
pub struct Request {
    /// Its name.
    pub id: Id,
    /// Its root.
    pub root: RootChoice,
    /// Whether that is read-only.
    pub read_only: bool,
    /// Whether parts of `/proc` and `/sys` that belong to the machine are hidden or protected.
    pub masked: bool,
    /// Mounts of files and directories.
    pub volumes: Vec<Volume>,
    /// Empty memory file systems.
    pub tmpfs: Vec<(PathBuf, Tmpfs)>,
    /// Ids.
    pub userns: Userns,
    /// Clocks, if it has its own.
    pub time: Option<TimeOffsets>,
    /// Limits.
    pub limits: Limits,
    /// Whether it may have a cgroup of its own.
    pub own_cgroup: bool,
    /// Network.
    pub net: NetMode,
    /// The bridge's range, if not the default.
    pub subnet: Option<Subnet>,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
    /// Variables, in the order given.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub dir: PathBuf,
    /// User, as typed: its name is looked up inside.
    pub user: Option<String>,
    /// Host name.
    pub hostname: OsString,
    /// Capabilities asked for by name, and whether the set is the default one less what the caller lacks.
    pub capabilities: CapabilitySet,
    /// Capabilities that must be there because they were named.
    pub named_capabilities: CapabilitySet,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privs: bool,
    /// Whether a reaper is PID 1.
    pub init: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// The command.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl Request {
    /// Reads the command line. `is_root` decides the defaults of `--userns` and `--net`:
    /// whether the caller may do without a user namespace.
    ///
    /// # Errors
    /// Invalid for the first value that is wrong, naming the option.
    pub fn parse(args: BoxArgs, is_root: bool) -> Result<Self> {
        let id = match &args.name {
            Some(name) => Id::new(name)?,
            None => Id::random()?,
        };
        let userns = userns(args.userns.as_deref(), is_root)?;
        // Whoever keeps an id wants to be it.
        let user = args.user.clone().or_else(|| match userns {
            Userns::KeepId(uid, gid) => Some(format!("{uid}:{gid}")),
            _ => None,
        });
        let net = net(args.net.as_deref(), is_root)?;
        if net != NetMode::Bridge && args.subnet.is_some() {
            let why = "only a container on a bridge has one";
            return Err(Error::invalid("--subnet", why).with_hint("use --net bridge"));
        }
        let net = match net {
            // Without a network there would be nothing to publish.
            NetMode::Auto if !args.publish.is_empty() => NetMode::Pasta,
            net => net,
        };
        if !matches!(net, NetMode::Bridge | NetMode::Pasta) && !args.publish.is_empty() {
            return Err(Error::invalid("-p", "only a container on a bridge, or with pasta, has one")
                .with_hint("use --net bridge, or without privileges --net pasta"));
        }
        let root = match (args.rootfs.clone(), args.writable) {
            (None, _) => RootChoice::Host,
            (Some(dir), false) => RootChoice::Overlay(dir),
            (Some(dir), true) => RootChoice::Bind(dir),
        };
        let time = match (args.monotonic, args.boottime) {
            (None, None) => None,
            (monotonic, boottime) => {
                Some(TimeOffsets { monotonic: monotonic.unwrap_or(0), boottime: boottime.unwrap_or(0) })
            }
        };
        let own_cgroup = match args.cgroup.as_str() {
            "auto" => true,
            "none" => false,
            other => return Err(value("--cgroup", "this is auto or none", other)),
        };
        let limits = limits(&args)?;
        if !own_cgroup && limits != Limits::new() {
            return Err(Error::invalid("--cgroup", "limits need a cgroup of the container's own")
                .on(Subject::Value("none".into()))
                .with_hint("leave out --cgroup none, or the limits"));
        }
        let (capabilities, named_capabilities) = capabilities(&args.cap_add, &args.cap_drop)?;
        let mut command = args.command.into_iter();
        let program = command.next().unwrap_or_else(|| "/bin/sh".into());
        let dir = args.workdir.unwrap_or_else(|| "/".into());
        if !dir.is_absolute() {
            return Err(value("--workdir", "this is an absolute path inside the container", dir.display()));
        }
        Ok(Self {
            hostname: args.hostname.unwrap_or_else(|| id.as_str().into()),
            id,
            root,
            read_only: args.read_only,
            masked: !args.unmask,
            volumes: args.volumes.iter().map(|text| volume(text)).collect::<Result<_>>()?,
            tmpfs: args.tmpfs.iter().map(|text| tmpfs(text)).collect::<Result<_>>()?,
            userns,
            time,
            limits,
            own_cgroup,
            subnet: args.subnet.as_deref().map(range_for_hosts).transpose().map_err(named("--subnet"))?,
            ports: args.publish.iter().map(|text| port(text, &net)).collect::<Result<_>>()?,
            net,
            env: args.env.iter().filter_map(|text| variable(text).transpose()).collect::<Result<_>>()?,
            dir,
            user,
            capabilities,
            named_capabilities,
            no_new_privs: !args.new_privileges,
            init: args.init,
            tty: args.tty,
            program,
            args: command.collect(),
        })
    }
}

fn userns(text: Option<&str>, is_root: bool) -> Result<Userns> {
    match text {
        None if is_root => Ok(Userns::Host),
        None | Some("auto") => Ok(Userns::Auto),
        Some("host") => Ok(Userns::Host),
        Some("single") => Ok(Userns::SingleId),
        Some("keep-id") => Caller::current().map(|caller| Userns::KeepId(caller.uid(), caller.gid())),
        Some(map) => {
            let why = "this is auto, host, single, keep-id, keep-id:UID:GID, or UID:GID:COUNT of the host's ids";
            let wrong = || value("--userns", why, map);
            let (numbers, keeps) = map.strip_prefix("keep-id:").map_or((map, false), |ids| (ids, true));
            let numbers = numbers.split(':').map(|part| part.parse::<u32>().map_err(|_| wrong()));
            match *numbers.collect::<Result<Vec<_>>>()?.as_slice() {
                [uid, gid] if keeps => Ok(Userns::KeepId(uid, gid)),
                [uid, gid, count] if !keeps => {
                    Ok(Userns::Maps(IdMaps::contiguous(uid, gid, count).map_err(named("--userns"))?))
                }
                _ => Err(wrong()),
            }
        }
    }
}

fn range_for_hosts(text: &str) -> Result<Subnet> {
    text.parse().and_then(Subnet::for_hosts)
}

fn net(text: Option<&str>, is_root: bool) -> Result<NetMode> {
    match text {
        None if is_root => Ok(NetMode::Bridge),
        None => Ok(NetMode::Auto),
        Some("none") => Ok(NetMode::None),
        Some("bridge") => Ok(NetMode::Bridge),
        Some("pasta") => Ok(NetMode::Pasta),
        Some("host") => Ok(NetMode::Host),
        Some(other) => match other.strip_prefix("container:") {
            Some(name) => Ok(NetMode::Container(Id::new(name)?)),
            None => Err(value("--net", "this is bridge, pasta, none, host, or container:NAME", other)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use ns_core::Capability;

    fn parse(args: &[&str], is_root: bool) -> Result<Request> {
        let line = ["cellrun", "box"].iter().chain(args);
        let crate::cli::Verb::Box(args) = crate::cli::Cli::try_parse_from(line).expect("command line").command else {
            panic!("not box");
        };
        Request::parse(*args, is_root)
    }

    #[test]
    fn defaults_depend_on_who_asks() {
        let root = parse(&[], true).expect("root");
        assert_eq!((root.userns, root.net, root.program), (Userns::Host, NetMode::Bridge, "/bin/sh".into()));
        let user = parse(&["--", "id", "-u"], false).expect("user");
        assert_eq!((user.userns, user.net), (Userns::Auto, NetMode::Auto));
        assert_eq!((user.program, user.args), ("id".into(), vec!["-u".into()]));
        assert!(user.no_new_privs && user.limits == Limits::new() && user.own_cgroup);
    }

    #[test]
    fn options_after_the_command_are_the_commands() {
        let request = parse(&["--read-only", "ls", "--read-only", "-l"], true).expect("request");
        assert_eq!((request.program, request.args), ("ls".into(), vec!["--read-only".into(), "-l".into()]));
    }

    #[test]
    fn every_wrong_value_names_its_option() {
        for (args, option) in [
            (["--memory", "0"], "--memory"),
            (["--memory", "-1"], "--memory"),
            (["--memory", "99999999999999999999g"], "--memory"),
            (["--memory-swap", "1g"], "--memory-swap"),
            (["--cpus", "0"], "--cpus"),
            (["--cpus", "-1"], "--cpus"),
            (["--cpus", "nan"], "--cpus"),
            (["--pids", "0"], "--pids"),
            (["--pids", "-5"], "--pids"),
            (["--io-max", "8:0"], "--io-max"),
            (["--io-max", "8:0:rbps=0"], "--io-max"),
            (["--io-max", "8:0:riops=-1"], "--io-max"),
            (["--io-max", "8:0:speed=1"], "--io-max"),
            (["--cgroup", "mine"], "--cgroup"),
            (["--userns", "1:2"], "--userns"),
            (["--userns", "1:2:0"], "--userns"),
            (["--userns", "keep-id:1"], "--userns"),
            (["--userns", "keep-id:1:2:3"], "--userns"),
            (["--userns", "keep-id:1:x"], "--userns"),
            (["--net", "bridges"], "--net"),
            (["--net", "container:../x"], "--name"),
            (["-p", "0:80"], "-p"),
            (["-p", "80:65536"], "-p"),
            (["-p", "127.0.0.1:80:80"], "-p"),
            (["--subnet", "10.0.0.0/33"], "--subnet"),
            (["-v", "/a"], "-v"),
            (["-v", ":/a"], "-v"),
            (["--tmpfs", "/a:size=x"], "--tmpfs"),
            (["--tmpfs", "/a:mode=9"], "--tmpfs"),
            (["-e", "=x"], "-e"),
            (["-w", "a"], "--workdir"),
            (["--cap-add", "FLY"], "--cap-add"),
            (["--name", "a/b"], "--name"),
        ] {
            let error = parse(&args, true).expect_err(option);
            assert!(format!("{error:#}").contains(option), "{args:?}: {error:#}");
        }
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        let set = |args: &[&str]| parse(args, true).expect("request").capabilities;
        assert_eq!(set(&["--cap-drop", "ALL"]), CapabilitySet::EMPTY);
        assert_eq!(set(&["--cap-drop", "all", "--cap-add", "cap_kill"]).to_string(), "KILL");
        assert_eq!(set(&["--cap-add", "ALL"]), CapabilitySet::FULL);
        assert!(!set(&["--cap-drop", "MKNOD"]).contains(Capability::MKNOD));
        assert!(set(&[]).contains(Capability::CHOWN) && !set(&[]).contains(Capability::SYS_ADMIN));
    }

    #[test]
    fn a_device_by_number_or_by_path() {
        assert!(parse(&["--io-max", "8:0:rbps=1m,wiops=100"], true).is_ok());
        assert!(parse(&["--io-max", "/dev/null:rbps=1m"], true).is_err(), "not a block device");
    }

    #[test]
    fn ports_need_a_network() {
        for net in ["none", "host", "container:x"] {
            let error = parse(&["--net", net, "-p", "80:80"], true).expect_err(net);
            assert!(error.hint().expect("hint").contains("--net bridge"));
        }
        // A bridge publishes nothing on the loopback, pasta does.
        let user = parse(&["-p", "127.0.0.1:80:80"], false).expect("user");
        assert_eq!(user.net, NetMode::Pasta);
        assert!(parse(&["--subnet", "10.0.0.0/24"], false).is_err());
    }
}
