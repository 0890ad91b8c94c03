//! The JSON documents of an image: an index, a manifest, a configuration. Pure: bytes in, values out.
//!
//! Each says what it is in two places, in its descriptor and in itself, and by what it has. Where they do not agree, one
//! reader takes for a list of images what another takes for an image, and what one has checked the other has not: such a
//! document is refused (CVE-2021-41190).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use cellkit_core::{Error, Result};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::config::{ImageConfig, Written};
use super::platform::Platform;
use crate::layers::Digest;

/// The most bytes that a document may have: what registries take.
pub(crate) const LONGEST: u64 = 4 << 20;
/// The most images that one index may list.
const MOST_MANIFESTS: usize = 10_000;
/// As many as an overlay takes.
const MOST_LAYERS: usize = 500;
/// What gives an image in a layout its name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's and Docker's whole name of it.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// What a blob is, as its descriptor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Index,
    Manifest,
    Config,
    /// Of whatever compression: the layer's own first bytes say.
    Layer,
    Other(String),
}

impl Media {
    /// By OCI's names and Docker's.
    fn of(name: &str) -> Self {
        match name {
            "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
                Self::Index
            }
            "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
                Self::Manifest
            }
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => {
                Self::Config
            }
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Self::Layer,
            other => Self::Other(clean(other)),
        }
    }
}

/// What points to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) media: Media,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    /// What it is called in this layout.
    pub(crate) names: Vec<String>,
}

/// An image's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    /// The lowest first.
    pub(crate) layers: Vec<Descriptor>,
}

/// What an image says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) platform: Platform,
    pub(crate) config: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenDescriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
    platform: Option<WrittenPlatform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct WrittenPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl WrittenDescriptor {
    fn checked(self, otherwise: Option<Media>) -> Result<Descriptor> {
        let media = match (&self.media_type, otherwise) {
            (Some(name), _) => Media::of(name),
            (None, Some(media)) => media,
            (None, None) => return Err(wrong("a descriptor says not what it is of (mediaType)")),
        };
        let platform = match self.platform {
            // Attestations have `unknown/unknown`, and some programs leave it empty.
            Some(platform) => Platform::new(&platform.os, &platform.architecture, platform.variant.as_deref()).ok(),
            None => None,
        };
        let annotations = self.annotations.unwrap_or_default();
        let names = [REF_NAME, IMAGE_NAME].into_iter().filter_map(|key| annotations.get(key));
        let mut names: Vec<_> = names.cloned().collect();
        names.dedup();
        Ok(Descriptor { media, digest: self.digest.parse()?, size: self.size, platform, names })
    }
}

/// The file `oci-layout`.
pub(crate) fn layout_version(json: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let Layout { image_layout_version: version } = parse(json)?;
    if version.split('.').next() != Some("1") {
        let feature = format!("version {} of image layouts", clean(&version));
        return Err(Error::unsupported("read image", feature, None));
    }
    Ok(())
}

/// An index: what it lists, in its order.
pub(crate) fn index(json: &[u8]) -> Result<Vec<Descriptor>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Index {
        schema_version: u64,
        media_type: Option<String>,
        manifests: Option<Vec<WrittenDescriptor>>,
        layers: Option<IgnoredAny>,
        config: Option<IgnoredAny>,
    }
    let written: Index = parse(json)?;
    is_version_2(written.schema_version)?;
    says_so(written.media_type.as_deref(), &Media::Index)?;
    if written.layers.is_some() || written.config.is_some() {
        return Err(wrong("an index that has layers or a configuration is both an index and a manifest"));
    }
    let manifests = written.manifests.unwrap_or_default();
    if manifests.len() > MOST_MANIFESTS {
        return Err(too_many("images in one index", MOST_MANIFESTS));
    }
    manifests.into_iter().map(|descriptor| descriptor.checked(None)).collect()
}

/// A manifest: the configuration and the layers, the lowest first.
pub(crate) fn manifest(json: &[u8]) -> Result<Manifest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Written {
        schema_version: u64,
        media_type: Option<String>,
        config: WrittenDescriptor,
        layers: Option<Vec<WrittenDescriptor>>,
        manifests: Option<IgnoredAny>,
    }
    let written: Written = parse(json)?;
    is_version_2(written.schema_version)?;
    says_so(written.media_type.as_deref(), &Media::Manifest)?;
    if written.manifests.is_some() {
        return Err(wrong("a manifest that lists manifests is both an index and a manifest"));
    }
    let layers = written.layers.unwrap_or_default();
    if layers.len() > MOST_LAYERS {
        return Err(too_many("layers", MOST_LAYERS));
    }
    let config = written.config.checked(None)?;
    if let Media::Other(name) = &config.media {
        let feature = format!("an artifact of type {name}, which is no image,");
        return Err(Error::unsupported("read image", feature, None));
    }
    let layers = layers.into_iter().map(|layer| layer.checked(None)).collect::<Result<Vec<_>>>()?;
    if let Some(Media::Other(name)) = layers.iter().map(|layer| &layer.media).find(|media| **media != Media::Layer) {
        return Err(Error::unsupported("read image", format!("a layer of type {name}"), None));
    }
    if config.media != Media::Config || layers.iter().any(|layer| layer.media != Media::Layer) {
        return Err(wrong("the parts of a manifest are a configuration and layers"));
    }
    Ok(Manifest { config, layers })
}

/// A configuration.
pub(crate) fn configuration(json: &[u8]) -> Result<Configuration> {
    #[derive(Deserialize)]
    struct Document {
        os: String,
        architecture: String,
        variant: Option<String>,
        config: Option<Written>,
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        r#type: String,
        diff_ids: Option<Vec<String>>,
    }
    let written: Document = parse(json)?;
    if written.rootfs.r#type != "layers" {
        let feature = format!("a root file system of type {}", clean(&written.rootfs.r#type));
        return Err(Error::unsupported("read image", feature, None));
    }
    let diff_ids = written.rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() > MOST_LAYERS {
        return Err(too_many("layers", MOST_LAYERS));
    }
    let Some(config) = written.config.unwrap_or_default().checked() else {
        return Err(wrong("a string with a NUL byte, which no program can be given"));
    };
    Ok(Configuration {
        platform: Platform::new(&written.os, &written.architecture, written.variant.as_deref())?,
        config,
        diff_ids: diff_ids.iter().map(|text| text.parse()).collect::<Result<_>>()?,
    })
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    // It goes at most 128 values deep.
    serde_json::from_slice(json).map_err(|error| wrong(clean(&error.to_string())))
}

fn is_version_2(version: u64) -> Result<()> {
    if version == 2 {
        return Ok(());
    }
    Err(Error::unsupported("read image", format!("schemaVersion {version}"), None))
}

fn says_so(name: Option<&str>, media: &Media) -> Result<()> {
    match name {
        Some(name) if Media::of(name) != *media => {
            Err(wrong(format!("it calls itself {}, and its place or its descriptor says otherwise", clean(name))))
        }
        _ => Ok(()),
    }
}

fn wrong(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::parse("read image", why)
}

fn too_many(of_what: &str, most: usize) -> Error {
    Error::limit("read image", format!("more than {most} {of_what}"))
}

/// A stranger's words, for an error: short, and nothing that a terminal obeys.
pub(crate) fn clean(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "documents/tests.rs"]
mod tests;
