//! Tests of traffic control and of a container's limits. What is there is asked of `tc`, how fast it is of real traffic.
#![forbid(unsafe_code)]

/// `faultkit::isolated!` of a process that has had a runtime, as in the tests of whole networks.
macro_rules! isolated {
    ($($all:tt)+) => {{
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
        faultkit::isolated!($($all)+)
    }};
}

mod root;
