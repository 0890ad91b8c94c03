//! `getsubids USER`: the ids that a user may give to containers, and what is missing for an ordinary image.
//!
//! As anybody: `cargo run --example subid_ranges -- [USER] [LAST_ID]`
use idmap::{Caller, MapPlan, Result, SubIdTable, SubIds, User, WantedIds};

/// Most images have no id above this; 65534 is nobody.
const LAST_ID: u32 = 65_535;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let caller = Caller::current()?;
    let user = match args.next() {
        Some(name) => User::find(&name)?,
        None => caller.user().clone(),
    };
    let last = args.next().map_or(Ok(LAST_ID), |text| text.parse()).unwrap_or_else(|_| {
        eprintln!("usage: subid_ranges [USER] [LAST_ID]");
        std::process::exit(2)
    });

    let subids = SubIds::of(&user)?;
    let name = user.name().unwrap_or("no name");
    println!("{name}, uid {}, by {}", user.uid(), subids.service().unwrap_or("/etc/subuid and /etc/subgid"));
    for (kind, ranges) in [("uids", subids.uids()), ("gids", subids.gids())] {
        for range in ranges {
            println!("  {kind} {range}");
        }
    }

    // What belongs to another as well is no boundary between the two.
    for conflict in SubIdTable::read()?.conflicts() {
        println!("  beware: {conflict}");
    }

    // Ids 0 to LAST_ID inside: which are they outside, or what has to be added?
    match MapPlan::wanting(&WantedIds::new().ids(0..=last), &caller, &subids) {
        Ok(plan) => {
            println!("0 to {last} inside: {:?}", plan.way());
            for extent in plan.maps().uid.extents() {
                println!("  uid {} is {} outside, and so on: {}", extent.inside(), extent.outside(), extent.count());
            }
        }
        Err(error) => {
            println!("0 to {last} inside: {error}");
            println!("  {}", error.hint().unwrap_or("see subuid(5)"));
            std::process::exit(1)
        }
    }
    Ok(())
}
