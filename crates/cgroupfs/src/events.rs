//! `cgroup.events`.
#![forbid(unsafe_code)]

use crate::keyed::flat_keyed;

flat_keyed! {
    /// `cgroup.events`: the state of a group and all below it.
    ///
    /// ```
    /// use cgroupfs::CgroupEvents;
    ///
    /// let events: CgroupEvents = "populated 1\nfrozen 0\n".parse()?;
    /// assert!(events.populated && events.frozen == Some(false));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
    CgroupEvents of "cgroup.events" {
        /// Whether a live process is in the group or below it. A zombie does not count.
        populated: bool = "populated",
        /// Whether all of them are frozen. Linux 5.2.
        frozen: Option<bool> = "frozen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_something_else_is_a_parse_error() {
        assert!("populated 1\nfrozen 0\n".parse::<CgroupEvents>().expect("events").populated);
        assert_eq!("populated 0\n".parse::<CgroupEvents>().expect("events").frozen, None);
        let error = "frozen 0\n".parse::<CgroupEvents>().expect_err("no key");
        assert_eq!(error.to_string(), r#"parse cgroup.events: there is no key "populated""#);
    }
}
