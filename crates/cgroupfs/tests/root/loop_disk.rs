//! A disk to try things on: a loop device over a file of its own.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use cgroupfs::DevNum;
use faultkit::TempDir;

/// Dropping it takes the device off the file.
pub struct LoopDisk {
    path: PathBuf,
    _file: TempDir,
}

impl LoopDisk {
    pub fn new(mib: u64) -> Self {
        Self::over(mib, &[])
    }

    /// The same with a partition in it: 1 MiB from its beginning, 14 MiB long.
    pub fn with_partition() -> Self {
        let mut table = [0; 512];
        let (linux, start, sectors) = (0x83, 2048u32, 14 * 2048u32);
        table[446 + 4] = linux;
        table[446 + 8..446 + 12].copy_from_slice(&start.to_le_bytes());
        table[446 + 12..446 + 16].copy_from_slice(&sectors.to_le_bytes());
        table[510..].copy_from_slice(&[0x55, 0xaa]);
        Self::over(16, &table)
    }

    fn over(mib: u64, beginning: &[u8]) -> Self {
        let dir = TempDir::new();
        let file = dir.path().join("disk");
        fs::write(&file, beginning).expect("file");
        File::options().write(true).open(&file).and_then(|file| file.set_len(mib << 20)).expect("file");
        let output =
            Command::new("losetup").args(["--find", "--show", "--partscan"]).arg(&file).output().expect("losetup");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { path: String::from_utf8(output.stdout).expect("text").trim().into(), _file: dir }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its numbers, as sysfs has them.
    pub fn numbers(&self) -> String {
        let name = self.path.file_name().expect("name");
        fs::read_to_string(Path::new("/sys/block").join(name).join("dev")).expect("dev").trim().to_owned()
    }

    pub fn device(&self) -> DevNum {
        DevNum::of_path(&self.path).expect("device")
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("--detach").arg(&self.path).status();
        assert!(status.expect("losetup").success() || std::thread::panicking());
    }
}
