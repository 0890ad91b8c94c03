//! The programs that the benchmarks time from inside.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::Stdio;

use crate::{Result, cargo, target_dir, workspace};

/// A bench target of the workspace.
///
/// # Errors
/// When it does not build.
pub fn worker(name: &str) -> Result<PathBuf> {
    let output = cargo()
        .args(["bench", "--bench", name, "--no-run", "--quiet", "--message-format", "json"])
        .stderr(Stdio::inherit())
        .output()?;
    executable(&output.stdout).ok_or_else(|| format!("benches/{name} does not build").into())
}

/// A program of `benches/peers`; `None`, said aloud, where the other crates cannot be built.
///
/// # Errors
/// When cargo cannot be run.
pub fn peers(name: &str) -> Result<Option<PathBuf>> {
    let target = target_dir().join("peers");
    let built = cargo()
        .current_dir(workspace().join("benches/peers"))
        .args(["build", "--release", "--quiet", "--bin", name, "--target-dir"])
        .arg(&target)
        .status()?
        .success();
    if !built {
        println!("benches/peers does not build here, so other crates are not compared\n");
    }
    Ok(built.then(|| target.join("release").join(name)))
}

/// The program that cargo said it built.
fn executable(messages: &[u8]) -> Option<PathBuf> {
    let lines = messages.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    lines.filter_map(|message: serde_json::Value| Some(message.get("executable")?.as_str()?.into())).next_back()
}
