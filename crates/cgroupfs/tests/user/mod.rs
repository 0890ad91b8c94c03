#![forbid(unsafe_code)]

mod systemd;
