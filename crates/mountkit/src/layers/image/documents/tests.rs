#![forbid(unsafe_code)]

use cellkit_core::ErrorKind;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn descriptor(media: &str) -> Value {
    json!({ "mediaType": media, "digest": format!("sha256:{HEX}"), "size": 0 })
}

fn bytes(json: &Value) -> Vec<u8> {
    json.to_string().into_bytes()
}

fn good_manifest() -> Value {
    json!({ "schemaVersion": 2, "config": descriptor(CONFIG), "layers": [descriptor(LAYER)] })
}

fn good_config() -> Value {
    json!({ "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{HEX}")] } })
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, word: &str) {
    let error = result.expect_err(word);
    assert_eq!(error.kind(), kind, "{error:#}");
    assert!(error.to_string().contains(word), "{error:#} has not {word}");
    assert!(!error.to_string().contains(char::is_control), "{error:?}");
}

#[test]
fn by_ocis_names_and_by_dockers() {
    let docker = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor("application/vnd.docker.container.image.v1+json"),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip")],
    });
    assert_eq!(manifest(&bytes(&docker)).expect("docker"), manifest(&bytes(&good_manifest())).expect("oci"));
    let list = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [descriptor(MANIFEST)],
    });
    assert_eq!(index(&bytes(&list)).expect("list").len(), 1);
    assert_eq!(index(br#"{"schemaVersion":2,"manifests":null}"#).expect("empty"), []);
}

#[test]
fn names_and_platforms() {
    let mut image = descriptor(MANIFEST);
    image["annotations"] = json!({ REF_NAME: "3.20", IMAGE_NAME: "docker.io/library/alpine:3.20", "other": "x" });
    image["platform"] = json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
    let mut attestation = descriptor(MANIFEST);
    attestation["platform"] = json!({ "os": "", "architecture": "" });
    let found = index(&bytes(&json!({ "schemaVersion": 2, "manifests": [image, attestation] }))).expect("index");
    assert_eq!(found[0].names, ["3.20", "docker.io/library/alpine:3.20"]);
    assert_eq!(found[0].platform.as_ref().expect("platform").to_string(), "linux/arm64/v8");
    assert_eq!((found[1].platform.clone(), found[1].names.len()), (None, 0));
}

#[test]
fn what_is_two_things_is_neither() {
    let mut both = good_manifest();
    both["manifests"] = json!([descriptor(MANIFEST)]);
    refused(manifest(&bytes(&both)), ErrorKind::Parse, "both an index and a manifest");
    refused(index(&bytes(&both)), ErrorKind::Parse, "both an index and a manifest");
    let mut called = good_manifest();
    called["mediaType"] = json!(INDEX);
    refused(manifest(&bytes(&called)), ErrorKind::Parse, "it calls itself");
    let doubled = good_manifest().to_string().replacen('{', r#"{"schemaVersion":2,"#, 1);
    refused(manifest(doubled.as_bytes()), ErrorKind::Parse, "duplicate field");
}

#[test]
fn what_is_no_image() {
    let mut artifact = good_manifest();
    artifact["config"]["mediaType"] = json!("application/vnd.cncf.helm\u{1b}[1m");
    refused(manifest(&bytes(&artifact)), ErrorKind::Unsupported, "an artifact of type application/vnd.cncf.helm");
    let mut layer = good_manifest();
    layer["layers"][0]["mediaType"] = json!("application/x-squashfs");
    refused(manifest(&bytes(&layer)), ErrorKind::Unsupported, "a layer of type application/x-squashfs");
    let mut crossed = good_manifest();
    crossed["layers"][0]["mediaType"] = json!(CONFIG);
    refused(manifest(&bytes(&crossed)), ErrorKind::Parse, "a configuration and layers");
    refused(index(br#"{"schemaVersion":1,"manifests":[]}"#), ErrorKind::Unsupported, "schemaVersion 1");
    let mut windows = good_config();
    windows["rootfs"]["type"] = json!("disks");
    refused(configuration(&bytes(&windows)), ErrorKind::Unsupported, "of type disks");
    refused(layout_version(br#"{"imageLayoutVersion":"2.0.0"}"#), ErrorKind::Unsupported, "version 2.0.0");
    layout_version(br#"{"imageLayoutVersion":"1.0.0","more":[]}"#).expect("version 1");
}

#[test]
fn wrong_values() {
    for (key, value) in [
        ("digest", json!("sha256:../../../etc/passwd")),
        ("digest", json!(format!("sha256:{}", HEX.to_uppercase()))),
        ("size", json!(-1)),
        ("size", json!(1.5)),
        ("size", json!("1")),
        ("mediaType", json!(null)),
        ("mediaType", json!(7)),
    ] {
        let mut wrong = descriptor(MANIFEST);
        wrong[key] = value;
        let json = json!({ "schemaVersion": 2, "manifests": [wrong] });
        let error = index(&bytes(&json)).expect_err(key);
        assert_eq!(error.kind(), ErrorKind::Parse, "{error:#}");
    }
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    refused(index(&deep), ErrorKind::Parse, "");
    let many = json!({ "schemaVersion": 2, "manifests": vec![descriptor(MANIFEST); MOST_MANIFESTS + 1] });
    refused(index(&bytes(&many)), ErrorKind::Limit, "more than 10000 images");
    let mut many = good_manifest();
    many["layers"] = json!(vec![descriptor(LAYER); MOST_LAYERS + 1]);
    refused(manifest(&bytes(&many)), ErrorKind::Limit, "more than 500 layers");
}

#[test]
fn how_an_image_wants_to_be_run() {
    let mut json = good_config();
    assert_eq!(configuration(&bytes(&json)).expect("bare").config, ImageConfig::default());
    json["config"] = json!({
        "Entrypoint": null, "Cmd": ["sh", "-c", "echo \"$A\""], "Env": ["A=b=c", "ODD"], "WorkingDir": "/srv",
        "User": "1000:www", "Labels": { "a": "b" }, "StopSignal": "SIGQUIT", "ExposedPorts": { "80/tcp": {} },
        "Volumes": { "/data": {} }, "ArgsEscaped": true, "OnBuild": null,
    });
    let config = configuration(&bytes(&json)).expect("full").config;
    assert_eq!((config.entrypoint.len(), config.cmd.len(), config.env[0].as_str()), (0, 3, "A=b=c"));
    assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/srv", "1000:www"));
    assert_eq!((config.labels["a"].as_str(), config.stop_signal.as_deref()), ("b", Some("SIGQUIT")));
    assert_eq!((config.exposed_ports, config.volumes), (vec!["80/tcp".to_owned()], vec!["/data".to_owned()]));
    for key in ["Cmd", "Env", "Entrypoint"] {
        let mut wrong = good_config();
        wrong["config"] = json!({ key: ["a\u{0}b"] });
        refused(configuration(&bytes(&wrong)), ErrorKind::Parse, "NUL");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0_usize..2000) {
        let _ = (index(&bytes), manifest(&bytes), configuration(&bytes), layout_version(&bytes));
        for good in [good_manifest(), good_config(), json!({"schemaVersion": 2, "manifests": [descriptor(INDEX)]})] {
            let text = good.to_string().into_bytes();
            let torn = text.get(..cut.min(text.len().saturating_sub(1))).unwrap_or_default();
            prop_assert!(index(torn).is_err() && manifest(torn).is_err() && configuration(torn).is_err());
        }
    }
}
