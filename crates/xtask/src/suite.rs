//! The test binaries of the workspace: built once, run in several ways.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Result, cargo};

/// What `cargo test --no-run` made.
#[derive(Debug, Default)]
pub struct Suite {
    /// The test binaries.
    pub tests: Vec<TestBinary>,
    /// Programs that tests start: `cellrun`.
    pub programs: Vec<PathBuf>,
    /// Examples that tests start.
    pub examples: Vec<PathBuf>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct TestBinary {
    /// `ns-core`, or `ns-core/spawn` for an integration test.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The folder cargo would start it in.
    pub package_dir: PathBuf,
}

impl Suite {
    /// Builds all tests of the workspace, or of one package.
    ///
    /// # Errors
    /// When they do not compile.
    pub fn build(package: Option<&str>) -> Result<Self> {
        let mut suite = Self::default();
        let which = package.map_or_else(|| vec!["--workspace"], |package| vec!["--package", package]);
        for arguments in [&["test", "--no-run"][..], &["build", "--bins"]] {
            let mut command = cargo();
            command.args(arguments).args(&which).args([
                "--all-features",
                "--quiet",
                "--message-format=json-render-diagnostics",
            ]);
            let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
            if !output.status.success() {
                return Err(format!("cargo {} failed", arguments.join(" ")).into());
            }
            suite.read_messages(&String::from_utf8_lossy(&output.stdout))?;
        }
        suite.programs.sort();
        suite.programs.dedup();
        suite.tests.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(suite)
    }

    fn read_messages(&mut self, messages: &str) -> Result<()> {
        for line in messages.lines() {
            let message: Value = serde_json::from_str(line)?;
            let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
            let (Some("compiler-artifact"), Some(executable)) = (text("/reason"), text("/executable")) else {
                continue;
            };
            let manifest = Path::new(text("/manifest_path").unwrap_or_default());
            let package_dir = manifest.parent().unwrap_or(Path::new("/")).to_owned();
            let target = text("/target/name").unwrap_or_default();
            let kind = text("/target/kind/0").unwrap_or_default();
            if message.pointer("/profile/test").and_then(Value::as_bool) == Some(true) {
                let package = package_dir.file_name().unwrap_or_default().to_string_lossy();
                // The root package is called after whatever the folder of the checkout is called.
                let package = if package_dir == crate::workspace() { "workspace".into() } else { package };
                let name = match kind {
                    "lib" => package.into_owned(),
                    "bin" => format!("{package} (program)"),
                    _ => format!("{package}/{target}"),
                };
                self.tests.push(TestBinary { name, path: executable.into(), package_dir });
            } else if kind == "bin" && target != "xtask" {
                self.programs.push(executable.into());
            } else if kind == "example" {
                self.examples.push(executable.into());
            }
        }
        Ok(())
    }

    /// The same suite in `dir`, readable by everybody, laid out as cargo does: tests find programs one folder up.
    ///
    /// # Errors
    /// When a file can be neither linked nor copied.
    pub fn copy_to(&self, dir: &Path) -> Result<Self> {
        let (deps, examples) = (dir.join("deps"), dir.join("examples"));
        for dir in [dir, &deps, &examples] {
            fs::create_dir_all(dir)?;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
        let mut copy = Self::default();
        for test in &self.tests {
            let path = link(&test.path, &deps)?;
            copy.tests.push(TestBinary { path, ..test.clone() });
        }
        for program in &self.programs {
            copy.programs.push(link(program, dir)?);
        }
        for example in &self.examples {
            copy.examples.push(link(example, &examples)?);
        }
        Ok(copy)
    }
}

/// A hard link where that is possible, for test binaries are large.
fn link(file: &Path, into: &Path) -> Result<PathBuf> {
    let to = into.join(file.file_name().unwrap_or_default());
    if fs::hard_link(file, &to).is_err() {
        fs::copy(file, &to).map_err(|e| format!("copy {} to {}: {e}", file.display(), to.display()))?;
    }
    Ok(to)
}

/// Whether somebody without privileges may read `path`.
pub fn is_public(path: &Path) -> bool {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    mode(path) & 0o5 == 0o5 && path.ancestors().skip(1).all(|dir| mode(dir) & 0o1 != 0)
}

/// What a run of a program said.
#[derive(Debug)]
pub struct Said {
    pub stdout: String,
    pub stderr: String,
    /// `None`: it did not end in time.
    pub status: Option<ExitStatus>,
}

/// Runs `command` for at most `limit`, with what it says in files in `dir`.
///
/// # Errors
/// When it cannot be started.
pub fn run_limited(command: &mut Command, dir: &Path, limit: Duration) -> Result<Said> {
    let (out, err) = (dir.join("stdout"), dir.join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
    let mut child = command.spawn().map_err(|e| format!("{}: {e}", command.get_program().to_string_lossy()))?;
    let status = wait_limited(&mut child, limit)?;
    let read = |file: &Path| fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Said { stdout: read(&out)?, stderr: read(&err)?, status })
}

/// Waits for at most `limit`, then kills.
///
/// # Errors
/// When waiting itself fails.
pub fn wait_limited(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_cargo() {
        let message = |name: &str, kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/crates/idmap/Cargo.toml",
                "target":{{"name":"{name}","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":"/t/{name}"}}"#
            )
            .replace('\n', "")
        };
        let lines = [
            message("idmap", "lib", true),
            message("maps", "test", true),
            message("cellrun", "bin", false),
            message("xtask", "bin", false),
            message("unshare", "example", false),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let mut suite = Suite::default();
        suite.read_messages(&lines.join("\n")).unwrap();
        let names: Vec<&str> = suite.tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names, ["idmap", "idmap/maps"]);
        assert_eq!(suite.programs, [PathBuf::from("/t/cellrun")]);
        assert_eq!(suite.examples, [PathBuf::from("/t/unshare")]);
    }

    #[test]
    fn what_everybody_may_read() {
        assert!(is_public(Path::new("/bin/sh")));
        assert!(!is_public(Path::new("/proc/1/environ")));
        assert!(!is_public(Path::new("/no/such")));
    }

    #[test]
    fn a_time_limit() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        assert!(wait_limited(&mut child, Duration::from_millis(20)).unwrap().is_none());
        let mut child = Command::new("false").spawn().unwrap();
        assert_eq!(wait_limited(&mut child, Duration::from_secs(10)).unwrap().and_then(|s| s.code()), Some(1));
    }
}
