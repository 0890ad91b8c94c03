//! Files whose content is the caller's.
#![forbid(unsafe_code)]

use std::ffi::CString;

use cellkit_core::{Result, Slot};

use super::{Plan, c_string, in_scratch};
use crate::step::Call;

impl Plan {
    /// A file of the scratch tmpfs with this content, as a detached mount.
    pub(super) fn file(&mut self, content: &[u8]) -> Result<Slot> {
        if self.files == 0 {
            self.mkdir_in_scratch(c"files", 0o755, "for files that the host does not have");
        }
        let path: CString = c_string("openat", format!("files/{}", self.files).as_ref())?;
        self.files += 1;
        let call = Call::WriteFile { at: self.scratch, path: path.clone(), mode: 0o644, content: content.into() };
        self.push(call, "a file of the container's own", in_scratch(&path));
        Ok(self.clone_of_scratch(&path, "… as a mount of its own"))
    }
}
