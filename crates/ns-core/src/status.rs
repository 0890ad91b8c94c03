//! The lines of `/proc/PID/status`.
//!
//! They are bytes that the process has a hand in: its name is among them. Nothing here panics, whatever they hold.
#![forbid(unsafe_code)]

/// The value of a line `Name:\tvalue` of `/proc/PID/status`.
pub(crate) fn field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    let line =
        status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
    std::str::from_utf8(line).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_status() {
        let status = b"Name:\tx\nNSpid:\t71\t3\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(field(status, "Seccomp"), Some("2"));
        assert_eq!(field(status, "NSpid"), Some("71\t3\t1"));
        assert_eq!((field(status, "Sec"), field(b"", "Name")), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_anything_panic(status: Vec<u8>, name in "[ -~]{0,8}") {
            let _ = field(&status, &name);
        }
    }
}
