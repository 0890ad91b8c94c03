//! `cellrun`: the command.
#![forbid(unsafe_code)]

use cellrun::{cli::Cli, exit};
use clap::Parser;
use clap::error::ErrorKind;

fn main() {
    let status = match Cli::try_parse() {
        Ok(cli) => cellrun::run(cli).unwrap_or_else(|error| {
            eprintln!("cellrun: {error:#}");
            exit::status_of(&error)
        }),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            print!("{error}");
            0
        }
        Err(error) => {
            // clap's own report is a page; its first line says it.
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            eprintln!(
                "cellrun: {}\n  hint: cellrun --help and cellrun box --help list the options",
                line.trim_start_matches("error: ")
            );
            exit::NOT_STARTED
        }
    };
    std::process::exit(status);
}
