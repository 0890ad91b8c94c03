//! Which of the images in a layout is meant.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use cellkit_core::{Error, Result};

use super::documents::{Descriptor, Media, clean};
use super::{Image, ImageLayout, Platform, document, documents, image};

/// How many indexes may be within each other.
const DEEPEST: usize = 8;
/// How many documents are read in one search.
const MOST_READ: usize = 1000;

/// A search for an image, begun by [`ImageLayout::find`].
///
/// ```no_run
/// use mountkit::layers::ImageLayout;
///
/// let layout = ImageLayout::open("/srv/alpine")?;
/// let image = layout.find().tag("3.20").platform("linux/arm64".parse()?).image()?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/image-index.md>
#[derive(Clone, Debug)]
#[must_use = "nothing is read before `image`"]
pub struct FindImage<'a> {
    layout: &'a ImageLayout,
    tag: Option<String>,
    platform: Platform,
}

impl<'a> FindImage<'a> {
    pub(super) fn new(layout: &'a ImageLayout) -> Self {
        Self { layout, tag: None, platform: Platform::here() }
    }

    /// The image of this name: one of [`ImageLayout::tags`].
    #[doc(alias = "org.opencontainers.image.ref.name")]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// The image for `platform`: that of this machine, unless told.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// Reads the manifest and the configuration of the image that is meant.
    ///
    /// Of several images for the platform in one index within the layout's own the first is taken, as the specification
    /// says. In the layout's own index, images that no tag tells apart are an error.
    ///
    /// # Errors
    /// NotFound (ENOENT) when there is none, with a hint that says what there is; Invalid when there are several. Parse for
    /// documents that are not what their descriptors say, or contradict themselves; Unsupported for artifacts that are no
    /// images, Docker's first manifests, and layers of unknown types; Limit for what is larger than it may be.
    pub fn image(&self) -> Result<Image> {
        let mut search = Search { of: self, read: 0, offered: BTreeSet::new() };
        let listed = self.layout.index.iter();
        let meant: Vec<_> = match &self.tag {
            Some(tag) => listed.filter(|image| image.names.contains(tag)).collect(),
            None => listed.collect(),
        };
        let mut found: Option<Image> = None;
        for descriptor in meant {
            match (search.within(descriptor, 0)?, &found) {
                (Some(image), None) => found = Some(image),
                (Some(image), Some(first)) if image.digest() != first.digest() => return Err(self.several()),
                _ => {}
            }
        }
        found.ok_or_else(|| self.none(&search.offered))
    }

    fn several(&self) -> Error {
        let why = match &self.tag {
            Some(_) => "there are several images of this tag and platform",
            None => "there are several images, so that a tag is needed",
        };
        Error::invalid("read image", why).on(self.layout.source.subject()).with_hint(self.tags())
    }

    fn none(&self, offered: &BTreeSet<String>) -> Error {
        let is_known = self.tag.as_ref().is_none_or(|tag| self.layout.tags().contains(&tag.as_str()));
        let hint = match is_known {
            false => self.tags(),
            true if offered.is_empty() => "there are no images in it".to_owned(),
            true => format!("there is no image for {}, but for {}", self.platform, list(offered)),
        };
        Error::from_errno("read image", libc::ENOENT).on(self.layout.source.subject()).with_hint(hint)
    }

    fn tags(&self) -> String {
        format!("the tags in it: {}", list(self.layout.tags()))
    }
}

/// A few of them.
fn list<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let mut words: Vec<_> = words.into_iter().take(11).map(|word| clean(word.as_ref())).collect();
    match words.len() {
        0 => "none".to_owned(),
        11 => {
            words.truncate(10);
            format!("{}, and others", words.join(", "))
        }
        _ => words.join(", "),
    }
}

struct Search<'a, 'b> {
    of: &'a FindImage<'b>,
    read: usize,
    /// The platforms that were passed over.
    offered: BTreeSet<String>,
}

impl Search<'_, '_> {
    /// The first image for the platform that `descriptor` is of, or that is in the index that it is of.
    fn within(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Option<Image>> {
        if let Some(platform) = descriptor.platform.as_ref().filter(|offered| !self.of.platform.takes(offered)) {
            self.offer(platform);
            return Ok(None);
        }
        self.read += 1;
        if depth > DEEPEST || self.read > MOST_READ {
            let why = format!("more than {DEEPEST} indexes within each other, or {MOST_READ} documents to look at");
            return Err(Error::limit("read image", why).on(self.of.layout.source.of_blob(&descriptor.digest)));
        }
        let source = &self.of.layout.source;
        match &descriptor.media {
            Media::Manifest => {
                let image = image(source, descriptor)?;
                if self.of.platform.takes(image.platform()) {
                    return Ok(Some(image));
                }
                self.offer(image.platform());
                Ok(None)
            }
            Media::Index => {
                let json = document(source, descriptor)?;
                let on = |error: Error| error.on(source.of_blob(&descriptor.digest));
                for descriptor in documents::index(&json).map_err(on)? {
                    if let Some(image) = self.within(&descriptor, depth + 1)? {
                        return Ok(Some(image));
                    }
                }
                Ok(None)
            }
            // Signatures, attestations and whatever else may lie beside images.
            Media::Config | Media::Layer | Media::Other(_) => Ok(None),
        }
    }

    fn offer(&mut self, platform: &Platform) {
        if self.offered.len() < 20 {
            self.offered.insert(platform.to_string());
        }
    }
}
