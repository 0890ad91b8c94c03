//! Tests of address translation, published ports and guards, for containers that the test wires itself with `ip`. What is
//! in the kernel is asked of `nft`, what works of real connections.
#![forbid(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "what is counted is the family, of several lists")]

/// `faultkit::isolated!` of a process that has had a runtime. The first one makes sockets for signals, where another crate of
/// the build has switched that on in tokio, and they stay: nothing that the test has left behind.
macro_rules! isolated {
    ($($all:tt)+) => {{
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
        faultkit::isolated!($($all)+)
    }};
}

mod root;
