//! `cellrun`: the command.
#![forbid(unsafe_code)]

use cellrun::cli::{Cli, Verb};
use cellrun::exit;
use clap::Parser;
use clap::error::ErrorKind;
use std::io::Write;

/// How many reasons are worth reading; the surest come first.
const REASONS: usize = 3;

fn main() {
    let status = match Cli::try_parse() {
        Ok(cli) => sealed(&cli).and_then(|()| cellrun::run(cli)).unwrap_or_else(|error| {
            let _ = writeln!(std::io::stderr(), "cellrun: {error:#}");
            // What the error cannot know: how this machine looks.
            for cause in mountkit::explain(&error).evident().take(REASONS) {
                let _ = writeln!(std::io::stderr(), "  why: {cause}");
            }
            exit::status_of(&error)
        }),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let _ = write!(std::io::stdout(), "{error}");
            0
        }
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "cellrun: {}\n  hint: cellrun --help and cellrun box --help list the options",
                in_one_line(&error)
            );
            exit::NOT_STARTED
        }
    };
    std::process::exit(status);
}

/// The root of a container can reach the program that it is started from, by `/proc/PID/exe`: what it then has is nothing
/// that could be changed.
fn sealed(cli: &Cli) -> cellkit_core::Result<()> {
    match &cli.command {
        Verb::Box(args) if !args.explain => ns_core::seal_this_program().map(drop),
        _ => Ok(()),
    }
}

/// clap's own report is a page: what is wrong stands in its first paragraph, what is missing on lines of its own.
fn in_one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a subcommand is missing".into();
    }
    let text = error.to_string();
    let paragraph = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    paragraph.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str]) -> String {
        in_one_line(&Cli::try_parse_from(["cellrun"].iter().chain(args)).expect_err("wrong"))
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        assert_eq!(line(&[]), "a subcommand is missing");
        assert_eq!(line(&["box", "--nosuch"]), "unexpected argument '--nosuch' found");
        let missing = "the following required arguments were not provided: --rootfs <DIR>";
        assert_eq!(line(&["box", "--writable"]), missing);
        assert!(line(&["box", "--memory"]).contains("--memory <BYTES>"));
    }
}
