//! What a hostile tenant tries, under runc and under Bulkhead: a table, taken once, and a test for each of its rows.
//!
//! ```text
//! inside/src/techniques/*.rs   tried by the attacker in a container, all of a column in one go
//! src/outside/*.rs             images, specs and requests: tried one by one, judged by what is left on the host
//!        └─► cells ─► terminal, target/reports/attacks.json, docs/attacks.md ─► a test per row
//! ```
//! A row is green when the technique bit somewhere, so that it is known to work, and Bulkhead stopped it as init and as
//! exec; what it does not stop stands in known.toml with the reason, and is red once it is stopped.

mod arena;
mod attacker;
mod column;
mod gather;
mod image;
mod known;
mod race;
mod report;
mod spec;
mod technique;
mod verdict;
mod withstand;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

include!(concat!(env!("OUT_DIR"), "/outside.rs"));

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let taken = known::Known::read().and_then(|known| Ok((known, gather::table()?)));
    let (rows, mut trials) = match taken {
        Ok((known, table)) => {
            report::print(&table);
            if let Err(error) = report::write(&table, &known) {
                eprintln!("attacks: {error}");
                return ExitCode::FAILURE;
            }
            verdict::print_skips(&table);
            (table.len(), verdict::trials(&table, &known))
        }
        // One red test that says why there is no table.
        Err(error) => (0, vec![Trial::test("the_table_is_taken", move || Err(error.to_string().into()))]),
    };
    trials.push(withstand::trial());
    println!("{rows} techniques");
    libtest_mimic::run(&arguments, trials).exit_code()
}
