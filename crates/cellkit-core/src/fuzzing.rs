//! The private parsers, each with what must hold of it, for the fuzz targets. Only there in builds with `--cfg fuzzing`.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the targets below fuzz/ sees it")]

pub fn fdinfo(bytes: &[u8]) {
    if let Some(pid) = crate::proc::pid_in_fdinfo(bytes) {
        let written = format!("pos:\t0\nPid:\t{pid}\n");
        assert_eq!(crate::proc::pid_in_fdinfo(written.as_bytes()), Some(pid));
    }
}
