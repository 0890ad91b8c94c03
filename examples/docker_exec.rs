//! `docker exec CONTAINER COMMAND…`, or `nsenter --all --target PID COMMAND…`: a command in a running container, which is
//! named by the number of a process in it. The container is not trusted: nobody in it can trace the command before it
//! runs, find a descriptor of the outside in it, or change this program.
//!
//! As root: `cargo run --example docker_exec -- 1234 ps`
use ns_core::{Capabilities, Command, Namespaces, Process, Result, seal_this_program};

fn main() -> Result<()> {
    seal_this_program()?; // whoever is root in there could overwrite it through /proc/PID/exe
    let mut args = std::env::args_os().skip(1);
    let pid = args.next().and_then(|text| text.to_str()?.parse().ok());
    let (Some(pid), Some(program)) = (pid, args.next()) else {
        eprintln!("usage: docker_exec PID COMMAND [ARGUMENT]...");
        std::process::exit(2)
    };
    let container = Process::open(pid)?; // from here on the number does not matter
    let mut child = Command::new(program)
        .args(args)
        .join_process(&container, Namespaces::all())
        .capabilities(Capabilities::of_process(&container)?.bounding)
        .kill_with_parent()
        .spawn()?;
    std::process::exit(child.wait()?.shell_code())
}
