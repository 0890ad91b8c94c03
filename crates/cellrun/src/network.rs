//! The bridge that containers of this machine share: `vethnet`'s asynchronous calls, made to wait.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Observer, Result, StepText, Subject};
use ns_core::{Capability, CapabilitySet, Net, NsFd};
use tokio::runtime::Runtime;
use vethnet::{Attach, Attachment, IfName, Network, Subnet};

use crate::request::Request;
use crate::state::{BridgeRecord, StateDir};

/// The interface that containers are attached to.
const BRIDGE: &str = "cellkit0";

/// The bridge and what one container wants of it.
#[derive(Debug)]
pub struct Bridge {
    runtime: Runtime,
    network: Network,
    attach: Attach,
    subnet: Subnet,
    owner: String,
}

impl Bridge {
    /// Collects; nothing is done.
    ///
    /// # Errors
    /// Those of making a runtime: too many open files.
    pub fn new(request: &Request, owner: &str) -> Result<Self> {
        // Said before anything is looked at: everything below would fail one by one.
        if !CapabilitySet::of_this_thread()?.contains(Capability::NET_ADMIN) {
            return Err(Error::from_errno("RTM_NEWLINK", libc::EPERM)
                .on(Subject::Interface(BRIDGE.into()))
                .with_hint("a bridge needs CAP_NET_ADMIN: run as root, or use --net none or --net host"));
        }
        let subnet = request.subnet.unwrap_or_default();
        let mut attach = Attach::new(owner);
        for port in &request.ports {
            attach = attach.publish(*port);
        }
        Ok(Self { runtime: runtime()?, network: network(BRIDGE, subnet)?, attach, subnet, owner: owner.to_owned() })
    }

    /// Whether the range is free and the ports are.
    ///
    /// # Errors
    /// Of what is not.
    pub fn check(&self) -> Result<()> {
        self.runtime.block_on(self.network.check(&self.attach))
    }

    /// What [`attach`](Self::attach) will do.
    ///
    /// # Errors
    /// Invalid for ports that contradict each other.
    pub fn describe(&self) -> Result<Vec<StepText>> {
        self.network.describe(&self.attach)
    }

    /// What a recovery needs to know.
    #[must_use]
    pub fn record(&self) -> BridgeRecord {
        BridgeRecord { owner: self.owner.clone(), bridge: BRIDGE.into(), subnet: self.subnet.to_string() }
    }

    /// Wires the namespace to the bridge, which is made if there is none.
    ///
    /// # Errors
    /// Of the step that failed; everything done before it is undone.
    pub fn attach(&self, netns: NsFd<Net>, observer: &mut dyn Observer) -> Result<Attachment> {
        self.runtime.block_on(self.network.attach(netns, &self.attach, observer))
    }

    /// Removes what [`attach`](Self::attach) made, and the bridge with the last container.
    ///
    /// # Errors
    /// All that could not be removed.
    pub fn detach(&self, attachment: Attachment) -> Result<()> {
        self.runtime.block_on(attachment.detach())
    }
}

/// Removes what a dead container left on its bridge.
///
/// # Errors
/// All that could not be removed.
pub fn recover(record: &BridgeRecord) -> Result<()> {
    let network = network(&record.bridge, record.subnet.parse()?)?;
    // Not detach: it asks for the lease, which the dead may have given back before the bridge went, or not had yet.
    runtime()?.block_on(network.reconcile(|owner| owner != record.owner)).map(drop)
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::from_io("epoll_create1", &error))
}

/// Leases belong to the network namespace that the bridge is in, whatever directory a container's record is in.
fn network(bridge: &str, subnet: Subnet) -> Result<Network> {
    let here = NsFd::<Net>::of_this_thread()?;
    let dir = StateDir::at(None).path().join(format!(".net-{}", here.id()));
    Ok(Network::new(IfName::new(bridge)?, subnet).state_dir(dir))
}
