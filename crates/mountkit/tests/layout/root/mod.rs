//! Everything here needs root: owners, devices, `trusted.*` attributes, overlays.

mod create;
mod store;
