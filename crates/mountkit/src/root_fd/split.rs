//! A path as the directory that something is done in, and the name that it is done to.
#![forbid(unsafe_code)]

/// The two parts of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split<'a> {
    /// The path of the directory: never empty, `.` where `path` has one name only.
    pub(crate) parent: &'a [u8],
    /// The last name. `None`: the path is a directory's own, as `/`, `a/..` or `a/.` are.
    pub(crate) name: Option<&'a [u8]>,
    /// Whether slashes follow the name, so that only a directory can be meant.
    pub(crate) slash: bool,
}

/// Splits `path`, which is not empty. Nothing is looked up, and of the parent nothing is left out: `..` in it and slashes
/// mean what they mean to the kernel.
pub(crate) fn split(path: &[u8]) -> Split<'_> {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let bare = path.get(..end).unwrap_or_default();
    let start = bare.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = bare.split_at_checked(start).unwrap_or((bare, b""));
    let slash = end < path.len();
    match name {
        b"" | b"." | b".." => Split { parent: path, name: None, slash },
        name if parent.is_empty() => Split { parent: b".", name: Some(name), slash },
        name => Split { parent, name: Some(name), slash },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn into_two() {
        for (path, parent, name, slash) in [
            ("a", ".", Some("a"), false),
            ("/a", "/", Some("a"), false),
            ("a/b", "a/", Some("b"), false),
            ("a//b", "a//", Some("b"), false),
            ("a/b///", "a/", Some("b"), true),
            ("../a/", "../", Some("a"), true),
            ("a/../b", "a/../", Some("b"), false),
            ("...", ".", Some("..."), false),
            ("/", "/", None, true),
            ("//", "//", None, true),
            (".", ".", None, false),
            ("..", "..", None, false),
            ("a/..", "a/..", None, false),
            ("a/./", "a/./", None, true),
        ] {
            let expected = Split { parent: parent.as_bytes(), name: name.map(str::as_bytes), slash };
            assert_eq!(split(path.as_bytes()), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_are_the_path(path in "[./ab]{1,12}") {
            let Split { parent, name, slash } = split(path.as_bytes());
            prop_assert!(!parent.is_empty());
            prop_assert_eq!(slash, path.ends_with('/'));
            match name {
                None => prop_assert_eq!(parent, path.as_bytes()),
                Some(name) => {
                    prop_assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/'));
                    let parent = if path.contains('/') && parent.ends_with(b"/") { parent } else { b"" };
                    let joined = [parent, name].concat();
                    prop_assert_eq!(joined.as_slice(), path.trim_end_matches('/').as_bytes());
                }
            }
        }
    }
}
