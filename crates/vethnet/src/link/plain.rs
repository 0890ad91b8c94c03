//! [`Dummy`] and [`Ifb`]: links without options of their own.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use crate::link::options::Options;
use crate::link::settings::{Settings, link_settings, queue_settings};
use crate::link::spec::{Plan, sealed};
use crate::name::IfName;

/// A link that drops what is sent by it, to make or to be ensured: a place for addresses that do not depend on a wire.
///
/// * Kernel object: `IFLA_INFO_KIND` "dummy". Needs CONFIG_DUMMY (module dummy).
/// * Kernel: 5.15. Privileges: CAP_NET_ADMIN over the namespace.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::{Dummy, IfName};
///
/// net.ensure_link(&Dummy::new(IfName::new("service0")?).up()).await?;
/// # Ok(())
/// # }
/// ```
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is made before Net::create_link or Net::ensure_link"]
pub struct Dummy {
    name: IfName,
    settings: Settings,
    options: Options,
}

link_settings!(Dummy);
queue_settings!(Dummy);

impl Dummy {
    /// One of this name.
    pub fn new(name: IfName) -> Self {
        Self { name, settings: Settings::default(), options: Options::default() }
    }
}

impl sealed::Spec for Dummy {
    fn plan(&self) -> Result<Plan<'_>> {
        Ok(Plan::new(&self.name, "dummy", &self.settings, &self.options))
    }
}

/// An intermediate functional block, to make or to be ensured: what another link receives is redirected into it, so that
/// it can wait in a queue there.
///
/// * Kernel object: `IFLA_INFO_KIND` "ifb". Needs CONFIG_IFB (module ifb).
/// * Kernel: 5.15. Privileges: CAP_NET_ADMIN over the namespace.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::{IfName, Ifb};
///
/// net.ensure_link(&Ifb::new(IfName::new("ifb-web")?).up()).await?;
/// # Ok(())
/// # }
/// ```
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is made before Net::create_link or Net::ensure_link"]
pub struct Ifb {
    name: IfName,
    settings: Settings,
    options: Options,
}

link_settings!(Ifb);
queue_settings!(Ifb);

impl Ifb {
    /// One of this name.
    pub fn new(name: IfName) -> Self {
        Self { name, settings: Settings::default(), options: Options::default() }
    }
}

impl sealed::Spec for Ifb {
    fn plan(&self) -> Result<Plan<'_>> {
        Ok(Plan::new(&self.name, "ifb", &self.settings, &self.options))
    }
}
