//! A Debian kernel and an initial RAM disk with the modules the tests need, made once and kept.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Folder;
use crate::install::{has, output};
use crate::{Result, is_root};

/// What starts a machine, and what the crates ask of a kernel: network links, address translation, file systems.
const MODULES: &[&str] = &[
    "9p",
    "9pnet_virtio",
    "virtio_pci",
    "virtio_blk",
    "overlay",
    "veth",
    "bridge",
    "br_netfilter",
    "macvlan",
    "macvtap",
    "ipvlan",
    "vxlan",
    "dummy",
    "tun",
    "8021q",
    "nf_tables",
    "nft_masq",
    "nft_nat",
    "nft_chain_nat",
    "nft_ct",
    "nft_redir",
    "nft_fib_inet",
    "nft_fib_netdev",
    "nft_meta_bridge",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "ipt_REJECT",
    "nft_reject_bridge",
    "nft_reject_netdev",
    "nft_limit",
    "nft_log",
    "nft_compat",
    "nf_nat",
    "nf_conntrack_netlink",
    "nf_conntrack_bridge",
    "sctp",
    "xt_MASQUERADE",
    "xt_conntrack",
    "xt_addrtype",
    "xt_comment",
    "iptable_nat",
    "sch_tbf",
    "sch_htb",
    "sch_netem",
    "sch_ingress",
    "cls_u32",
    "cls_matchall",
    "cls_bpf",
    "act_mirred",
    "act_police",
    "ifb",
    "ext4",
    "xfs",
    "erofs",
    "squashfs",
    "fuse",
    "loop",
    "zram",
    "binfmt_misc",
];

/// A kernel of Debian's packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernel {
    /// The oldest that Debian 12 has
    #[value(name = "6.1")]
    Oldest,
    /// The newest that Debian 12 has
    #[value(name = "6.12")]
    Newest,
}

impl Kernel {
    /// Its first two numbers.
    pub fn version(self) -> &'static str {
        match self {
            Self::Oldest => "6.1",
            Self::Newest => "6.12",
        }
    }

    /// The package, for `apt-cache search`. The `-cloud-` kernels lack 9p; the unsigned ones have no boot loader files.
    fn package(self) -> &'static str {
        match self {
            Self::Oldest => r"^linux-image-6\.1\.[0-9.]+-[0-9]+-amd64-unsigned$",
            Self::Newest => r"^linux-image-6\.12\.[0-9]+\+deb12-amd64-unsigned$",
        }
    }
}

/// The files to boot.
#[derive(Debug)]
pub struct Image {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub release: String,
}

impl Image {
    /// Takes it from `cache`, or makes it there.
    ///
    /// # Errors
    /// When the package cannot be found, fetched or unpacked.
    pub fn prepare(kernel: Kernel, cache: &Path) -> Result<Self> {
        fs::create_dir_all(cache)?;
        let home = cache.join(format!("linux-{}", kernel.version()));
        if !home.join("initrd").exists() {
            // Made aside and renamed: an interrupted or a second run finds all of it or nothing.
            let aside = Folder::make(cache, "making")?;
            fetch(kernel, cache, &aside.0)?;
            make_initrd(&aside.0)?;
            let _ = fs::remove_dir_all(&home);
            fs::rename(&aside.0, &home)?;
        }
        // The RAM disk's first program and its modules are part of this program: when they change, it is packed anew.
        if fs::read_to_string(home.join("made-of")).ok() != Some(made_of()) {
            make_initrd(&home)?;
        }
        let release = release_of(&home)?;
        Ok(Self { kernel: home.join(format!("boot/vmlinuz-{release}")), initrd: home.join("initrd"), release })
    }
}

const INIT: &str = include_str!("init.sh");

fn made_of() -> String {
    format!("{MODULES:?}\n{INIT}")
}

fn release_of(home: &Path) -> Result<String> {
    let modules = home.join("lib/modules");
    let first = fs::read_dir(&modules)?.next().ok_or_else(|| format!("{} is empty", modules.display()))??;
    Ok(first.file_name().to_string_lossy().into_owned())
}

fn fetch(kernel: Kernel, cache: &Path, into: &Path) -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        if !has(program) {
            return Err(format!("{program} is missing: the kernel comes from a Debian package").into());
        }
    }
    // First the machine's own package lists, then fresh ones: its own again, or for an ordinary user private ones.
    let private = cache.join("apt");
    let private_options: Vec<String> =
        ["State::Lists", "Cache"].map(|dir| format!("-oDir::{dir}={}", private.join(dir).display())).to_vec();
    if let Ok(()) = fetch_with(kernel, &[], into) {
        return Ok(());
    }
    let options = if is_root() { &[][..] } else { &private_options };
    for dir in ["State::Lists/partial", "Cache/archives/partial"] {
        fs::create_dir_all(private.join(dir))?;
    }
    output(Command::new("apt-get").args(options).args(["update", "-qq"]))?;
    fetch_with(kernel, options, into)
}

fn fetch_with(kernel: Kernel, options: &[String], into: &Path) -> Result<()> {
    let found = output(Command::new("apt-cache").args(options).args(["search", "--names-only", kernel.package()]))?;
    let mut names: Vec<&str> = found.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_by_key(|name| numbers(name));
    let name = names.last().ok_or_else(|| format!("no package matches {}", kernel.package()))?;
    println!("fetching {name}");
    output(Command::new("apt-get").args(options).args(["download", "-qq", name]).current_dir(into))?;
    for file in fs::read_dir(into)?.flatten().map(|entry| entry.path()) {
        if file.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg-deb").arg("-x").arg(&file).arg(into))?;
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// The numbers in a name, to sort 6.12.9 before 6.12.10.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

fn make_initrd(home: &Path) -> Result<()> {
    let release = release_of(home)?;
    output(Command::new(sbin("depmod")).arg("-b").arg(home).arg(&release))?;
    let root = home.join("root");
    let _ = fs::remove_dir_all(&root);
    for dir in ["bin", "proc", "sys", "dev", "modules", "host", "image", "rw", "new"] {
        fs::create_dir_all(root.join(dir))?; // join: the RAM disk's own folders, made here
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.ok_or("busybox is missing")?, root.join("bin/busybox"))?;
    let mut files: Vec<String> = Vec::new();
    for module in MODULES {
        // Built in, or not part of this kernel: then the tests that need it say so.
        let mut command = Command::new(sbin("modprobe"));
        command.arg("-d").arg(home).args(["-S", &release, "--show-depends", module]);
        let needs = output(&mut command).unwrap_or_default();
        for line in needs.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            // Behind the file stand options of this machine's configuration.
            let file = line.split_whitespace().next().unwrap_or_default().to_owned();
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    for (number, file) in files.iter().enumerate() {
        let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned();
        // In the order in which they depend on each other.
        let to = root.join("modules").join(format!("{number:03}-{}", name.trim_end_matches(".xz")));
        if name.ends_with(".xz") {
            let bytes = Command::new("xz").arg("-dc").arg(file).output()?.stdout;
            fs::write(to, bytes)?;
        } else {
            fs::copy(file, to).map_err(|e| format!("{file}: {e}"))?;
        }
    }
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    pack(home)?;
    Ok(fs::write(home.join("made-of"), made_of())?)
}

fn pack(home: &Path) -> Result<()> {
    let script = "cd root && find . | cpio -o -H newc --quiet | gzip -1 >../initrd.new && mv ../initrd.new ../initrd";
    output(Command::new("sh").args(["-c", script]).current_dir(home)).map(drop)
}

/// kmod's programs are in a folder that an ordinary user's `PATH` does not have.
fn sbin(program: &str) -> PathBuf {
    ["/usr/sbin", "/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
        .unwrap_or_else(|| program.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_numbers() {
        let mut names =
            ["linux-image-6.12.9+deb12-amd64", "linux-image-6.12.117+deb12-amd64", "linux-image-6.12.12+deb12-amd64"];
        names.sort_by_key(|name| numbers(name));
        assert_eq!(names[2], "linux-image-6.12.117+deb12-amd64");
    }
}
