//! Where something is mounted, from the mountinfo of the calling thread.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use cellkit_core::mountinfo::{lines, unescaped};
use cellkit_core::{ProcFd, ProcView, Result};

/// The mount points of the calling process, in the order they were mounted.
pub(crate) fn mount_points() -> Result<Vec<PathBuf>> {
    let text = ProcFd::open(ProcView::Processes)?.this_thread()?.read(Path::new("mountinfo"))?;
    Ok(parse(&text))
}

/// The fifth field of each line of mountinfo, unescaped. A line that has none is passed over.
fn parse(text: &[u8]) -> Vec<PathBuf> {
    lines(text).map(|mount| unescaped(mount.target)).collect()
}

/// Whether something is mounted below `dir` (not on it).
pub(crate) fn any_below(points: &[PathBuf], dir: &Path) -> bool {
    points.iter().any(|point| point != dir && point.starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_escapes_and_torn_lines() {
        let text = b"22 27 0:21 / /proc rw - proc proc rw\n\
            28 27 0:25 / /a\\040b\\134c\\011 ro shared:5 master:1 - tmpfs x ro\n\
            29 27 0\n\n30 1 0:1 / /z";
        assert_eq!(parse(text), [PathBuf::from("/proc"), PathBuf::from("/a b\\c\t"), PathBuf::from("/z")]);
    }

    #[test]
    fn below_is_not_on() {
        let points = [PathBuf::from("/"), PathBuf::from("/usr"), PathBuf::from("/mnt/x")];
        assert!(!any_below(&points, Path::new("/usr")));
        assert!(any_below(&points, Path::new("/mnt")));
        assert!(!any_below(&points, Path::new("/mn")));
        assert!(any_below(&points, Path::new("/")));
    }

    proptest! {
        #[test]
        fn what_the_kernel_escapes_comes_back(name in proptest::collection::vec(1_u8.., 1..40)) {
            let mut escaped = Vec::new();
            for byte in &name {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\\' | b'#' => escaped.extend(format!("\\{byte:03o}").into_bytes()),
                    _ => escaped.push(*byte),
                }
            }
            prop_assert_eq!(unescaped(&escaped).into_os_string().into_encoded_bytes(), name);
        }

        #[test]
        fn any_bytes_do(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&text);
        }
    }

    #[test]
    fn this_process_has_a_root() {
        assert!(mount_points().expect("mountinfo").contains(&PathBuf::from("/")));
    }
}
