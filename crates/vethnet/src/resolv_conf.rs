//! /etc/resolv.conf of a container.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::io::ErrorKind as Io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};

use crate::etc;
use crate::hint::HINTS;
use crate::host_name::HostName;
use crate::hosts::{owned, rewrite};

const HOSTS_OWN: &str = "/etc/resolv.conf";
/// The servers that systemd-resolved asks; /etc/resolv.conf has only its own address then.
const SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";
/// `MAXNS` of resolv.h: further ones are never asked.
const MOST_SERVERS: usize = 3;

/// Which nameservers are asked, and how, as /etc/resolv.conf has it.
///
/// [`of_host`](ResolvConf::of_host) is what a container can use of the host's own; or name servers of your own. Setters
/// collect and never fail; [`text`](ResolvConf::text) checks all of it.
///
/// See resolv.conf(5): <https://man7.org/linux/man-pages/man5/resolv.conf.5.html>.
///
/// ```
/// use vethnet::{HostName, ResolvConf};
///
/// let conf = ResolvConf::new()
///     .nameserver("10.88.0.1".parse()?)
///     .search(HostName::new("pods.internal")?)
///     .option("ndots:1");
/// assert_eq!(conf.text()?, "search pods.internal\nnameserver 10.88.0.1\noptions ndots:1\n");
///
/// let stub = ResolvConf::parse(b"nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n");
/// assert!(stub.for_container().nameservers().is_empty(), "a container's loopback is its own");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ResolvConf {
    nameservers: Vec<Nameserver>,
    search: Vec<String>,
    options: Vec<String>,
}

/// The address of a nameserver, `10.88.0.1` or `fe80::1%eth0`.
///
/// ```
/// use vethnet::Nameserver;
///
/// let server: Nameserver = "fe80::1%eth0".parse()?;
/// assert_eq!(server.scope(), Some("eth0"));
/// assert!("fe80::1%".parse::<Nameserver>().is_err());
/// # Ok::<(), vethnet::Error>(())
/// ```
///
/// See resolv.conf(5): <https://man7.org/linux/man-pages/man5/resolv.conf.5.html>.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nameserver {
    address: IpAddr,
    scope: Option<String>,
}

impl Nameserver {
    /// The address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The interface of a link-local address, by name or number.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Whether a container can ask it: not on the host's loopback, and not known by an interface of the host's.
    fn is_for_container(&self) -> bool {
        let mapped = match self.address {
            IpAddr::V6(address) => address.to_ipv4_mapped().map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let address = mapped.unwrap_or(self.address);
        let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        self.scope.is_none() && !link_local && !address.is_loopback() && !address.is_unspecified()
    }
}

impl From<IpAddr> for Nameserver {
    fn from(address: IpAddr) -> Self {
        Self { address, scope: None }
    }
}

impl FromStr for Nameserver {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (address, scope) = match text.split_once('%') {
            Some((address, scope)) => (address, Some(scope)),
            None => (text, None),
        };
        let fail = |why| Err(Error::invalid("nameserver", why).on(Subject::Value(text.to_owned())));
        let scope_is_name =
            scope.is_none_or(|scope| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic()));
        match address.parse::<IpAddr>() {
            Ok(address) if scope.is_none() || (address.is_ipv6() && scope_is_name) => {
                Ok(Self { address, scope: scope.map(str::to_owned) })
            }
            Ok(_) => fail("an interface is named after an IPv6 address and a '%'"),
            Err(_) => fail("it has to be an address: names are what it is asked for"),
        }
    }
}

impl fmt::Display for Nameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.scope.as_ref().map_or(Ok(()), |scope| write!(f, "%{scope}"))
    }
}

impl ResolvConf {
    /// One that names nothing. As it is, the C library asks 127.0.0.1 by it.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the text of a resolv.conf(5) file says, as the C library reads it: what it does not know is passed over, and of
    /// several `search` or `domain` lines the last counts. `sortlist`, which nobody uses any more, is not kept.
    pub fn parse(text: &[u8]) -> Self {
        let mut conf = Self::new();
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            // A comment begins the line; within one, the C library knows none, but other resolvers do.
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => conf.nameservers.extend(words.next().and_then(|word| word.parse().ok())),
                Some("search") => conf.search = words.filter(|word| is_word(word)).map(str::to_owned).collect(),
                Some("domain") => {
                    conf.search = words.take(1).filter(|word| is_word(word)).map(str::to_owned).collect();
                }
                Some("options") => conf.options.extend(words.filter(|word| is_word(word)).map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// What a container can use of this machine's own: /etc/resolv.conf [for a container](Self::for_container), and when
    /// that names only a resolver on the loopback interface, what systemd-resolved asks itself
    /// (/run/systemd/resolve/resolv.conf).
    ///
    /// # Errors
    /// `read` of either file; [`Other`](crate::ErrorKind::Other) when no nameserver is left.
    ///
    /// ```no_run
    /// # fn example(file: std::fs::File) -> vethnet::Result<()> {
    /// use vethnet::ResolvConf;
    ///
    /// ResolvConf::of_host()?.write_to(&file)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_host() -> Result<Self> {
        for path in [HOSTS_OWN, SYSTEMD] {
            let text = match fs::read(path) {
                Ok(text) => text,
                Err(error) if error.kind() == Io::NotFound => continue,
                Err(error) => return Err(Error::from_io("read", &error).on(Path::new(path)).with_hints(&HINTS)),
            };
            let conf = Self::parse(&text).for_container();
            if !conf.nameservers.is_empty() {
                return Ok(conf);
            }
        }
        Err(Error::other("read", "it names no nameserver that a container can reach")
            .on(Path::new(HOSTS_OWN))
            .with_hint("those on the machine's loopback are not the container's: name one by address, such as the gateway's where a resolver listens on it"))
    }

    /// What of it holds in another network namespace: without nameservers on the loopback interface (127.0.0.53, `::1`),
    /// which would be the container's own, without those behind an interface of the host's (`fe80::1%eth0`), and of the
    /// rest the first three, which is how many are asked. Where one is left out, so is `trust-ad`, which was said of a
    /// resolver on the loopback interface.
    pub fn for_container(mut self) -> Self {
        let before = self.nameservers.len();
        self.nameservers.retain(Nameserver::is_for_container);
        if self.nameservers.len() != before {
            // It is said of one that answers on the loopback interface, and of no other.
            self.options.retain(|option| option != "trust-ad");
        }
        self.nameservers.truncate(MOST_SERVERS);
        self
    }

    /// A nameserver. May be called again, three times in all.
    pub fn nameserver(mut self, server: Nameserver) -> Self {
        self.nameservers.push(server);
        self
    }

    /// A domain in which names are looked up that have too few dots. May be called again.
    pub fn search(mut self, domain: HostName) -> Self {
        self.search.push(domain.as_str().to_owned());
        self
    }

    /// An option, such as `ndots:1`. May be called again.
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// The nameservers, in the order in which they are asked.
    #[must_use]
    pub fn nameservers(&self) -> &[Nameserver] {
        &self.nameservers
    }

    /// The domains of `search`.
    pub fn search_list(&self) -> impl Iterator<Item = &str> {
        self.search.iter().map(String::as_str)
    }

    /// The options.
    pub fn options(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(String::as_str)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a fourth nameserver, which would never be asked, and for an option that
    /// is not one word.
    pub fn text(&self) -> Result<String> {
        let fail = |why, value: &dyn fmt::Display| {
            Err(Error::invalid("resolv.conf", why).on(Subject::Value(value.to_string())))
        };
        if let Some(server) = self.nameservers.get(MOST_SERVERS) {
            return fail("only the first three nameservers are ever asked", server);
        }
        if let Some(option) = self.options.iter().find(|option| !is_word(option)) {
            return fail("an option is one word of printable ASCII", option);
        }
        let mut text = String::new();
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        Ok(text)
    }

    /// Writes the text over that of an open file, in place, so that whoever has it mounted sees it (see
    /// [`Hosts::write_to`](crate::Hosts::write_to)).
    ///
    /// # Errors
    /// As [`text`](Self::text); `fstat`, `pwrite64` or `ftruncate`.
    pub fn write_to(&self, file: impl AsFd) -> Result<()> {
        rewrite(&owned(file)?, self.text()?.as_bytes())
    }

    /// Makes or replaces the file `name` in a directory, as a whole (see [`Hosts::replace_in`](crate::Hosts::replace_in)).
    ///
    /// # Errors
    /// As [`text`](Self::text); Invalid for a name with a `/`; otherwise of the call that failed.
    pub fn replace_in(&self, dir: impl AsFd, name: &CStr) -> Result<()> {
        etc::replace(dir.as_fd(), name, self.text()?.as_bytes())
    }
}

/// One word that stays one in the file, whoever reads it.
fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b';')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_the_c_library_reads() {
        let conf = ResolvConf::parse(
            b"# nameserver 192.0.2.9\n; nameserver 192.0.2.8\nnameserver 192.0.2.1 # here\n\tnameserver\t2001:db8::1\n\
              nameserver name\nnameserver\ndomain one\nsearch two  three\noptions ndots:2 rotate\noptions edns0\n\
              sortlist 10.0.0.0\nnameserver fe80::1%eth0\nnameserver \xff\n",
        );
        let servers: Vec<_> = conf.nameservers().iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"]);
        assert_eq!(conf.search_list().collect::<Vec<_>>(), ["two", "three"]);
        assert_eq!(conf.options().collect::<Vec<_>>(), ["ndots:2", "rotate", "edns0"]);
    }

    #[test]
    fn what_a_container_can_ask() {
        let conf = |servers: &[&str]| {
            let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
            let conf = ResolvConf::parse(format!("{text}options trust-ad edns0\n").as_bytes()).for_container();
            let servers: Vec<_> = conf.nameservers().iter().map(ToString::to_string).collect();
            (servers.join(" "), conf.options().collect::<Vec<_>>().join(" "))
        };
        let (kept, lost) = ("trust-ad edns0".to_owned(), "edns0".to_owned());
        assert_eq!(conf(&["127.0.0.53"]), (String::new(), lost.clone()));
        assert_eq!(conf(&["127.0.0.53", "192.0.2.1", "::1", "0.0.0.0", "::"]), ("192.0.2.1".into(), lost.clone()));
        assert_eq!(conf(&["fe80::1%eth0", "fe80::2", "::ffff:127.0.0.1", "fd00::1"]), ("fd00::1".into(), lost));
        let many = ["192.0.2.1", "192.0.2.2", "fd00::3", "192.0.2.4"];
        assert_eq!(conf(&many), ("192.0.2.1 192.0.2.2 fd00::3".into(), kept));
    }

    #[test]
    fn what_is_refused() {
        let four =
            (1..=4).fold(ResolvConf::new(), |conf, last| conf.nameserver(IpAddr::from([192, 0, 2, last]).into()));
        for (conf, why) in [
            (four, "first three"),
            (ResolvConf::new().option("ndots:1\nnameserver 6.6.6.6"), "one word"),
            (ResolvConf::new().option(""), "one word"),
        ] {
            let error = conf.text().expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(why), "{error}");
        }
        for server in ["", "ns1", "10.0.0.1%eth0", "fe80::1%", "fe80::1%a b", "[::1]"] {
            assert_eq!(server.parse::<Nameserver>().expect_err(server).kind(), ErrorKind::Invalid);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_written_alike(text in prop::collection::vec(any::<u8>(), 0..200), lines in prop::collection::vec(
            "(nameserver|search|domain|options)[ \t](\\PC{0,12}|[0-9a-f:.%]{0,12})", 0..8)) {
            for text in [text, lines.join("\n").into_bytes()] {
                let conf = ResolvConf::parse(&text).for_container();
                let written = conf.text().expect("for a container it is right");
                prop_assert_eq!(ResolvConf::parse(written.as_bytes()), conf);
            }
        }

        #[test]
        fn what_is_left_is_not_the_containers_own(last: u8, v6: u128) {
            let servers = [IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), IpAddr::V6(v6.into())];
            let conf = servers.into_iter().fold(ResolvConf::new(), |conf, server| conf.nameserver(server.into()));
            prop_assert!(conf.for_container().nameservers().iter().all(|server| !server.address().is_loopback()));
        }
    }
}
