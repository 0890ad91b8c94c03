//! Images as they lie in a directory or a tar archive.
#![forbid(unsafe_code)]

mod config;
pub(crate) mod documents;
mod find;
mod platform;
mod source;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use cellkit_core::{Error, Result, Subject};

use super::Digest;
use super::digest::Digester;
pub use config::ImageConfig;
use documents::{Descriptor, Media};
pub use find::FindImage;
pub use platform::Platform;
use source::{Content, Source};

/// A folder, or a tar archive of one, that images are in: what `skopeo copy … oci:DIR`, `buildah push … oci-archive:FILE`,
/// `docker buildx build --output type=oci,dest=FILE` and `docker save` (since Docker 25) write.
///
/// It is another's, and nothing in it is believed: every blob is what its digest and size say or an error, documents have
/// limits (4 MiB, 10,000 images in an index, 500 layers, indexes 8 deep), a digest that is none is no path, and links in a
/// folder lead nowhere outside of it. A tar archive is read where it is, and nothing of it is unpacked.
///
/// * Calls: [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html), as [`RootFd`](crate::RootFd) makes it;
///   pread(2).
/// * Privileges: to read it.
///
/// ```no_run
/// use mountkit::layers::ImageLayout;
///
/// let layout = ImageLayout::open("alpine.tar")?;
/// println!("{:?}", layout.tags());
/// let image = layout.find().tag("3.20").image()?;
/// for layer in image.layers() {
///     println!("{} {}", layer.digest(), layer.size());
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>
#[derive(Debug)]
pub struct ImageLayout {
    source: Arc<Source>,
    index: Vec<Descriptor>,
}

impl ImageLayout {
    /// Opens the layout at `path`, a directory or a tar archive, and reads its index.
    ///
    /// # Errors
    /// NotFound when there is nothing, or no `oci-layout` in it; Parse for a document that cannot be understood, or
    /// contradicts itself; Unsupported for another version of layouts, and for a packed archive; Limit for what is
    /// larger than it may be.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let source = Source::open(path.as_ref())?;
        documents::layout_version(&source.file("oci-layout")?).map_err(|error| error.on(source.of("oci-layout")))?;
        let index = source.file("index.json")?;
        let index = documents::index(&index).map_err(|error| error.on(source.of("index.json")))?;
        Ok(Self { source: Arc::new(source), index })
    }

    /// The names of the images in it, sorted: `3.20`, or with Docker and containerd `docker.io/library/alpine:3.20` too.
    #[must_use]
    pub fn tags(&self) -> Vec<&str> {
        let tags: BTreeSet<_> = self.index.iter().flat_map(|image| &image.names).map(String::as_str).collect();
        tags.into_iter().collect()
    }

    /// Begins the search for an image: the only one in it, for this machine, unless told.
    pub fn find(&self) -> FindImage<'_> {
        FindImage::new(self)
    }
}

/// An image: its layers, and how it wants to be run. It keeps its layout open.
///
/// ```no_run
/// use mountkit::RootFd;
/// use mountkit::layers::{Apply, Image, ImageLayout};
///
/// // By hand what `Store::unpack` does.
/// let image: Image = ImageLayout::open("/srv/alpine")?.find().image()?;
/// for (number, layer) in image.layers().iter().enumerate() {
///     let dir = format!("/var/lib/mine/{number}");
///     std::fs::create_dir(&dir).map_err(|error| mountkit::Error::from_io("mkdir", &error))?;
///     Apply::new().expect_diff_id(layer.diff_id()).apply(image.open(layer)?, &RootFd::open(&dir)?)?;
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/manifest.md>
#[derive(Clone, Debug)]
pub struct Image {
    source: Arc<Source>,
    digest: Digest,
    config_digest: Digest,
    platform: Platform,
    config: ImageConfig,
    layers: Vec<ImageLayer>,
}

impl Image {
    /// Of its manifest: what `image@sha256:…` means.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Of its configuration: what Docker and podman call the image's id.
    #[must_use]
    pub fn config_digest(&self) -> Digest {
        self.config_digest
    }

    /// What it is for.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// How it wants to be run.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Its layers, the lowest first. A layer may be there more than once.
    #[must_use]
    pub fn layers(&self) -> &[ImageLayer] {
        &self.layers
    }

    /// Opens a layer of it, as it is, packed or not. Its size is compared with the manifest's at once, its digest when the
    /// last byte is read.
    ///
    /// # Errors
    /// NotFound when the layout does not have it, Parse for another size. The [`Blob`] answers `InvalidData` at the end when
    /// the content is not what its digest says.
    pub fn open(&self, layer: &ImageLayer) -> Result<Blob> {
        Ok(Blob {
            content: self.unchecked(layer)?,
            sum: Some(Digester::new(layer.digest.kind())),
            digest: layer.digest,
            subject: self.source.of_blob(&layer.digest),
        })
    }

    /// The same for who compares the digest himself.
    pub(super) fn unchecked(&self, layer: &ImageLayer) -> Result<Content> {
        self.source.blob(&layer.digest, layer.size)
    }
}

/// A layer of an [`Image`].
///
/// ```
/// use mountkit::layers::{Image, ImageLayer};
///
/// fn to_download(image: &Image) -> u64 {
///     image.layers().iter().map(ImageLayer::size).sum()
/// }
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    digest: Digest,
    size: u64,
    diff_id: Digest,
}

impl ImageLayer {
    /// Of the layer as it is in the layout.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Of the archive in it, unpacked.
    #[must_use]
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// In bytes, as it is in the layout.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A layer's content, which is compared with its digest while it is read: see [`Image::open`].
///
/// What has been read of it is not to be trusted before its end: then it is all there, and what the digest says, or the read
/// that would answer the end fails.
///
/// ```no_run
/// use mountkit::layers::{Blob, ImageLayout};
///
/// let image = ImageLayout::open("/srv/alpine")?.find().image()?;
/// let mut blob: Blob = image.open(&image.layers()[0])?;
/// std::io::copy(&mut blob, &mut std::io::sink()).expect("it is what it should be");
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/descriptor.md>
#[derive(Debug)]
pub struct Blob {
    content: Content,
    /// `None` after the end.
    sum: Option<Digester>,
    digest: Digest,
    subject: Subject,
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.content.read(buffer)?;
        let Some(sum) = &mut self.sum else { return Ok(length) };
        sum.update(buffer.get(..length).unwrap_or_default());
        if length > 0 || buffer.is_empty() {
            return Ok(length);
        }
        match self.sum.take().map(Digester::finish) {
            Some(found) if found != self.digest => Err(other_content(found).on(self.subject.clone()).into()),
            _ => Ok(0),
        }
    }
}

fn other_content(found: Digest) -> Error {
    Error::parse("read image", format!("its content is another: {found}"))
}

/// A document that is a blob, read whole and compared with its descriptor.
fn document(source: &Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let digest = &descriptor.digest;
    if descriptor.size > documents::LONGEST {
        return Err(source.too_long(source.of_blob(digest)));
    }
    let mut bytes = Vec::new();
    let content = source.blob(digest, descriptor.size)?;
    // It was as long as it should be when it was opened.
    let read = content.take(documents::LONGEST).read_to_end(&mut bytes);
    read.map_err(|error| Error::from_io("read", &error).on(source.of_blob(digest)))?;
    let mut sum = Digester::new(digest.kind());
    sum.update(&bytes);
    let found = sum.finish();
    if found != *digest {
        return Err(other_content(found).on(source.of_blob(digest)));
    }
    Ok(bytes)
}

/// The image of a manifest.
fn image(source: &Arc<Source>, descriptor: &Descriptor) -> Result<Image> {
    let on = |digest: Digest| move |error: Error| error.on(source.of_blob(&digest));
    debug_assert_eq!(descriptor.media, Media::Manifest);
    let manifest = document(source, descriptor)?;
    let manifest = documents::manifest(&manifest).map_err(on(descriptor.digest))?;
    let config = document(source, &manifest.config)?;
    let config = documents::configuration(&config).map_err(on(manifest.config.digest))?;
    if config.diff_ids.len() != manifest.layers.len() {
        let why = format!(
            "its manifest has {} layers, and its configuration {}",
            manifest.layers.len(),
            config.diff_ids.len()
        );
        return Err(on(descriptor.digest)(Error::parse("read image", why)));
    }
    let layers = manifest.layers.iter().zip(config.diff_ids);
    let layers = layers.map(|(layer, diff_id)| ImageLayer { digest: layer.digest, size: layer.size, diff_id });
    Ok(Image {
        source: Arc::clone(source),
        digest: descriptor.digest,
        config_digest: manifest.config.digest,
        platform: config.platform,
        config: config.config,
        layers: layers.collect(),
    })
}
