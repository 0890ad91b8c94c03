use std::process::Command;

use super::{example, stdout};

/// The row about `what`, and the line below it if that says what to do.
fn row(table: &str, what: &str) -> String {
    let mut lines =
        table.lines().skip_while(|line| !line.get(7..).is_some_and(|row| row.starts_with(&format!("{what}  "))));
    let row = lines.next().unwrap_or_else(|| panic!("no {what} in\n{table}"));
    let fix = lines.next().filter(|line| line.trim_start().starts_with('→')).unwrap_or_default();
    format!("{} {}", row.split_whitespace().collect::<Vec<_>>().join(" "), fix.trim())
}

mod root {
    use super::*;

    #[test]
    fn limits_of_an_outer_namespace_and_how_deep_it_is() {
        faultkit::require!(root, program("unshare"));
        faultkit::isolated!(|| {
            let probe = faultkit::built_example("probe");
            let script = "echo 0 > /proc/sys/user/max_uts_namespaces; exec \"$0\"";
            let said =
                stdout(Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", script]).arg(&probe));
            let expected = "NO uts namespace clone3 new namespaces CLONE_NEWUTS: no space left on device (ENOSPC) \
                            → none are allowed here: as root, sysctl -w user.max_uts_namespaces=10000";
            assert_eq!(row(&said, "uts namespace"), expected);
            let expected =
                "NO user.max_uts_namespaces 0 → none can be made: as root, sysctl -w user.max_uts_namespaces=10000";
            assert_eq!(row(&said, "user.max_uts_namespaces"), expected);
            assert_eq!(row(&said, "ipc namespace"), "yes ipc namespace tried ");
            assert!(
                row(&said, "initial user namespace")
                    .starts_with("initial user namespace the caller is in another one, user:[")
            );

            let deep = |table: &str| {
                let row = row(table, "user namespaces, nested");
                row.split_whitespace().find_map(|word| word.parse::<u32>().ok()).unwrap_or_else(|| panic!("{row}"))
            };
            assert_eq!(deep(&said) + 1, deep(&stdout(&mut example("probe"))));
        });
    }

    #[test]
    fn an_ordinary_user_is_told_what_root_could() {
        faultkit::require!(root, program("unshare"));
        faultkit::isolated!(|| {
            let user = faultkit::ordinary_user();
            let program = user.copy_of(faultkit::built_example("probe"));
            let said = stdout(&mut user.command(&program));
            let expected = "NO net namespace clone3 new namespaces CLONE_NEWNET: operation not permitted (EPERM) \
                            → run as root (it needs CAP_SYS_ADMIN), or make it together with a user namespace";
            assert_eq!(row(&said, "net namespace"), expected);
            assert_eq!(row(&said, "capabilities"), "capabilities none ");
            // What it says about user namespaces is what unshare(1) meets.
            let tried =
                user.command("unshare").args(["--user", "--map-root-user", "--net", "true"]).status().expect("unshare");
            assert_eq!(row(&said, "net with user namespace").starts_with("yes"), tried.success(), "{said}");
        });
    }
}
