//! Everything here needs root: owners, devices, `trusted.*` attributes, overlays.

mod create;
mod round_trip;
mod store;
