//! Tests of the doctor: a working network, a fault that is made in it, what the doctor says, and the network healed.
#![forbid(unsafe_code)]

/// `faultkit::isolated!` of a process that has had a runtime, as in the tests of whole networks.
macro_rules! isolated {
    ($($all:tt)+) => {{
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
        faultkit::isolated!($($all)+)
    }};
}

mod root;
