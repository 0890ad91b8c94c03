//! Image layouts, made by hand: JSON as text, archives by GNU tar.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use faultkit::TempDir;
use mountkit::layers::Digest;
use serde_json::{Value, json};

use crate::create::piped;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layout in a folder.
pub(crate) struct Made {
    _temp: TempDir,
    pub(crate) dir: PathBuf,
}

/// What one layer is made of: names and contents; a name that ends in `/` is a directory.
pub(crate) type Files<'a> = &'a [(&'a str, &'a str)];

impl Made {
    pub(crate) fn new() -> Self {
        let temp = TempDir::new();
        let dir = temp.join("layout");
        fs::create_dir_all(dir.join("blobs/sha256")).expect("mkdir");
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
        Self { _temp: temp, dir }
    }

    /// With one image, of these layers, the lowest first.
    pub(crate) fn image(layers: &[Files<'_>]) -> Self {
        let made = Self::new();
        let image = made.manifest(layers, "latest", &[]);
        made.index(&json!([image]));
        made
    }

    pub(crate) fn blob(&self, media: &str, content: &[u8]) -> Value {
        let digest = Digest::sha256_of(content);
        fs::write(self.dir.join("blobs/sha256").join(digest.hex()), content).expect("write");
        json!({ "mediaType": media, "digest": digest.to_string(), "size": content.len() })
    }

    /// The descriptor of an image.
    pub(crate) fn manifest(&self, layers: &[Files<'_>], tag: &str, more: &[(&str, Value)]) -> Value {
        let tars: Vec<_> = layers.iter().map(|files| tar(files)).collect();
        let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::sha256_of(tar).to_string()).collect();
        let layers: Vec<_> = tars.iter().map(|tar| self.blob(LAYER, &piped("gzip", &["-nc"], tar))).collect();
        let mut config = json!({
            "os": "linux", "architecture": here(), "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "config": { "Cmd": ["/bin/hello"], "Env": ["TAG=".to_owned() + tag] },
        });
        for (key, value) in more {
            config[*key] = value.clone();
        }
        let config = self.blob(CONFIG, config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut image = self.blob(MANIFEST, manifest.to_string().as_bytes());
        image["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        image
    }

    pub(crate) fn index(&self, manifests: &Value) {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        fs::write(self.dir.join("index.json"), index.to_string()).expect("write");
    }

    /// The same as an archive, beside the folder.
    pub(crate) fn archive(&self) -> PathBuf {
        let path = self.dir.with_extension("tar");
        let tar = Command::new("tar").arg("-cf").arg(&path).arg("-C").arg(&self.dir).arg(".").status();
        assert!(tar.expect("tar").success());
        path
    }

    pub(crate) fn path_of(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().expect("digest");
        self.dir.join("blobs").join(digest.replace(':', "/"))
    }
}

/// An archive of GNU tar's, the same each time.
pub(crate) fn tar(files: Files<'_>) -> Vec<u8> {
    let dir = TempDir::new();
    for (name, content) in files {
        let path = dir.join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).expect("mkdir");
        } else {
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, content).expect("write");
        }
    }
    let list: Vec<_> = fs::read_dir(&dir).expect("readdir").map(|e| e.expect("entry").file_name()).collect();
    let mut list: Vec<_> = list.iter().map(|name| name.to_str().expect("text")).collect();
    list.sort_unstable();
    let fixed = ["--sort=name", "--mtime=@1700000000", "--owner=0", "--group=0", "--numeric-owner", "-cf-", "-C"];
    piped("tar", &[fixed.as_slice(), &[text(&dir)], &list].concat(), b"")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

pub(crate) fn here() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
