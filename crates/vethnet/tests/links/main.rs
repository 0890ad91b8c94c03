//! Tests of links: each option is compared with what `ip` and `bridge` show, and packets pass.
#![forbid(unsafe_code)]

/// `faultkit::isolated!` of a process that has had a runtime: see `tests/main.rs`.
macro_rules! isolated {
    ($($all:tt)+) => {{
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
        faultkit::isolated!($($all)+)
    }};
}

mod root;
