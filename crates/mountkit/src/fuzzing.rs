//! The private parsers, each with what must hold of it, for the fuzz targets. Only there in builds with `--cfg fuzzing`.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the targets below fuzz/ sees it")]

#[cfg(feature = "layers")]
pub fn image_documents(json: &[u8]) {
    use crate::layers::image::documents;

    let _ = documents::layout_version(json);
    let is_index = documents::index(json).is_ok();
    let manifest = documents::manifest(json);
    assert!(!(is_index && manifest.is_ok()), "a document that is two things");
    if let Err(error) = manifest {
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
    if let Ok(document) = documents::configuration(json) {
        let config = document.config;
        let lists = [config.entrypoint, config.cmd, config.env, config.volumes, config.exposed_ports];
        assert!(!lists.iter().flatten().any(|text| text.contains('\0')));
        let platform = document.platform.to_string();
        assert_eq!(platform.parse().ok(), Some(document.platform));
    }
}

#[cfg(feature = "layers")]
pub fn layer_entries(archive: &[u8]) {
    use crate::layers::{Limits, entry};

    let limits = || Limits::new().bytes(1 << 24).entries(1000);
    let mut reader = entry::Archive::new(archive, limits());
    let mut entry = entry::Entry::default();
    while let Ok(true) = reader.next(&mut entry) {
        assert!(!entry.path.contains(&0) && !entry.link.contains(&0), "{entry:?}");
        assert!(entry.modified.nanoseconds < 1_000_000_000, "{entry:?}");
        assert!(entry.kind == entry::Kind::File || entry.size == 0, "{entry:?}");
        let mut stored = 0;
        while let Ok(part) = reader.content() {
            let length = part.len();
            if length == 0 {
                break;
            }
            stored += length as u64;
            reader.used(length);
        }
        assert!(stored <= entry.size, "{stored} bytes of {entry:?}");
        assert!(reader.position() <= archive.len() as u64);
    }
}
