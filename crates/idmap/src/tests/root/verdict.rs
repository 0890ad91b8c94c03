//! Our verdict beside that of the real newuidmap and newgidmap: random files, users and maps, case by case.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use faultkit::TempDir;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::etc::Etc;
use crate::tests::sys::{as_user, set_no_new_privs};
use crate::{Caller, Extent, IdKind, IdMap, IdMaps, SubIds, verify};

/// A name that is another's number, a number with two names, a name with two numbers.
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n\
                      ann:x:12345:12345::/:/bin/sh\n\
                      bob:x:12346:12346::/:/bin/sh\n\
                      12345:x:12347:12347::/:/bin/sh\n\
                      alias:x:12345:12346::/:/bin/sh\n\
                      bob:x:12345:12345::/:/bin/sh\n";

/// Ann, bob, the one whose name is ann's number, one without a name, and ann after newgrp.
const CALLERS: [(u32, u32); 5] = [(12345, 12345), (12346, 12346), (12347, 12347), (12348, 12348), (12345, 12346)];

const EDGE: u32 = u32::MAX;

type Triple = (u32, u32, u32);

/// One set of files and what is tried with it.
#[derive(Clone, Debug)]
struct Case {
    /// `None` for a file that is not there.
    subuid: Option<String>,
    subgid: Option<String>,
    any_group: bool,
    caller: (u32, u32),
    no_new_privs: bool,
    maps: Vec<Vec<Triple>>,
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => 100_000..100_040_u32,
        2 => 12_343..12_350_u32,
        1 => 0..3_u32,
        2 => (EDGE - 12)..=EDGE,
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0), 4 => Just(1), 4 => 2..12_u32, 1 => Just(40), 1 => Just(65_536)]
}

/// A line that every version of the programs reads in the same way.
fn line() -> impl Strategy<Value = String> {
    let owner = prop_oneof![
        6 => Just("ann"),
        2 => Just("bob"),
        2 => Just("alias"),
        3 => Just("12345"),
        1 => Just("12346"),
        1 => Just("12347"),
        1 => Just("12348"),
        1 => proptest::sample::select(vec!["", "#ann", "+ann", "-ann", "Ann", "ann ", " ann", "root", "stranger", "\u{e4}nn"]),
    ];
    let row = (owner, id(), count()).prop_map(|(owner, start, count)| {
        let beyond = u64::from(start) + u64::from(count) > 1 << 32;
        // Versions differ on NAME:0:0, and on what reaches beyond the numbers there are.
        let count = if beyond || (start, count) == (0, 0) { 1 } else { count };
        format!("{owner}:{start}:{count}\n")
    });
    let no_row = proptest::sample::select(vec![
        "\n",
        "\r\n",
        "# ann:100000:65536\n",
        "ann\n",
        "ann:100000\n",
        "ann::5\n",
        "ann:100000:\n",
        ":100000:5\n",
        "ann:100000:65536\r\n",
        "ann:x:5\n",
        "ann:100000:5x\n",
        "ann:100000:5 \n",
        "ann:99999999999999999999999:5\n",
        "\n\n",
    ])
    .prop_map(str::to_owned);
    let long = Just(format!("ann:100000:65536{}\n", " ".repeat(2000)));
    prop_oneof![12 => row, 2 => no_row, 1 => long]
}

fn file() -> impl Strategy<Value = Option<String>> {
    (proptest::collection::vec(line(), 0..7), 0..12_u8).prop_map(|(lines, ending)| {
        let text = lines.concat();
        match ending {
            0 => None,
            // The last line may lack its newline, if it is not so long that the programs give up.
            1..4 if text.len() < 1000 => Some(text.trim_end_matches('\n').to_owned()),
            _ => Some(text),
        }
    })
}

/// An extent: anywhere, or by a row of the file, from within it and as long as it is, or a little longer.
#[derive(Clone, Debug)]
enum Aim {
    Anywhere(u32, u32),
    AtRow { index: usize, offset: u32, count: u32, beyond: bool },
}

fn aim() -> impl Strategy<Value = Aim> {
    let row = (0..7_usize, 0..12_u32, 1..60_u32, 0..8_u8).prop_map(|(index, offset, count, beyond)| Aim::AtRow {
        index,
        offset,
        count,
        beyond: beyond == 0,
    });
    prop_oneof![2 => (id(), count()).prop_map(|(id, count)| Aim::Anywhere(id, count)), 6 => row]
}

impl Aim {
    /// The ids outside, given the rows of a file.
    fn outside(&self, rows: &[(u32, u32)]) -> (u32, u32) {
        match *self {
            Self::Anywhere(start, count) => (start, count),
            Self::AtRow { index, offset, count, beyond } => {
                let (start, size) = rows.get(index % rows.len().max(1)).copied().unwrap_or((100_000, 1));
                let offset = offset.min(size.saturating_sub(1));
                let rest = size - offset;
                (start.wrapping_add(offset), if beyond { rest.saturating_add(count) } else { count.min(rest) })
            }
        }
    }
}

/// The rows of a file that may be this caller's.
fn rows_for(text: &str, caller: (u32, u32)) -> Vec<(u32, u32)> {
    let owners: &[&str] = match caller.0 {
        12345 => &["ann", "12345", "alias"],
        12346 => &["bob", "12346"],
        12347 => &["12345", "12347"],
        _ => &["12348"],
    };
    let row = |line: &str| {
        let (owner, numbers) = line.split_once(':')?;
        let (start, count) = numbers.split_once(':')?;
        let parsed = (start.parse().ok()?, count.parse().ok().filter(|&count| count > 0)?);
        owners.contains(&owner).then_some(parsed)
    };
    text.lines().filter_map(row).collect()
}

fn case() -> impl Strategy<Value = Case> {
    let map = (proptest::collection::vec((0..40_u32, aim()), 1..4), any::<bool>());
    let own = (prop_oneof![3 => Just(12345_u32), 1 => id()], prop_oneof![Just(0), id()]);
    let caller = prop_oneof![6 => Just(CALLERS[0]), 4 => proptest::sample::select(CALLERS.to_vec())];
    let files = (file(), file(), any::<bool>(), any::<bool>());
    (files, caller, 0..12_u8, proptest::collection::vec(map, 5), own).prop_map(
        |((subuid, subgid, same, any_group), caller, privs, maps, (outside, inside))| {
            let subgid = if same { subuid.clone() } else { subgid };
            let rows = rows_for(subuid.as_deref().unwrap_or_default(), caller);
            let mut maps: Vec<Vec<Triple>> = maps
                .iter()
                .map(|(extents, as_they_come)| {
                    let mut next = 0;
                    let place = |(inside, aim): &(u32, Aim)| {
                        let (outside, count) = aim.outside(&rows);
                        // Mostly apart inside, so that the rows decide.
                        let inside = if *as_they_come && extents.len() == 2 { *inside } else { next };
                        next = next.saturating_add(count);
                        (inside, outside, count)
                    };
                    extents.iter().map(place).collect()
                })
                .collect();
            maps.push(vec![(inside, outside, 1)]);
            Case { subuid, subgid, any_group, caller, no_new_privs: privs == 0, maps }
        },
    )
}

/// A process in a new user namespace that waits for its standard input to end.
struct Waiting(Child);

impl Waiting {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        let child = command.args(["--user", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut this = Self(child.expect("unshare"));
        // It answers from cat on, and cat is in the namespace.
        this.0.stdin.as_mut().expect("a pipe").write_all(b"x").expect("write");
        this.0.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("read");
        this
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Whether the program writes the map, and what it says otherwise.
fn real(kind: IdKind, child: &Waiting, raw: &[Triple]) -> (bool, String) {
    let mut command = Command::new(format!("/usr/bin/{}", kind.program()));
    command.arg(child.0.id().to_string());
    for (inside, outside, count) in raw {
        command.args([inside, outside, count].map(u32::to_string));
    }
    let output = command.stdin(Stdio::null()).output().expect("the program");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn build(raw: &[Triple]) -> crate::Result<IdMap> {
    let extents: crate::Result<Vec<Extent>> = raw.iter().map(|&(a, b, c)| Extent::new(a, b, c)).collect();
    IdMap::new(extents?)
}

/// Ours: from the raw numbers on, as a caller of the library would come to it.
fn ours(kind: IdKind, raw: &[Triple], caller: &Caller, subids: &SubIds) -> crate::Result<()> {
    let map = build(raw)?;
    verify::verdict(&[kind], &IdMaps::new(map.clone(), map), caller, subids)
}

/// Runs the cases; `agree` judges each pair of verdicts, and the number of each is returned: both yes, both no, others.
fn run(cases: &[Case], agree: impl Fn(bool, bool) -> bool) -> [usize; 3] {
    let tally = TempDir::new();
    fs::set_permissions(tally.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
    let tally = tally.path();
    for (index, case) in cases.iter().enumerate() {
        let defs = if case.any_group { "GRANT_AUX_GROUP_SUBIDS yes\n" } else { "" };
        let mut files = vec![("passwd", PASSWD), ("login.defs", defs)];
        files.extend(case.subuid.as_deref().map(|text| ("subuid", text)));
        files.extend(case.subgid.as_deref().map(|text| ("subgid", text)));
        let _etc = Etc::with(&files);
        let (uid, gid) = case.caller;
        as_user(uid, gid, &[], || {
            if case.no_new_privs {
                set_no_new_privs();
            }
            let caller = Caller::current().expect("caller");
            let subids = SubIds::of(&caller).expect("subids");
            let mut marks = String::new();
            for raw in &case.maps {
                let child = Waiting::new();
                for kind in IdKind::BOTH {
                    let (theirs, said) = real(kind, &child, raw);
                    let verdict = ours(kind, raw, &caller, &subids);
                    let mut shown = String::new();
                    let _ = write!(shown, "{} {raw:?} by {uid}:{gid}\n{case:#?}\nsaid: {said}\n", kind.program());
                    assert!(agree(verdict.is_ok(), theirs), "real: {theirs}, ours: {verdict:?}\n{shown}");
                    if let Err(error) = verdict {
                        assert_eq!(error.kind(), crate::ErrorKind::Invalid, "{error:?}");
                    }
                    let verdict = ours(kind, raw, &caller, &subids).is_ok();
                    marks.push(if verdict != theirs {
                        '?'
                    } else if theirs {
                        'y'
                    } else {
                        'n'
                    });
                }
            }
            fs::write(tally.join(index.to_string()), marks).expect("tally");
        });
    }
    let marks: String =
        (0..cases.len()).map(|n| fs::read_to_string(tally.join(n.to_string())).expect("tally")).collect();
    ['y', 'n', '?'].map(|mark| marks.matches(mark).count())
}

fn generate(count: usize) -> Vec<Case> {
    let mut runner = TestRunner::default();
    (0..count).map(|_| case().new_tree(&mut runner).expect("a case").current()).collect()
}

#[test]
fn it_is_that_of_the_real_programs_case_by_case() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(limit_secs = 600, || {
        // Twelve verdicts each.
        let cases = generate(if std::env::var_os("CELLKIT_VM").is_some() { 20 } else { 80 });
        let [both_yes, both_no, others] = run(&cases, |ours, theirs| ours == theirs);
        assert_eq!(others, 0);
        let all = cases.len() * 12;
        assert_eq!(both_yes + both_no, all);
        assert!(both_yes * 12 > all && both_no * 12 > all, "both verdicts are tried: {both_yes} yes, {both_no} no");
    });
}

#[test]
fn odd_rows_never_make_us_say_yes_where_the_programs_say_no() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(limit_secs = 600, || {
        let odd = [
            "ann:0:0\n",
            "ann:0100000:10\n",
            "ann:0x186a0:10\n",
            "ann:100000:010\n",
            "ann:-4294867296:10\n",
            "ann:100000:-1\n",
            "ann: 100000:10\n",
            "ann:+100000:+10\n",
            "ann:100000:10:7\n",
            "ann:100000:10:\n",
            "ann:0:4294967296\n",
            "ann:0:18446744073709551615\n",
            "ann:4294967290:7\n",
            "ann:100000:10\n\0\n",
            "ann\0:100000:10\nann:100010:10\n",
            "ann:100000:1\0\n0\n",
            "012345:100000:10\n",
            "0x3039:100000:10\n",
        ];
        let maps = [(0, 100_000, 1), (0, 100_000, 8), (0, 100_000, 10), (0, 100_005, 10), (0, 0, 1), (0, EDGE - 3, 2)];
        let cases = odd.map(|text| Case {
            subuid: Some(text.into()),
            subgid: Some(text.into()),
            any_group: false,
            caller: CALLERS[0],
            no_new_privs: false,
            maps: maps.iter().map(|&one| vec![one]).collect(),
        });
        let [_, both_no, _] = run(&cases, |ours, theirs| theirs || !ours);
        assert!(both_no > 0);
    });
}
