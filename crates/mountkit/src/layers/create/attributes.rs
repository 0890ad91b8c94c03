//! Which extended attributes of a file go into a layer, and what overlay's own say.
#![forbid(unsafe_code)]

use crate::layers::Whiteouts;
use crate::sys::upper::Attribute;

/// What overlay has noted on an entry of an upper directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Nothing of the lower layers shows here.
    pub(super) opaque: bool,
    /// Whiteouts in this directory may be files with an attribute (Linux 6.7).
    pub(super) has_file_whiteouts: bool,
    /// This file is such a whiteout, where its directory says that there are some.
    pub(super) whiteout: bool,
    /// What makes the entry more than what it holds: it continues in a lower layer.
    pub(super) continues_below: Option<&'static str>,
}

/// What of `found` goes into the layer, what overlay has noted, and what is left out without being overlay's.
pub(super) fn sort(found: Vec<Attribute>, form: Whiteouts) -> (Vec<Attribute>, Marks, Vec<Vec<u8>>) {
    let own: &[u8] = match form {
        Whiteouts::OverlayTrusted => b"trusted.overlay.",
        Whiteouts::OverlayUser => b"user.overlay.",
        Whiteouts::Flattened => b"\0",
    };
    let (mut kept, mut marks, mut left) = (Vec::new(), Marks::default(), Vec::new());
    for (key, value) in found {
        if let Some(mark) = key.strip_prefix(own) {
            match (mark, value.as_slice()) {
                (b"opaque", b"y") => marks.opaque = true,
                (b"opaque", b"x") => marks.has_file_whiteouts = true,
                (b"whiteout", _) => marks.whiteout = true,
                (b"redirect", _) => marks.continues_below = Some("overlay.redirect"),
                (b"metacopy", _) => marks.continues_below = Some("overlay.metacopy"),
                // origin, impure, nlink, upper, uuid, protattr: about this machine's file systems.
                _ => {}
            }
        } else if goes_into_layers(&key) {
            kept.push((key, value));
        } else {
            left.push(key);
        }
    }
    (kept, marks, left)
}

/// What belongs to the file, and not to the machine that it is on: labels and signatures of a security module are made
/// anew by the one where the layer goes. Overlay's own, of either form, would let a layer speak to the kernel.
fn goes_into_layers(key: &[u8]) -> bool {
    const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
    const EXACTLY: [&[u8]; 3] = [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];
    let by_prefix = key.starts_with(b"user.") || key.starts_with(b"trusted.");
    let plain = by_prefix && !OVERLAY.iter().any(|prefix| key.starts_with(prefix));
    // The key of a pax record ends at the first `=`.
    (plain || EXACTLY.contains(&key)) && !key.contains(&b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(form: Whiteouts, keys: &[(&str, &str)]) -> (Vec<String>, Marks, Vec<String>) {
        let text = |key: Vec<u8>| String::from_utf8(key).expect("text");
        let found = keys.iter().map(|(key, value)| (key.as_bytes().to_owned(), value.as_bytes().to_owned())).collect();
        let (kept, marks, left) = sort(found, form);
        (kept.into_iter().map(|(key, _)| text(key)).collect(), marks, left.into_iter().map(text).collect())
    }

    #[test]
    fn marks_are_read_in_their_form_only() {
        let (opaque, other) = (("trusted.overlay.opaque", "y"), ("user.overlay.opaque", "y"));
        for (form, mark, left) in [(Whiteouts::OverlayTrusted, opaque, other), (Whiteouts::OverlayUser, other, opaque)]
        {
            let (kept, marks, dropped) = sorted(form, &[opaque, other]);
            assert_eq!((kept.len(), marks.opaque, dropped), (0, true, vec![left.0.to_owned()]), "{mark:?}");
            assert!(!sorted(form, &[left]).1.opaque);
        }
        let (kept, marks, dropped) = sorted(Whiteouts::Flattened, &[opaque, other]);
        assert_eq!((kept.len(), marks, dropped.len()), (0, Marks::default(), 2));
        for (value, opaque, files) in [("y", true, false), ("x", false, true), ("", false, false), ("n", false, false)]
        {
            let marks = sorted(Whiteouts::OverlayTrusted, &[("trusted.overlay.opaque", value)]).1;
            assert_eq!((marks.opaque, marks.has_file_whiteouts), (opaque, files), "{value}");
        }
        for mark in ["redirect", "metacopy"] {
            let marks = sorted(Whiteouts::OverlayUser, &[(&format!("user.overlay.{mark}"), "/a")]).1;
            assert!(marks.continues_below.is_some_and(|text| text.ends_with(mark)));
        }
        assert!(sorted(Whiteouts::OverlayTrusted, &[("trusted.overlay.whiteout", "")]).1.whiteout);
        let book_keeping = [("trusted.overlay.origin", "\0\u{fb}"), ("trusted.overlay.impure", "y")];
        assert_eq!(sorted(Whiteouts::OverlayTrusted, &book_keeping), (vec![], Marks::default(), vec![]));
    }

    #[test]
    fn what_belongs_to_the_machine_stays_there() {
        let all = [
            ("security.capability", ""),
            ("security.ima", ""),
            ("security.selinux", ""),
            ("system.nfs4_acl", ""),
            ("system.posix_acl_access", ""),
            ("trusted.mine", ""),
            ("user.a=b", ""),
            ("user.note", ""),
        ];
        let (kept, _, left) = sorted(Whiteouts::OverlayTrusted, &all);
        assert_eq!(kept, ["security.capability", "system.posix_acl_access", "trusted.mine", "user.note"]);
        assert_eq!(left, ["security.ima", "security.selinux", "system.nfs4_acl", "user.a=b"]);
    }
}
