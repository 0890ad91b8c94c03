//! Names of queueing disciplines and classes.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};

const TC_H_ROOT: u32 = 0xFFFF_FFFF;
const TC_H_INGRESS: u32 = 0xFFFF_FFF1;
/// The handle that the kernel gives to the ingress qdisc of every interface.
pub(crate) const INGRESS_HANDLE: u32 = 0xFFFF_0000;

/// The name of a queueing discipline (`1:`) or of a class in it (`1:10`), in hexadecimal as tc(8) writes it.
///
/// See tc(8): <https://man7.org/linux/man-pages/man8/tc.8.html>.
///
/// ```
/// use vethnet::Handle;
///
/// let class: Handle = "1:10".parse()?;
/// assert_eq!(class, Handle::new(1, 0x10)?);
/// assert_eq!(class.qdisc().to_string(), "1:");
/// assert!("ffff:1".parse::<Handle>().is_err(), "the kernel's own: of the ingress qdisc, and of the root");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "TC_H_MAKE")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(u32);

impl Handle {
    /// That of class `minor` in the qdisc `major`; `minor` 0 is the qdisc itself.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a `major` of 0, which names nothing, and of 0xffff, which is the kernel's.
    pub fn new(major: u16, minor: u16) -> Result<Self> {
        let handle = Self(u32::from(major) << 16 | u32::from(minor));
        let fail = |why| Err(Error::invalid("handle", why).on(Subject::Value(handle.to_string())));
        match major {
            0 => fail("its first number may not be 0"),
            0xffff => fail("ffff: is the kernel's own"),
            _ => Ok(handle),
        }
    }

    /// The qdisc's number.
    #[must_use]
    pub fn major(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The class's number in its qdisc; 0 is the qdisc itself.
    #[must_use]
    pub fn minor(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The qdisc that the class is in.
    #[must_use]
    pub fn qdisc(self) -> Self {
        Self(self.0 & 0xffff_0000)
    }

    pub(crate) fn raw(self) -> u32 {
        self.0
    }

    /// What the kernel says; 0 is none.
    pub(crate) fn from_raw(raw: u32) -> Option<Self> {
        (raw != 0).then_some(Self(raw))
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:", self.major())?;
        if self.minor() == 0 { Ok(()) } else { write!(f, "{:x}", self.minor()) }
    }
}

impl FromStr for Handle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hex = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u16::from_str_radix(text, 16).ok()).flatten()
        };
        let parts = text
            .split_once(':')
            .and_then(|(major, minor)| Some((hex(major)?, if minor.is_empty() { 0 } else { hex(minor)? })));
        match parts {
            Some((major, minor)) => Self::new(major, minor),
            None => Err(Error::invalid("handle", "write it as two hexadecimal numbers, such as 1: or 1:10")
                .on(Subject::Value(text.to_owned()))),
        }
    }
}

/// Where on an interface a queueing discipline is.
///
/// See tc(8): <https://man7.org/linux/man-pages/man8/tc.8.html>.
///
/// ```
/// use vethnet::Parent;
///
/// assert_eq!(Parent::Class("1:10".parse()?).to_string(), "parent 1:10");
/// assert_eq!(Parent::Ingress.to_string(), "ingress");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parent {
    /// What the interface sends.
    #[doc(alias = "TC_H_ROOT")]
    Root,
    /// What it receives.
    #[doc(alias = "TC_H_INGRESS")]
    Ingress,
    /// What belongs to a class of another qdisc.
    Class(Handle),
}

impl Parent {
    pub(crate) fn raw(self) -> u32 {
        match self {
            Self::Root => TC_H_ROOT,
            Self::Ingress => TC_H_INGRESS,
            Self::Class(handle) => handle.raw(),
        }
    }

    /// `None` where a driver keeps a qdisc beside the tree (the queues of some hardware).
    pub(crate) fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            TC_H_ROOT => Some(Self::Root),
            TC_H_INGRESS => Some(Self::Ingress),
            _ => Handle::from_raw(raw).map(Self::Class),
        }
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Ingress => f.write_str("ingress"),
            Self::Class(handle) => write!(f, "parent {handle}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused() {
        for text in ["", ":", "1", "0:1", ":1", "ffff:", "1:1:1", "1:+1", "10000:", "1:g", "1: 1", "1:10000"] {
            assert!(text.parse::<Handle>().is_err(), "{text}");
        }
        assert_eq!("1:".parse::<Handle>().unwrap().minor(), 0);
    }

    proptest! {
        #[test]
        fn text_and_value(major in 1u16..0xffff, minor: u16) {
            let handle = Handle::new(major, minor).unwrap();
            prop_assert_eq!(handle.to_string().parse::<Handle>().unwrap(), handle);
            prop_assert_eq!((handle.major(), handle.minor()), (major, minor));
        }

        #[test]
        fn any_number_of_the_kernel_prints(raw: u32) {
            if let Some(parent) = Parent::from_raw(raw) {
                prop_assert_eq!(parent.raw(), raw);
                prop_assert!(!parent.to_string().is_empty());
            }
        }
    }
}
