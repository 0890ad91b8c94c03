//! A lease, and the wish for one.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::host_name::HostName;
use crate::ip_net::IpNet;
use crate::lease_dir::Leased;
use crate::name::Owner;

const VERSION: u32 = 1;

/// What one owner has of an [`AddressPlan`](crate::AddressPlan): an address of each of its ranges, and names.
///
/// It is a small value to keep in one's own state (`serde`); the plan keeps its own copy. Of addresses on an interface,
/// see ip-address(8): <https://man7.org/linux/man-pages/man8/ip-address.8.html>.
///
/// ```
/// # let scratch = std::env::temp_dir().join(format!("vethnet-lease-{}", std::process::id()));
/// use vethnet::{AddressPlan, Lease};
///
/// let plan = AddressPlan::new(&scratch).subnet("10.88.0.0/24".parse()?);
/// let lease: Lease = plan.lease("web")?;
/// assert_eq!(lease.ipv4().map(|address| address.to_string()).as_deref(), Some("10.88.0.2/24"));
/// # plan.release("web")?;
/// # plan.remove()?;
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    version: u32,
    owner: Owner,
    addresses: Vec<IpNet>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<HostName>,
}

impl Lease {
    pub(crate) fn new(owner: Owner, addresses: Vec<IpNet>, names: Vec<HostName>) -> Self {
        Self { version: VERSION, owner, addresses, names }
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.owner.as_str()
    }

    /// The addresses, one of each range, in the order of the ranges.
    #[must_use]
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// The IPv4 address, if the plan has a range of those.
    #[must_use]
    pub fn ipv4(&self) -> Option<IpNet> {
        self.addresses.iter().copied().find(IpNet::is_ipv4)
    }

    /// The IPv6 address, if the plan has a range of those.
    #[must_use]
    pub fn ipv6(&self) -> Option<IpNet> {
        self.addresses.iter().copied().find(IpNet::is_ipv6)
    }

    /// What its neighbours call it, see [`AddressPlan::hosts_file`](crate::AddressPlan::hosts_file).
    #[must_use]
    pub fn names(&self) -> &[HostName] {
        &self.names
    }
}

impl Leased for Lease {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let lease: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if lease.version != VERSION {
            return Err(format!("it has version {}, and only version {VERSION} is known", lease.version));
        }
        Ok(lease)
    }

    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(IpNet::address).collect()
    }

    fn names(&self) -> &[HostName] {
        &self.names
    }
}

/// Whose lease it is to be, and which.
///
/// Setters collect and never fail; [`AddressPlan::lease`](crate::AddressPlan::lease) checks all of it. A string alone is the
/// wish for the next free addresses.
///
/// ```
/// # let scratch = std::env::temp_dir().join(format!("vethnet-wish-{}", std::process::id()));
/// use vethnet::{AddressPlan, HostName, Wish};
///
/// let plan = AddressPlan::new(&scratch).subnet("10.88.0.0/24".parse()?);
/// let wish = Wish::new("db-1").address([10, 88, 0, 53].into()).name(HostName::new("db")?);
/// assert_eq!(plan.lease(wish)?.addresses()[0].to_string(), "10.88.0.53/24");
/// # plan.release("db-1")?;
/// # plan.remove()?;
/// # Ok::<(), vethnet::Error>(())
/// ```
///
/// Leases are kept by symlink(2), which takes a name once: <https://man7.org/linux/man-pages/man2/symlink.2.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Wish {
    pub(crate) owner: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) names: Vec<HostName>,
}

impl Wish {
    /// For this owner: 1 to 128 letters, digits and `_`, `-`, `.`, `+`, beginning with a letter, a digit or `_`. One owner
    /// has at most one lease of a plan.
    pub fn new(owner: impl Into<String>) -> Self {
        Self { owner: owner.into(), addresses: Vec::new(), names: Vec::new() }
    }

    /// This address, and no other. May be called once for each range.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// A name by which its neighbours find it. May be called again; others may have the same, and then it means all of
    /// them.
    pub fn name(mut self, name: HostName) -> Self {
        self.names.push(name);
        self
    }
}

impl From<&str> for Wish {
    fn from(owner: &str) -> Self {
        Self::new(owner)
    }
}

impl From<String> for Wish {
    fn from(owner: String) -> Self {
        Self::new(owner)
    }
}
