//! Programs the other commands call, and the Debian packages they come from.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::{Result, is_root};

/// A program and its package.
type Tool = (&'static str, &'static str);

/// What the tests check with, and test.
pub const TEST_TOOLS: &[Tool] = &[
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("ss", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("newuidmap", "uidmap"),
    ("ping", "iputils-ping"),
    ("newgidmap", "uidmap"),
    ("getsubids", "uidmap"),
    ("pasta", "passt"),
    // nft prints protocols by their names in it.
    ("/etc/protocols", "netbase"),
    ("findmnt", "util-linux"),
    ("nsenter", "util-linux"),
    ("lsns", "util-linux"),
    ("chrt", "util-linux"),
    ("taskset", "util-linux"),
    ("script", "bsdutils"),
    ("bash", "bash"),
    ("perl", "perl-base"),
    ("pgrep", "procps"),
    ("ps", "procps"),
    ("strace", "strace"),
    ("bpftool", "bpftool"),
    ("python3", "python3-minimal"),
    ("tar", "tar"),
    ("getfattr", "attr"),
    ("setfattr", "attr"),
    ("getfacl", "acl"),
    ("setfacl", "acl"),
    ("getcap", "libcap2-bin"),
    ("setcap", "libcap2-bin"),
    // The feature `layers` of mountkit builds zstd's C library.
    ("cc", "gcc"),
    ("/usr/include/stdlib.h", "libc6-dev"),
];

/// What a virtual machine is made of.
pub const VM_TOOLS: &[Tool] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("modprobe", "kmod"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
];

/// What the root file system with systemd is made by.
pub const ROOTFS_TOOLS: &[Tool] = &[
    ("debootstrap", "debootstrap"),
    ("mke2fs", "e2fsprogs"),
    ("unshare", "util-linux"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    ("gpgv", "gpgv"),
    ("wget", "wget"),
];

/// What cellkit is compared with.
pub const PEERS: &[Tool] = &[
    ("unshare", "util-linux"),
    ("bwrap", "bubblewrap"),
    ("crun", "crun"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/lib/podman/netavark", "netavark"),
    // Both run it.
    ("iptables", "iptables"),
    ("iperf3", "iperf3"),
];

/// Whether a program can be found. The folders of the administrator count: root's `PATH` has them, a user's may not.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(more).any(|dir| dir.join(program).is_file())
}

/// The packages of those `tools` that are missing.
pub fn missing(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        tools.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// `cargo xtask install`: what `cargo xtask test` begins with, alone.
///
/// # Errors
/// As [`ensure`].
pub fn install() -> Result<ExitCode> {
    ensure(TEST_TOOLS)?;
    println!("everything that the tests check with is here");
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing of `tools`, if this is root on a Debian.
///
/// # Errors
/// When something is still missing, with the command that installs it.
pub fn ensure(tools: &[Tool]) -> Result<()> {
    let packages = missing(tools);
    if packages.is_empty() {
        return Ok(());
    }
    let advice = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !is_root() || !has("apt-get") {
        return Err(format!("missing: {}; install with: {advice}", packages.join(", ")).into());
    }
    println!("installing {}", packages.join(" "));
    // A fresh machine may have no package lists, an old one stale lists.
    if !apt_install(&packages) {
        run("apt-get", &["update", "-qq"])?;
        apt_install(&packages);
    }
    match missing(tools) {
        none if none.is_empty() => Ok(()),
        still => Err(format!("could not install {}; try: {advice}", still.join(", ")).into()),
    }
}

fn apt_install(packages: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a program to its end, quietly.
///
/// # Errors
/// When it cannot be started or fails, with what it said.
pub fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program.as_ref());
    output(command.args(arguments))
}

/// As [`run`], for a command that is more than a name and arguments.
///
/// # Errors
/// As [`run`].
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("{name}: {}: {said}", output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_once() {
        assert!(has("sh"));
        assert_eq!(missing(&[("sh", "dash"), ("no-such-a", "pkg"), ("no-such-b", "pkg")]), ["pkg"]);
    }

    #[test]
    fn a_failing_program_is_an_error_with_what_it_said() {
        let error = run("sh", &["-c", "echo oh dear >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("exit status: 3: oh dear"), "{error}");
    }
}
