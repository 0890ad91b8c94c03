//! The number of a link that may be gone.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use crate::link::LinkRef;
use crate::net::Net;

impl Net {
    /// The number of the link that is meant, or `None` when there is none of this name: what is to be removed from it is gone.
    pub(crate) async fn index_if_there(&self, link: &LinkRef) -> Result<Option<u32>> {
        match self.index_of(link).await {
            Ok(index) => Ok(Some(index)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
