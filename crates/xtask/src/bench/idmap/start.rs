//! Starts as an ordinary user, beside the same start as root.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;

use super::place::{Place, User};
use crate::Result;
use crate::bench::start::{compile_true, time};
use crate::bench::table::{Row, quantile};
use crate::install::has;

/// One program, and how it is called by each: `None` where it cannot.
struct Contender {
    name: &'static str,
    command: Box<dyn Fn(User, u32) -> Option<Command>>,
}

pub fn run(place: &Place, rounds: u32) -> Result<()> {
    library(place, rounds)?;
    programs(place, rounds)
}

/// The table of one contender after another.
fn table(rows: &[(String, [Row; 3])]) {
    println!("| start | privileged, ms | single id, ms | times privileged | ranges, ms | more than single, ms |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, [root, single, ranges]) in rows {
        let cell = |row: &Row| if row.times.is_empty() { "–".to_owned() } else { format!("{:.2}", row.median()) };
        let or_none = |value: f64, here: bool| if here { format!("{value:.2}") } else { "–".to_owned() };
        let times = or_none(single.median() / root.median(), !root.times.is_empty() && !single.times.is_empty());
        let more = or_none(ranges.median() - single.median(), !ranges.times.is_empty() && !single.times.is_empty());
        println!("| {name} | {} | {} | {times} | {} | {more} |", cell(root), cell(single), cell(ranges));
    }
    println!();
}

/// From inside a program.
fn library(place: &Place, rounds: u32) -> Result<()> {
    let mut root = place.start_worker(User::Root, 0)?;
    let mut single = place.start_worker(User::Single, 0)?;
    let mut ranges = place.start_worker(User::Ranges, 0)?;
    let ids = ranges.ask("ids")?;
    if ids != "65537" || single.ask("ids")? != "1" {
        return Err(format!("the users have other ids than they should: {ids}").into());
    }
    let mut rows = [Row::new("root"), Row::new("single"), Row::new("ranges")];
    let (mut root_maps, mut helpers) = (Row::new("root, with a user namespace"), Row::new("the two programs"));
    for round in 0..=rounds {
        let times = [root.time("start plain")?, single.time("start single")?, ranges.time("start auto")?];
        let (maps, alone) = (root.time("start auto")?, ranges.time("helpers")?);
        if round > 0 {
            rows.iter_mut().zip(times).for_each(|(row, time)| row.times.push(time));
            root_maps.times.push(maps);
            helpers.times.push(alone);
        }
    }
    println!("## Starts as an ordinary user\n");
    println!(
        "### From inside a small program\n\n/bin/true in six new namespaces, and for whoever is not root in a user namespace \
         with its maps: medians of {rounds} interleaved rounds, {}.\n",
        crate::bench::machine()
    );
    table(&[("ns-core and idmap".to_owned(), rows)]);
    println!(
        "newuidmap and newgidmap alone: {:.2} ms (10 %: {:.2}, 90 %: {:.2}). Root with a user namespace of 65536 ids, \
         written directly: {:.2} ms.\n",
        helpers.median(),
        quantile(&helpers.times, 0.1),
        quantile(&helpers.times, 0.9),
        root_maps.median()
    );
    Ok(())
}

/// Whole programs, exec to exit.
fn programs(place: &Place, rounds: u32) -> Result<()> {
    let mut helpers = place.start_worker(User::Ranges, 0)?;
    let mut alone = Row::new("the two programs");
    let (contenders, missing) = contenders(place)?;
    let mut rows: Vec<(String, [Row; 3])> =
        contenders.iter().map(|one| (one.name.to_owned(), [(); 3].map(|()| Row::new(one.name)))).collect();
    let mut wrong: Vec<String> = Vec::new();
    for round in 0..=rounds {
        for (contender, (_, cells)) in contenders.iter().zip(&mut rows) {
            for (user, cell) in User::ALL.into_iter().zip(cells) {
                let name = format!("{} as uid {}", contender.name, user.uid());
                if wrong.iter().any(|other| other.starts_with(&name)) {
                    continue;
                }
                let Some(mut command) = (contender.command)(user, round) else { continue };
                match time(&mut command, &name) {
                    Ok(time) => cell.times.extend((round > 0).then_some(time)),
                    // A peer that cannot do it here is said to, and is no reason to measure nothing.
                    Err(error) if round == 0 && contender.name != "cellrun" => wrong.push(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
        }
        alone.times.push(helpers.time("helpers")?);
    }
    println!(
        "### A whole program\n\n/bin/true in a container: exec to exit, medians of {rounds} interleaved rounds, {}.\n",
        crate::bench::machine()
    );
    table(&rows);
    println!("newuidmap and newgidmap alone: {:.2} ms.\n", alone.median());
    if !missing.is_empty() {
        println!("Not here, so not compared: {}.\n", missing.join(", "));
    }
    for error in wrong {
        println!("Not measured: {}.\n", error.lines().next().unwrap_or_default());
    }
    Ok(())
}

fn contenders(place: &Place) -> Result<(Vec<Contender>, Vec<&'static str>)> {
    let mut list = Vec::new();
    let mut missing = Vec::new();
    let mut add = |name: &'static str, is_here: bool, command: Box<dyn Fn(User, u32) -> Option<Command>>| {
        if is_here {
            list.push(Contender { name, command });
        } else {
            missing.push(name);
        }
    };
    let base = |user: User| {
        let runtime = place.runtime_dir(user);
        move |program: &str| {
            let mut command = Command::new(program);
            std::os::unix::process::CommandExt::uid(&mut command, user.uid());
            std::os::unix::process::CommandExt::gid(&mut command, user.uid());
            command.current_dir("/").env("XDG_RUNTIME_DIR", &runtime).env("HOME", &runtime);
            command
        }
    };
    let bases = User::ALL.map(base);
    let start = std::rc::Rc::new(move |program: &str, user: User| {
        let at = User::ALL.iter().position(|other| *other == user).unwrap_or(0);
        bases.get(at).map_or_else(|| Command::new(program), |base| base(program))
    });
    let cellrun = place.cellrun().display().to_string();
    let by = std::rc::Rc::clone(&start);
    add(
        "cellrun",
        true,
        Box::new(move |user, _| {
            let mut command = by(&cellrun, user);
            command.args(["box", "--net", "none", "--", "/bin/true"]);
            Some(command)
        }),
    );
    let by = std::rc::Rc::clone(&start);
    add(
        "unshare",
        has("unshare"),
        Box::new(move |user, _| {
            let mut command = by("unshare", user);
            match user {
                User::Root => {}
                User::Single => drop(command.args(["--user", "--map-root-user"])),
                User::Ranges => drop(command.args(["--user", "--map-root-user", "--map-auto"])),
            }
            command.args(["--fork", "--pid", "--net", "--ipc", "--uts", "--mount", "--mount-proc", "/bin/true"]);
            Some(command)
        }),
    );
    let by = std::rc::Rc::clone(&start);
    add(
        "bwrap",
        has("bwrap"),
        Box::new(move |user, _| {
            // It maps one id only.
            let mut command = (user != User::Ranges).then(|| by("bwrap", user))?;
            if user == User::Single {
                command.arg("--unshare-user");
            }
            command.args(["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--ro-bind", "/", "/"]);
            command.args(["--proc", "/proc", "--dev", "/dev", "/bin/true"]);
            Some(command)
        }),
    );
    for name in ["crun", "runc", "youki"] {
        let mut bundles = Vec::new();
        for user in User::ALL {
            let bundle = place.path().join(format!("{name}-{}", user.uid()));
            make_bundle(&bundle, user)?;
            bundles.push(bundle);
        }
        let state = User::ALL.map(|user| place.runtime_dir(user).join(name));
        let by = std::rc::Rc::clone(&start);
        add(
            name,
            has(name),
            Box::new(move |user, round| {
                let at = User::ALL.iter().position(|other| *other == user)?;
                let mut command = by(name, user);
                if name == "crun" && user != User::Root {
                    command.arg("--cgroup-manager=disabled");
                }
                command.arg("--root").arg(state.get(at)?).args(["run", "--bundle"]).arg(bundles.get(at)?);
                command.arg(format!("cellkit-bench-{}-{round}", std::process::id()));
                Some(command)
            }),
        );
    }
    Ok((list, missing))
}

/// An OCI bundle with nothing but a statically linked program that ends at once.
fn make_bundle(dir: &Path, user: User) -> Result<()> {
    for sub in ["rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/bin"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    fs::copy(compile_true(dir)?, dir.join("rootfs/bin/true"))?;
    let mut namespaces: Vec<serde_json::Value> =
        ["pid", "network", "ipc", "uts", "mount"].map(|kind| serde_json::json!({ "type": kind })).into();
    let mut linux = serde_json::json!({});
    if user != User::Root {
        namespaces.push(serde_json::json!({ "type": "user" }));
        let mut maps = vec![serde_json::json!({ "containerID": 0, "hostID": user.uid(), "size": 1 })];
        if user == User::Ranges {
            maps.push(serde_json::json!({ "containerID": 1, "hostID": 300_000, "size": 65536 }));
        }
        linux = serde_json::json!({ "uidMappings": maps, "gidMappings": maps });
    }
    linux["namespaces"] = namespaces.into();
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"] },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] }
        ],
        "linux": linux
    });
    Ok(fs::write(dir.join("config.json"), config.to_string())?)
}
