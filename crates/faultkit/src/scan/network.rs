//! The network namespace of the calling thread, as `ip` and `nft` show it.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Map, Value};

use crate::ledger::{Kind, Lines};
use crate::{Need, scan};

/// One process for each family, whatever the number of questions.
const QUESTIONS: [(&str, &str, &[Kind]); 2] = [
    (
        "-4",
        "link show\naddr show\nroute show table all\nrule show\n",
        &[Kind::Link, Kind::Address, Kind::Route, Kind::Rule],
    ),
    ("-6", "addr show\nroute show table all\nrule show\n", &[Kind::Address, Kind::Route, Kind::Rule]),
];

const SWITCHES: [&str; 5] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/all/disable_ipv6",
];

#[track_caller]
pub fn add(lines: &mut Lines) {
    if has("ip", "links, addresses, routes and rules are seen by name only") {
        for (family, questions, kinds) in QUESTIONS {
            let text = ask(Command::new("ip").args([family, "-json", "-details", "-batch", "-"]), questions);
            let answers = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
            let answers: Vec<Value> =
                answers.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("the answer of ip is not JSON: {e}"));
            assert_eq!(answers.len(), kinds.len(), "ip answered {} of {} questions", answers.len(), kinds.len());
            for (kind, answer) in kinds.iter().zip(&answers) {
                for item in answer.as_array().into_iter().flatten().filter_map(Value::as_object) {
                    describe(lines, *kind, item);
                }
            }
        }
    } else {
        by_name_only(lines);
    }
    if has("nft", "nft rules are not in the ledger") {
        let text = ask(Command::new("nft").args(["--json", "list", "ruleset"]), "");
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("the answer of nft is not JSON: {e}"));
        for item in answer.get("nftables").and_then(Value::as_array).into_iter().flatten() {
            if item.get("metainfo").is_none() {
                lines.add(Kind::Nft, steady(item).to_string());
            }
        }
    }
    for switch in SWITCHES {
        // A kernel without IPv6 has not all of them.
        if let Ok(value) = fs::read_to_string(format!("/proc/sys/{switch}")) {
            lines.add(Kind::Sysctl, format!("{} = {}", switch.replace('/', "."), value.trim()));
        }
    }
}

/// Whether a program is here; if not, that is said, or is a failure where it was promised.
#[track_caller]
fn has(program: &'static str, loss: &str) -> bool {
    let missing = Need::Program(program).missing();
    if missing.is_some() {
        let expect = std::env::var("CELLKIT_EXPECT").unwrap_or_default();
        let promised = Need::Program(program).is_promised(&expect);
        assert!(!promised, "the ledger needs {program}, which CELLKIT_EXPECT={expect} promises");
        scan::note_once(&format!("{program} is not installed: {loss}"));
    }
    missing.is_none()
}

#[track_caller]
fn ask(command: &mut Command, questions: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why by its status.
        let _ = stdin.write_all(questions.as_bytes());
    }
    let output = child.wait_with_output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn describe(lines: &mut Lines, kind: Kind, item: &Map<String, Value>) {
    let get = |key: &str| item.get(key).map(ToString::to_string).unwrap_or_default();
    match kind {
        Kind::Link => {
            // Of the details only what does not change by itself: no timers, no carrier.
            let keys = ["ifindex", "ifname", "link", "link_index", "master", "mtu", "address", "ifalias", "altnames"];
            let mut line: Vec<String> =
                keys.iter().filter(|key| item.contains_key(**key)).map(|key| format!("{key} {}", get(key))).collect();
            let up = item.get("flags").and_then(Value::as_array).is_some_and(|f| f.iter().any(|flag| flag == "UP"));
            line.push(if up { "up" } else { "down" }.to_owned());
            line.extend(item.get("linkinfo").and_then(|info| info.get("info_kind")).map(ToString::to_string));
            lines.add(kind, line.join(" "));
        }
        Kind::Address => {
            for address in item.get("addr_info").and_then(Value::as_array).into_iter().flatten() {
                let keys = ["local", "prefixlen", "broadcast", "scope", "label"];
                let part = |key: &&str| address.get(*key).map(|value| format!("{key} {value}"));
                let parts: Vec<String> = keys.iter().filter_map(part).collect();
                lines.add(kind, format!("{} on {}", parts.join(" "), get("ifname")));
            }
        }
        _ => lines.add(kind, steady(&Value::Object(item.clone())).to_string()),
    }
}

/// `value` without what changes by itself or is drawn anew for the same thing: counters, handles, times.
fn steady(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let volatile = ["handle", "packets", "bytes", "expires", "cache", "used", "age"];
            let kept = map.iter().filter(|(key, _)| !volatile.contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key.clone(), steady(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(steady).collect()),
        other => other.clone(),
    }
}

/// What the kernel shows without any program.
fn by_name_only(lines: &mut Lines) {
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    for line in read("dev").lines().skip(2) {
        lines.add(Kind::Link, line.split(':').next().unwrap_or_default().trim());
    }
    for line in read("if_inet6").lines() {
        lines.add(Kind::Address, line);
    }
    for (file, columns) in [("route", 8), ("ipv6_route", 6)] {
        for line in read(file).lines() {
            let fields: Vec<&str> = line.split_whitespace().take(columns).collect();
            lines.add(Kind::Route, fields.join(" "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_handles_do_not_count() {
        let rule = r#"{"rule":{"handle":7,"expr":[{"counter":{"packets":3,"bytes":99}},{"drop":null}]}}"#;
        let rule: Value = serde_json::from_str(rule).unwrap();
        assert_eq!(steady(&rule).to_string(), r#"{"rule":{"expr":[{"counter":{}},{"drop":null}]}}"#);
    }
}
