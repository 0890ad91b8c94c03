#![forbid(unsafe_code)]

mod lookups;
mod planted;
mod refused;
mod rootless;
mod survival;
mod volatile;
