//! Image layouts, as they should be and as they should not.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use mountkit::layers::{Digest, Image, ImageLayout};
use mountkit::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::made::{Files, INDEX, MANIFEST, Made, here};

const TWO: &[Files<'static>] = &[&[("etc/a", "1"), ("bin/hello", "#!")], &[("etc/b", "2")]];

#[track_caller]
fn found(path: &Path) -> Image {
    let layout = ImageLayout::open(path).unwrap_or_else(|error| panic!("{error:#}"));
    layout.find().image().unwrap_or_else(|error| panic!("{error:#}"))
}

fn error_of(path: &Path) -> Error {
    let result = ImageLayout::open(path).and_then(|layout| layout.find().image());
    // Layers are looked at when they are read.
    let result = result.and_then(|image| {
        image.layers().iter().try_for_each(|layer| {
            let read = image.open(layer)?.read_to_end(&mut Vec::new());
            read.map(drop).map_err(|error| {
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
                Error::parse("read image", error.to_string())
            })
        })
    });
    result.expect_err("it must be refused")
}

#[test]
fn a_directory_and_an_archive_are_the_same() {
    faultkit::require!(program("tar"), program("gzip"), program("sha256sum"));
    let made = Made::image(TWO);
    for path in [made.dir.clone(), made.archive()] {
        let layout = ImageLayout::open(&path).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(layout.tags(), ["latest"]);
        let image = layout.find().tag("latest").image().unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(image.config().cmd, ["/bin/hello"]);
        assert_eq!(image.platform().to_string(), format!("linux/{}", here()));
        assert_eq!(image.layers().len(), 2);
        // It outlives the layout, whose digests are those of another program.
        drop(layout);
        for layer in image.layers() {
            let mut content = Vec::new();
            image.open(layer).expect("open").read_to_end(&mut content).expect("read");
            let sum = String::from_utf8(crate::create::piped("sha256sum", &[], &content)).expect("text");
            assert_eq!(sum.split(' ').next(), Some(layer.digest().hex().as_str()));
            assert_eq!(Digest::sha256_of(&crate::create::piped("gzip", &["-dc"], &content)), layer.diff_id());
        }
    }
}

#[test]
fn the_image_that_is_meant() {
    faultkit::require!(program("tar"), program("gzip"));
    let made = Made::new();
    let image = |tag: &str, architecture: &str| {
        made.manifest(&[&[("file", tag)]], tag, &[("architecture", json!(architecture))])
    };
    let (old, new, foreign) = (image("old", here()), image("new", here()), image("new", "s390x"));
    let with_platform = |image: &Value, architecture: &str| {
        let mut image = image.clone();
        image["platform"] = json!({ "os": "linux", "architecture": architecture });
        image
    };
    // Two images in the layout's own index, of which one is for two machines; an attestation; something unknown.
    let mut attestation = with_platform(&new, "unknown");
    attestation["platform"]["os"] = json!("unknown");
    let list = [with_platform(&foreign, "s390x"), attestation, with_platform(&new, here())];
    let list = json!({ "schemaVersion": 2, "manifests": list });
    let mut nested = made.blob(INDEX, list.to_string().as_bytes());
    nested["annotations"] = json!({ "org.opencontainers.image.ref.name": "new" });
    let mut unknown = made.blob("application/x-whatever", b"whatever");
    unknown["annotations"] = json!({ "org.opencontainers.image.ref.name": "other" });
    made.index(&json!([old, nested, unknown]));

    let layout = ImageLayout::open(&made.dir).expect("layout");
    assert_eq!(layout.tags(), ["new", "old", "other"]);
    let env = |tag: &str| layout.find().tag(tag).image().expect(tag).config().env.clone();
    assert_eq!((env("old"), env("new")), (vec!["TAG=old".to_owned()], vec!["TAG=new".to_owned()]));
    let other = layout.find().tag("new").platform("linux/s390x".parse().expect("platform")).image().expect("s390x");
    assert_eq!(other.platform().architecture(), "s390x");
    // By what an image says of itself, where its descriptor does not say it.
    let only = layout.find().platform("linux/s390x".parse().expect("platform")).image().expect("s390x");
    assert_eq!(only.digest(), other.digest());

    let refused = |find: mountkit::layers::FindImage<'_>| find.image().expect_err("none");
    let error = refused(layout.find());
    assert!(
        error.kind() == ErrorKind::Invalid && error.hint().is_some_and(|h| h.contains("new, old, other")),
        "{error:#}"
    );
    let error = refused(layout.find().tag("no"));
    assert!(error.kind() == ErrorKind::NotFound && format!("{error:#}").contains("new, old, other"), "{error:#}");
    let error = refused(layout.find().tag("new").platform("linux/riscv64".parse().expect("platform")));
    assert!(format!("{error:#}").contains("no image for linux/riscv64, but for linux/"), "{error:#}");
    assert_eq!(refused(layout.find().tag("other")).kind(), ErrorKind::NotFound);
    // One image with two names is one image.
    let mut again = old.clone();
    again["annotations"] = json!({ "org.opencontainers.image.ref.name": "again" });
    made.index(&json!([old, again]));
    found(&made.dir);
}

/// A change of a good layout, by its folder and the descriptor of its image.
type Spoil = fn(&Made, &Value);

#[test]
fn hostile_layouts_are_refused() {
    faultkit::require!(program("tar"), program("gzip"), program("mkfifo"));
    fn first_layer(made: &Made, image: &Value) -> Value {
        let manifest = fs::read(made.path_of(image)).expect("manifest");
        serde_json::from_slice::<Value>(&manifest).expect("json")["layers"][0].clone()
    }
    fn rewritten(made: &Made, image: &Value, change: fn(&mut Value)) {
        let mut manifest = serde_json::from_slice(&fs::read(made.path_of(image)).expect("manifest")).expect("json");
        change(&mut manifest);
        made.index(&json!([made.blob(MANIFEST, manifest.to_string().as_bytes())]));
    }
    let cases: &[(&str, Spoil, ErrorKind, &str)] = &[
        (
            "no oci-layout",
            |made, _| fs::remove_file(made.dir.join("oci-layout")).expect("rm"),
            ErrorKind::NotFound,
            "a root file system is none",
        ),
        (
            "docker save of old",
            |made, _| {
                fs::remove_file(made.dir.join("oci-layout")).expect("rm");
                fs::write(made.dir.join("manifest.json"), "[]").expect("write");
            },
            ErrorKind::NotFound,
            "docker save",
        ),
        (
            "another version",
            |made, _| fs::write(made.dir.join("oci-layout"), r#"{"imageLayoutVersion":"3"}"#).expect("write"),
            ErrorKind::Unsupported,
            "version 3",
        ),
        (
            "no index",
            |made, _| fs::remove_file(made.dir.join("index.json")).expect("rm"),
            ErrorKind::NotFound,
            "index.json",
        ),
        (
            "a gigantic index",
            |made, _| {
                fs::File::create(made.dir.join("index.json")).expect("create").set_len(1 << 40).expect("truncate")
            },
            ErrorKind::Limit,
            "4194304",
        ),
        (
            "an index that is a directory",
            |made, _| {
                fs::remove_file(made.dir.join("index.json")).expect("rm");
                fs::create_dir(made.dir.join("index.json")).expect("mkdir");
            },
            ErrorKind::Invalid,
            "regular file",
        ),
        (
            "an index that is a FIFO",
            |made, _| {
                fs::remove_file(made.dir.join("index.json")).expect("rm");
                assert!(Command::new("mkfifo").arg(made.dir.join("index.json")).status().expect("mkfifo").success());
            },
            ErrorKind::Invalid,
            "regular file",
        ),
        (
            "a digest with dots",
            |made, image| {
                let mut image = image.clone();
                image["digest"] = json!("sha256:../../../../../../etc/passwd");
                made.index(&json!([image]));
            },
            ErrorKind::Parse,
            "hexadecimal",
        ),
        (
            "a digest of another algorithm",
            |made, image| {
                let mut image = image.clone();
                image["digest"] = json!("crc32:00000000");
                made.index(&json!([image]));
            },
            ErrorKind::Parse,
            "sha256 and sha512",
        ),
        (
            "a missing manifest",
            |made, image| fs::remove_file(made.path_of(image)).expect("rm"),
            ErrorKind::NotFound,
            "blobs/sha256",
        ),
        (
            "a manifest of another size",
            |made, image| {
                let mut image = image.clone();
                image["size"] = json!(7);
                made.index(&json!([image]));
            },
            ErrorKind::Parse,
            "its descriptor says 7",
        ),
        (
            "a gigantic manifest",
            |made, image| {
                let mut image = image.clone();
                image["size"] = json!(u64::MAX);
                made.index(&json!([image]));
            },
            ErrorKind::Limit,
            "4194304",
        ),
        (
            "another manifest of that size",
            |made, image| {
                let path = made.path_of(image);
                let other =
                    fs::read_to_string(&path).expect("read").replace("\"schemaVersion\":2", "\"schemaVersion\":3");
                fs::write(path, other).expect("write");
            },
            ErrorKind::Parse,
            "its content is another",
        ),
        (
            "a layer that is a link out of it",
            |made, image| {
                let path = made.path_of(&first_layer(made, image));
                fs::remove_file(&path).expect("rm");
                symlink("/etc/passwd", &path).expect("symlink");
            },
            ErrorKind::NotFound,
            "blobs/sha256",
        ),
        (
            "a layer that is a FIFO",
            |made, image| {
                let path = made.path_of(&first_layer(made, image));
                fs::remove_file(&path).expect("rm");
                assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
            },
            ErrorKind::Invalid,
            "regular file",
        ),
        (
            "a layer that is longer",
            |made, image| {
                let path = made.path_of(&first_layer(made, image));
                let longer = [fs::read(&path).expect("read"), b"x".to_vec()].concat();
                fs::write(path, longer).expect("write");
            },
            ErrorKind::Parse,
            "its descriptor says",
        ),
        (
            "a layer of another content",
            |made, image| {
                let path = made.path_of(&first_layer(made, image));
                let mut content = fs::read(&path).expect("read");
                *content.last_mut().expect("byte") ^= 1;
                fs::write(path, content).expect("write");
            },
            ErrorKind::Parse,
            "its content is another",
        ),
        (
            "more layers than diff_ids",
            |made, image| {
                rewritten(made, image, |manifest| {
                    let first = manifest["layers"][0].clone();
                    manifest["layers"].as_array_mut().expect("layers").push(first);
                })
            },
            ErrorKind::Parse,
            "3 layers, and its configuration 2",
        ),
        (
            "layers without end",
            |made, image| {
                rewritten(made, image, |manifest| {
                    let first = manifest["layers"][0].clone();
                    manifest["layers"].as_array_mut().expect("layers").extend(std::iter::repeat_n(first, 500));
                })
            },
            ErrorKind::Limit,
            "more than 500 layers",
        ),
        (
            "an index within an index within",
            |made, image| {
                let mut inner = image.clone();
                for _ in 0..10 {
                    inner =
                        made.blob(INDEX, json!({ "schemaVersion": 2, "manifests": [inner] }).to_string().as_bytes());
                }
                made.index(&json!([inner]));
            },
            ErrorKind::Limit,
            "8 indexes within each other",
        ),
        (
            "an index that lists itself",
            |made, _| {
                // What it is cannot be known before it is written: such a cycle is a blob of another content.
                let mut itself = made.blob(INDEX, b"{}");
                let cycle = json!({ "schemaVersion": 2, "manifests": [itself] }).to_string();
                itself["size"] = json!(cycle.len());
                fs::write(made.path_of(&itself), cycle).expect("write");
                made.index(&json!([itself]));
            },
            ErrorKind::Parse,
            "its content is another",
        ),
        (
            "indexes that list each other again and again",
            |made, image| {
                let mut inner = image.clone();
                inner["platform"] = json!({ "os": "linux", "architecture": "pdp11" });
                for _ in 0..6 {
                    let list = json!({ "schemaVersion": 2, "manifests": vec![inner; 10] });
                    inner = made.blob(INDEX, list.to_string().as_bytes());
                }
                made.index(&json!([inner]));
            },
            ErrorKind::Limit,
            "1000 documents",
        ),
        (
            "an index that is called a manifest",
            |made, image| {
                let list = json!({ "schemaVersion": 2, "manifests": [image] });
                made.index(&json!([made.blob(MANIFEST, list.to_string().as_bytes())]));
            },
            ErrorKind::Parse,
            "config",
        ),
        ("nothing", |made, _| made.index(&json!([])), ErrorKind::NotFound, "no images"),
    ];
    for (what, spoil, kind, word) in cases {
        let made = Made::new();
        let image = made.manifest(TWO, "latest", &[]);
        made.index(&json!([image]));
        spoil(&made, &image);
        let error = error_of(&made.dir);
        assert_eq!(error.kind(), *kind, "{what}: {error:#}");
        assert!(format!("{error:#}").contains(word), "{what}: {error:#}");
    }
}

#[test]
fn hostile_archives_are_refused() {
    faultkit::require!(program("tar"), program("gzip"));
    let made = Made::image(TWO);
    let good = fs::read(made.archive()).expect("read");
    let path = made.dir.with_extension("spoilt");
    let check = |what: &str, content: &[u8], kind: ErrorKind, word: &str| {
        fs::write(&path, content).expect("write");
        let error = error_of(&path);
        assert_eq!(error.kind(), kind, "{what}: {error:#}");
        assert!(format!("{error:#}").contains(word), "{what}: {error:#}");
    };
    check("packed", &crate::create::piped("gzip", &["-c"], &good), ErrorKind::Unsupported, "gzip -d");
    check("empty", b"", ErrorKind::Parse, "archive");
    check("no archive", &[b'x'; 4096], ErrorKind::Parse, "archive");
    check("torn", good.get(..good.len() / 2).expect("half"), ErrorKind::Parse, "archive");
    let twice = |name: &str| {
        let (tar, dir) = (made.dir.with_extension("twice"), made.dir.to_str().expect("text"));
        fs::copy(made.archive(), &tar).expect("copy");
        let mut command = Command::new("tar");
        assert!(command.arg("-rf").arg(&tar).args(["-C", dir, name]).status().expect("tar").success());
        fs::read(tar).expect("read")
    };
    check("two of a name", &twice("index.json"), ErrorKind::Parse, "two files of one name");
    // A link in an archive is no file of it, wherever it leads.
    fs::remove_file(made.dir.join("index.json")).expect("rm");
    symlink("/etc/passwd", made.dir.join("index.json")).expect("symlink");
    let linked = fs::read(made.archive()).expect("read");
    check("a link", &linked, ErrorKind::NotFound, "index.json");
    fs::remove_file(made.archive()).expect("rm");
    assert_eq!(ImageLayout::open("/dev/null").expect_err("a device").kind(), ErrorKind::Invalid);
    assert_eq!(ImageLayout::open(made.dir.join("no")).expect_err("nothing").kind(), ErrorKind::NotFound);
}
