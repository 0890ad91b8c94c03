//! How an image wants to be run.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Deserialize;

/// What an image says about how its program is to be run: strings that a stranger wrote. None has a NUL byte.
///
/// They are wishes. A relative `working_dir`, a `user` that the image's `/etc/passwd` does not know, an `env` entry without
/// `=` are there as they are in the image.
///
/// ```
/// use mountkit::layers::ImageConfig;
///
/// /// What is executed: the command given replaces the image's own `cmd`, and not its entrypoint.
/// fn arguments(config: &ImageConfig, command: &[String]) -> Vec<String> {
///     let command = if command.is_empty() { &config.cmd } else { command };
///     [&config.entrypoint, command].concat()
/// }
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/config.md>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageConfig {
    /// What is executed always.
    pub entrypoint: Vec<String>,
    /// What is executed, or given to the entrypoint as arguments, unless told otherwise.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it is executed; empty for the root.
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, `uid:gid` and mixtures; empty for root.
    pub user: String,
    /// What else its maker has to say.
    pub labels: BTreeMap<String, String>,
    /// What it wants to be stopped with, such as `SIGTERM` or `SIGRTMIN+3`.
    pub stop_signal: Option<String>,
    /// `80/tcp`: where it listens.
    pub exposed_ports: Vec<String>,
    /// Directories that should be volumes.
    pub volumes: Vec<String>,
}

/// The object `config` as JSON has it. Programs write `null` for what is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Written {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

impl Written {
    /// `None` when one of the strings has a NUL byte.
    pub(super) fn checked(self) -> Option<ImageConfig> {
        let names = |map: Option<BTreeMap<String, _>>| map.unwrap_or_default().into_keys().collect::<Vec<String>>();
        let config = ImageConfig {
            entrypoint: self.entrypoint.unwrap_or_default(),
            cmd: self.cmd.unwrap_or_default(),
            env: self.env.unwrap_or_default(),
            working_dir: self.working_dir.unwrap_or_default(),
            user: self.user.unwrap_or_default(),
            labels: self.labels.unwrap_or_default(),
            stop_signal: self.stop_signal.filter(|signal| !signal.is_empty()),
            exposed_ports: names(self.exposed_ports),
            volumes: names(self.volumes),
        };
        let lists = [&config.entrypoint, &config.cmd, &config.env, &config.exposed_ports, &config.volumes];
        let strings = lists.into_iter().flatten().chain([&config.working_dir, &config.user]);
        let strings = strings.chain(&config.stop_signal).chain(config.labels.iter().flat_map(|(k, v)| [k, v]));
        let is_clean = strings.into_iter().all(|text| !text.contains('\0'));
        is_clean.then_some(config)
    }
}
