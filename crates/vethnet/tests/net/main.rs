//! Tests of the connection itself: requests, lists, events, namespaces. What is there is asked of `ip`.
#![forbid(unsafe_code)]

/// `faultkit::isolated!` of a process that has had a runtime: see `tests/main.rs`.
macro_rules! isolated {
    ($($all:tt)+) => {{
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
        faultkit::isolated!($($all)+)
    }};
}

mod root;
