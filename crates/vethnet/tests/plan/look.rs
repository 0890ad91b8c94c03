//! A plan's directory as another program sees it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

/// Who has which address, by the entries of the addresses.
pub fn entries(dir: &Path) -> BTreeMap<IpAddr, String> {
    let Ok(list) = fs::read_dir(dir.join("address")) else { return BTreeMap::new() };
    let entry = |entry: fs::DirEntry| {
        let owner = fs::read_link(entry.path()).expect("a symbolic link").into_os_string().into_string().expect("text");
        (entry.file_name().to_str().expect("text").parse().expect("an address"), owner)
    };
    list.map(|one| entry(one.expect("entry"))).collect()
}

/// Who has which address, by the records of the owners.
pub fn records(dir: &Path) -> BTreeMap<IpAddr, String> {
    let mut all = BTreeMap::new();
    let Ok(list) = fs::read_dir(dir.join("lease")) else { return all };
    for entry in list {
        let path = entry.expect("entry").path();
        let record: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("a whole record");
        let owner = record["owner"].as_str().expect("owner");
        assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(owner));
        for address in record["addresses"].as_array().expect("addresses") {
            let (address, _) = address.as_str().expect("text").split_once('/').expect("with a prefix");
            let before = all.insert(address.parse().expect("an address"), owner.to_owned());
            assert_eq!(before, None, "{address} is in two records");
        }
    }
    all
}

/// The names of a plan, as the lines of its file that speak of containers.
pub fn names(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("hosts")).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("localhost"));
    lines.map(|line| line.split('#').next().unwrap_or_default().trim_end().replace('\t', " ")).collect()
}
