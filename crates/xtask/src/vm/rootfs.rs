//! A root file system in which systemd is init: Debian by debootstrap, made once and kept as an image.
//!
//! debootstrap mounts and chroots, so it runs in mount and pid namespaces of its own: this machine sees nothing of it.
//! What it unpacks is set up so that systemd starts little more than the message bus, the login manager and the user
//! manager of an ordinary user, for under emulation each unit costs time; then mke2fs makes one file of it, and the
//! guest lays a tmpfs over that.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Folder;
use crate::install::{self, output};
use crate::{Result, is_root};

/// The release whose kernels are booted, and for which this machine's programs are built.
const SUITE: &str = "bookworm";
/// Beside what `minbase` has.
const PACKAGES: &str = "systemd,dbus,dbus-user-session,libpam-systemd";
/// The ordinary user that has a user manager without having logged in.
pub const USER: u32 = 12345;
/// What the tests have no use for.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "cryptsetup.target",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "integritysetup.target",
    "kmod-static-nodes.service",
    "proc-sys-fs-binfmt_misc.automount",
    "remote-fs.target",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-journal-flush.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-repart.service",
    "systemd-sysctl.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp.service",
    "veritysetup.target",
];
/// What systemd starts last. `/job/init` comes from the first program of the RAM disk.
const JOB: &str = "\
[Unit]
Description=The job of this machine
Requires=dbus.service systemd-logind.service user@12345.service
After=basic.target dbus.service systemd-logind.service user@12345.service

[Service]
Type=oneshot
ExecStart=/bin/sh /job/init
";
/// Changes whenever an image that was made before is of no use.
const SETUP: &str = "1";

/// The image, from `cache` or made there.
///
/// # Errors
/// When debootstrap is missing, has no mirror or fails, with its own last words.
pub fn prepare(cache: &Path) -> Result<PathBuf> {
    let (image, made_of) = (cache.join("systemd.ext4"), cache.join("systemd.made-of"));
    let key = format!("{SETUP} {SUITE} {PACKAGES}\n{JOB}{MASKED:?}");
    if image.exists() && fs::read_to_string(&made_of).is_ok_and(|old| old == key) {
        return Ok(image);
    }
    if !is_root() {
        return Err("a root file system with systemd is made by debootstrap, which needs root: run this once as \
                    root, or leave out what needs it"
            .into());
    }
    install::ensure(install::ROOTFS_TOOLS)?;
    fs::create_dir_all(cache)?;
    let aside = Folder::make(cache, "rootfs")?;
    let root = aside.0.join("root");
    println!("  making a root file system with systemd");
    bootstrap(&root)?;
    set_up(&root)?;
    let new = aside.0.join("image");
    // As sparse as it can be: the guest writes to a tmpfs over it.
    output(
        Command::new("mke2fs").args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&root).arg(&new).arg("600M"),
    )?;
    fs::rename(&new, &image)?;
    fs::write(&made_of, key)?;
    Ok(image)
}

/// debootstrap in its two stages, for between them dpkg is told not to wait for the disk after every file.
fn bootstrap(root: &Path) -> Result<()> {
    let sites = ["indextargets", "--format", "$(SITE)", "Created-By: Packages", "Label: Debian"];
    let sites = output(Command::new("apt-get").args(sites).arg(format!("Codename: {SUITE}")))?;
    let site = sites.lines().next().ok_or_else(|| format!("apt has no source for Debian {SUITE}"))?;
    let log = root.join("debootstrap/debootstrap.log");
    let last_words = |error: Box<dyn std::error::Error>| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("debootstrap: {error}\n{}", lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n"))
    };
    // `unshare` is for the mounts, and so that nothing it starts outlives it.
    let mut first = Command::new("unshare");
    first.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "debootstrap"]);
    first.args(["--variant=minbase", "--foreign", &format!("--include={PACKAGES}"), SUITE]).arg(root).arg(site);
    output(with_proxy(first)?.env("PATH", PATH)).map_err(last_words)?;
    write(root, "etc/dpkg/dpkg.cfg.d/no-sync", "force-unsafe-io\n")?;
    let mut second = Command::new("unshare");
    second.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "chroot"]).arg(root);
    output(second.args(["/debootstrap/debootstrap", "--second-stage"]).env("PATH", PATH)).map_err(last_words)?;
    Ok(())
}

/// debootstrap's programs are in folders that a user's `PATH` may lack.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// debootstrap does not read apt's own word on a proxy.
fn with_proxy(mut command: Command) -> Result<Command> {
    let proxy = output(Command::new("apt-config").args(["shell", "PROXY", "Acquire::http::Proxy"]))?;
    if let Some(proxy) = proxy.trim().strip_prefix("PROXY='").and_then(|proxy| proxy.strip_suffix('\'')) {
        command.env("http_proxy", proxy);
    }
    Ok(command)
}

fn set_up(root: &Path) -> Result<()> {
    for unused in ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"]
    {
        fs::remove_dir_all(root.join(unused))?;
    }
    for unit in MASKED {
        let link = root.join("etc/systemd/system").join(unit);
        let _ = fs::remove_file(&link);
        symlink("/dev/null", &link)?;
    }
    write(root, "etc/systemd/system/cellkit-job.service", JOB)?;
    write(root, "etc/machine-id", &format!("{:032x}\n", 0xce11_u32))?;
    write(root, "etc/hostname", "cellkit\n")?;
    append(root, "etc/passwd", &format!("cellkit:x:{USER}:{USER}::/home/cellkit:/bin/sh\n"))?;
    append(root, "etc/group", &format!("cellkit:x:{USER}:\n"))?;
    append(root, "etc/shadow", "cellkit:*:19000:0:99999:7:::\n")?;
    let home = root.join("home/cellkit");
    fs::create_dir_all(&home)?;
    std::os::unix::fs::chown(&home, Some(USER), Some(USER))?;
    write(root, "var/lib/systemd/linger/cellkit", "")
}

fn write(root: &Path, file: &str, content: &str) -> Result<()> {
    let path = root.join(file);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    Ok(fs::write(path, content)?)
}

fn append(root: &Path, file: &str, line: &str) -> Result<()> {
    let old = fs::read_to_string(root.join(file))?;
    write(root, file, &(old + line))
}
