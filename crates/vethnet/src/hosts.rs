//! /etc/hosts of a container.
//!
//! Theory of operation. A file that is bind-mounted over /etc/hosts is an inode: a file that is renamed in its place on the
//! host is never seen in the container. So what containers have mounted is rewritten in place, with the whole new text
//! in one write, lengthened by empty lines to the length of the old one where that is longer, and cut only then. Whoever
//! reads meanwhile never finds an empty file, and a text that fits in a page is old or new as a whole but for the instant
//! of the copy.
//!
//! The file of a whole network ends with a line that has a hash of the others, by which a text is known that a kill has
//! left half written: such a one is written anew from the leases.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use cellkit_core::{Error, Result};

use crate::hint::HINTS;
use crate::host_name::HostName;
use crate::name::{Fnv, Owner};

const HEAD: &str = "# The names of a network's containers, kept by vethnet: changes are lost.\n";
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
const END: &str = "# end ";
/// No line is much longer: musl reads them into 512 bytes.
const LINE: usize = 250;
/// How much longer than the new text the old one may be to be overwritten as a whole. What is behind is cut first.
const MOST_PADDING: u64 = 1 << 20;

/// Names and their addresses, as /etc/hosts has them, beginning with `localhost`.
///
/// Of a whole network, [`AddressPlan::hosts_file`](crate::AddressPlan::hosts_file) keeps the file itself.
///
/// See hosts(5): <https://man7.org/linux/man-pages/man5/hosts.5.html>.
///
/// ```
/// use vethnet::{HostName, Hosts};
///
/// let hosts = Hosts::new().entry([10, 88, 0, 2].into(), [HostName::new("web")?, HostName::new("www")?]);
/// assert_eq!(
///     hosts.to_string(),
///     "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.88.0.2\tweb www\n"
/// );
/// assert_eq!(Hosts::parse(hosts.to_string().as_bytes()), hosts);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Hosts {
    entries: Vec<(IpAddr, Vec<HostName>)>,
}

impl Hosts {
    /// `localhost` and nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the text of a hosts(5) file says, as the C library reads it: what is no address and no name is passed over,
    /// and so are the lines of `localhost`, which every `Hosts` has.
    pub fn parse(text: &[u8]) -> Self {
        let mut hosts = Self::new();
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let mut words = line.split_ascii_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
            let names: Vec<_> = words.filter_map(|word| HostName::new(word).ok()).collect();
            if !names.is_empty() && address != Ipv4Addr::LOCALHOST && address != Ipv6Addr::LOCALHOST {
                hosts = hosts.entry(address, names);
            }
        }
        hosts
    }

    /// These names mean this address. A name may have several addresses.
    pub fn entry(mut self, address: IpAddr, names: impl IntoIterator<Item = HostName>) -> Self {
        let names = names.into_iter();
        match self.entries.last_mut() {
            // Long entries are written on several lines.
            Some((last, all)) if *last == address => all.extend(names),
            _ => self.entries.push((address, names.collect())),
        }
        self
    }

    /// The entries after `localhost`, in order.
    pub fn entries(&self) -> impl Iterator<Item = (IpAddr, &[HostName])> {
        self.entries.iter().map(|(address, names)| (*address, names.as_slice()))
    }

    /// Writes the text over that of an open file, in place: for one that a container has mounted over its /etc/hosts.
    ///
    /// The file is never empty on the way. Two that write at once have to agree among themselves.
    ///
    /// # Errors
    /// `fstat`, `pwrite64` or `ftruncate`, whichever failed; the file may have a part of the text then.
    pub fn write_to(&self, file: impl AsFd) -> Result<()> {
        rewrite(&owned(file)?, self.to_string().as_bytes())
    }

    /// Makes or replaces the file `name` in a directory, as a whole: for one that nobody has mounted yet.
    ///
    /// `name` is one name, and a symbolic link of that name is replaced and not followed, so the directory may be a
    /// container's own /etc.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a name with a `/`; otherwise of the call that failed.
    pub fn replace_in(&self, dir: impl AsFd, name: &CStr) -> Result<()> {
        crate::etc::replace(dir.as_fd(), name, self.to_string().as_bytes())
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LOCALHOST)?;
        self.entries.iter().try_for_each(|(address, names)| f.write_str(&lines(*address, names, "")))
    }
}

/// The lines of one address, each of a length that every resolver reads.
fn lines(address: IpAddr, names: &[HostName], end: &str) -> String {
    let mut text = String::new();
    let mut length = 0;
    for name in names {
        if length == 0 {
            let _ = write!(text, "{address}\t{name}");
        } else {
            let _ = write!(text, " {name}");
        }
        length += name.as_str().len() + 1;
        if length >= LINE {
            let _ = writeln!(text, "{end}");
            length = 0;
        }
    }
    if length > 0 {
        let _ = writeln!(text, "{end}");
    }
    text
}

/// An owner's lines in the file of its network. They end in its id, by which they are found again.
pub(crate) fn lines_of(owner: &Owner, addresses: &[IpAddr], names: &[HostName]) -> String {
    let end = format!("\t# {}", owner.as_str());
    addresses.iter().map(|address| lines(*address, names, &end)).collect()
}

/// The lines without those of `owner`.
pub(crate) fn without(lines: &str, owner: &Owner) -> String {
    let end = format!("\t# {}\n", owner.as_str());
    lines.split_inclusive('\n').filter(|line| !line.ends_with(&end)).collect()
}

fn hash(text: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.add(text.as_bytes());
    hash.0
}

/// The whole file of a network.
pub(crate) fn sealed(lines: &str) -> String {
    let text = format!("{HEAD}{LOCALHOST}{lines}");
    let hash = hash(&text);
    format!("{text}{END}{hash:016x}\n")
}

/// The lines of owners in such a file, if it is whole.
pub(crate) fn unsealed(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    // Cut too late.
    let text = text.trim_end_matches('\n');
    let (text, end) = text.split_at_checked(text.rfind('\n')? + 1)?;
    let hash_read = u64::from_str_radix(end.strip_prefix(END)?, 16).ok()?;
    (hash_read == hash(text)).then_some(())?;
    text.strip_prefix(HEAD)?.strip_prefix(LOCALHOST)
}

pub(crate) fn owned(file: impl AsFd) -> Result<File> {
    let fd = file.as_fd().try_clone_to_owned().map_err(|error| fail("fcntl F_DUPFD_CLOEXEC", &error))?;
    Ok(fd.into())
}

fn fail(call: &'static str, error: &std::io::Error) -> Error {
    Error::from_io(call, error).with_hints(&HINTS)
}

/// Writes `text` over what is in the file, which is never shorter than the shorter of the two.
pub(crate) fn rewrite(file: &File, text: &[u8]) -> Result<()> {
    let before = file.metadata().map_err(|error| fail("fstat", &error))?.len();
    // The file may be a container's, which makes it as long as it likes.
    let most = text.len() as u64 + MOST_PADDING;
    if before > most {
        file.set_len(most).map_err(|error| fail("ftruncate", &error))?;
    }
    let mut padded = text.to_vec();
    padded.resize(text.len().max(usize::try_from(before.min(most)).unwrap_or(0)), b'\n');
    file.write_all_at(&padded, 0).map_err(|error| fail("pwrite64", &error))?;
    if padded.len() > text.len() {
        file.set_len(text.len() as u64).map_err(|error| fail("ftruncate", &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(name: &str) -> HostName {
        HostName::new(name).unwrap()
    }

    #[test]
    fn what_the_c_library_passes_over() {
        let text =
            b"127.0.0.1 localhost\n# 10.0.0.1 no\n 10.0.0.2\tweb  www # db\nweb 10.0.0.3\n10.0.0.4\nfd00::1 v6\r\n\
                     10.0.0.5 \xff\n10.0.0.6 b@d good\n\n::1 localhost";
        let hosts = Hosts::parse(text);
        let want = Hosts::new()
            .entry([10, 0, 0, 2].into(), [name("web"), name("www")])
            .entry("fd00::1".parse().unwrap(), [name("v6")])
            .entry([10, 0, 0, 6].into(), [name("good")]);
        assert_eq!(hosts, want);
    }

    #[test]
    fn no_line_is_too_long_for_musl() {
        let names: Vec<_> = (0..20).map(|index| name(&format!("{}{index}", "x".repeat(60)))).collect();
        let hosts = Hosts::new().entry("fd00:0:1:2:3:4:5:6".parse().unwrap(), names);
        assert!(hosts.to_string().lines().all(|line| line.len() < 500));
        assert_eq!(Hosts::parse(hosts.to_string().as_bytes()), hosts);
    }

    #[test]
    fn the_lines_of_an_owner_are_found_again() {
        let owner = |id: &str| Owner::new(id).unwrap();
        let of = |id: &str| lines_of(&owner(id), &[[10, 0, 0, 2].into(), "fd00::2".parse().unwrap()], &[name("web")]);
        assert_eq!(of("a"), "10.0.0.2\tweb\t# a\nfd00::2\tweb\t# a\n");
        let all = format!("{}{}{}", of("a"), of("aa"), of("b"));
        assert_eq!(without(&all, &owner("a")), format!("{}{}", of("aa"), of("b")));
        assert_eq!(without(&all, &owner("x")), all);
    }

    #[test]
    fn a_file_of_any_length_costs_no_memory() {
        let dir = faultkit::TempDir::new();
        let path = dir.path().join("hosts");
        let file = File::create(&path).unwrap();
        // As the container that has it mounted may leave it.
        file.set_len(1 << 43).unwrap();
        Hosts::new().write_to(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), LOCALHOST);
    }

    #[test]
    fn a_file_is_rewritten_in_place() {
        use std::os::unix::fs::MetadataExt;
        let dir = faultkit::TempDir::new();
        let path = dir.path().join("hosts");
        std::fs::write(&path, "x".repeat(100)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let before = file.metadata().unwrap().ino();
        for text in ["short\n", "", "a longer one\n"] {
            rewrite(&file, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), before);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let hosts = Hosts::parse(&text);
            prop_assert_eq!(Hosts::parse(hosts.to_string().as_bytes()), hosts);
            prop_assert!(unsealed(&text).is_none());
        }

        /// However far a writer came who was killed: what is found is the old text, the new one, or known to be neither.
        #[test]
        fn a_half_written_file_is_known(old in 0usize..40, new in 0usize..40, cut in 0usize..2000) {
            let lines = |count: usize| -> String {
                (0..count).map(|id| lines_of(&Owner::new(&format!("o{id}")).unwrap(), &[[10, 0, 0, 9].into()], &[name("n")])).collect()
            };
            let (old, new) = (lines(old), lines(new));
            let (before, after) = (sealed(&old), sealed(&new));
            let mut padded = after.clone().into_bytes();
            padded.resize(after.len().max(before.len()), b'\n');
            let cut = cut.min(padded.len());
            let mut torn = padded[..cut].to_vec();
            torn.extend(before.as_bytes().get(cut..).unwrap_or_default());
            if let Some(found) = unsealed(&torn) {
                prop_assert!(found == old || found == new);
            }
            prop_assert_eq!(unsealed(&padded), Some(new.as_str()));
        }
    }
}
