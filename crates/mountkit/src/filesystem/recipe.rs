//! What a builder of a file system amounts to: its type, its options and the attributes of its mount.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString, OsString};

use cellkit_core::{Error, Result, Subject};

use super::context::{Context, Superblock};
use crate::{Atime, DetachedMount, MountAttr};

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) key: &'static CStr,
    pub(crate) value: Value,
    known: Known,
}

/// Which kernels know an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Always,
    Since(&'static str),
    IfBuilt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(CString),
    Flag,
}

impl Setting {
    /// `key=value`. What callers give is numbers, and words of ours.
    pub(crate) fn text(key: &'static CStr, value: impl ToString) -> Self {
        // Neither has a NUL byte in it.
        let value = CString::new(value.to_string()).unwrap_or_default();
        Self { key, value: Value::Text(value), known: Known::Always }
    }

    pub(crate) fn flag(key: &'static CStr) -> Self {
        Self { key, value: Value::Flag, known: Known::Always }
    }

    /// Kernels before `version` do not know it.
    pub(crate) fn since(self, version: &'static str) -> Self {
        Self { known: Known::Since(version), ..self }
    }

    /// Kernels that were built without it do not know it.
    pub(crate) fn if_built(self) -> Self {
        Self { known: Known::IfBuilt, ..self }
    }

    fn tell(&self, context: &Context) -> Result<()> {
        let told = match &self.value {
            Value::Text(value) => context.set(self.key, value),
            Value::Flag => context.flag(self.key),
        };
        told.map_err(|error| {
            // "Unknown parameter": its name is not known; "Unsupported parameter": its name is.
            let unknown = error.kernel_text().is_some_and(|text| text.contains("parameter '"));
            let feature = || format!("the option {}", self.key.to_string_lossy());
            match self.known {
                Known::Since(version) if unknown => error.as_unsupported(feature(), Some(version)),
                Known::IfBuilt if unknown => error.as_unsupported(feature(), None),
                _ => error,
            }
        })
    }
}

/// A file system of the kernel's own, to be made by the parent or by the steps of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) fs: &'static CStr,
    pub(crate) settings: Vec<Setting>,
    source: Option<CString>,
    attrs: MountAttr,
    atime: Option<Atime>,
}

impl Recipe {
    /// MOUNT_ATTR_* of the mount.
    pub(crate) fn attributes(&self) -> u64 {
        self.attrs.bits() | self.atime.map_or(0, Atime::bits)
    }

    /// The name that it is to be known by.
    pub(crate) fn source(&self) -> Option<&CStr> {
        self.source.as_deref()
    }

    pub(crate) fn mount(&self) -> Result<DetachedMount> {
        let context = Context::open(self.fs, Subject::Thing(self.fs.to_string_lossy().into_owned()))?;
        if let Some(source) = &self.source {
            context.set(c"source", source)?;
        }
        for setting in &self.settings {
            setting.tell(&context)?;
        }
        context.create(Superblock::NewOrShared)?;
        context.mount(self.attrs, self.atime)
    }
}

/// What is asked of the mount, beside the options of its file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    set: MountAttr,
    cleared: MountAttr,
    pub(crate) atime: Option<Atime>,
    pub(crate) source: Option<OsString>,
}

impl MountOptions {
    /// The last word about an attribute counts.
    pub(crate) fn set(&mut self, attrs: MountAttr) {
        self.set |= attrs;
        self.cleared -= attrs;
    }

    pub(crate) fn clear(&mut self, attrs: MountAttr) {
        self.cleared |= attrs;
        self.set -= attrs;
    }

    /// The recipe of a file system whose mount has the attributes `default` unless asked otherwise.
    pub(crate) fn recipe(&self, fs: &'static CStr, default: MountAttr, settings: Vec<Setting>) -> Result<Recipe> {
        let subject = || Subject::Thing(fs.to_string_lossy().into_owned());
        let source = self.source.as_deref().map(|source| super::word(source, &subject())).transpose()?;
        let attrs = (default | self.set) - self.cleared;
        Ok(Recipe { fs, settings, source, attrs, atime: self.atime })
    }
}

/// Refuses an option before anything is made.
pub(crate) fn refuse(fs: &str, why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid("fsconfig", why).on(Subject::Thing(fs.to_owned()))
}

/// Permission bits, or why not.
pub(crate) fn mode(fs: &str, key: &'static CStr, bits: u32, most: u32) -> Result<Setting> {
    if bits & !most != 0 {
        return Err(refuse(fs, format!("{} {bits:#o} has bits beyond {most:#o}", key.to_string_lossy())));
    }
    Ok(Setting::text(key, format!("{bits:04o}")))
}

/// The number of a user or group, or why not.
pub(crate) fn id(fs: &str, key: &'static CStr, id: u32) -> Result<Setting> {
    if id == u32::MAX {
        return Err(refuse(fs, format!("4294967295 is no {}", key.to_string_lossy())));
    }
    Ok(Setting::text(key, id))
}

/// A number of bytes that limits something, or why not.
pub(crate) fn bytes(fs: &str, key: &'static CStr, bytes: u64) -> Result<Setting> {
    let name = key.to_string_lossy();
    match bytes {
        0 => Err(refuse(fs, format!("a {name} of 0 bytes would have no limit: give a {name} or leave it out"))),
        1..=0x7fff_ffff_ffff_ffff => Ok(Setting::text(key, bytes)),
        _ => Err(refuse(fs, format!("a {name} of {bytes} bytes is larger than any file can be"))),
    }
}
