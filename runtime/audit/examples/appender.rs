//! Appends lines to the record below a directory and says of each on stdout that it is there: for `tests/writers.rs`.

use std::io::Write as _;

use bulkhead_audit::{Call, Line, Outcome, TimingsUs, append};
use bulkhead_model::Layout;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, name, lines, padding] = arguments.as_slice() else {
        return Err("appender ROOT NAME LINES PADDING".into());
    };
    let layout = Layout::below(root);
    let tenant = "x".repeat(padding.parse()?);
    for number in 0..lines.parse::<u32>()? {
        let container = format!("{name}-{number}");
        append(
            &layout,
            &Line {
                verdict: Outcome::Allow,
                call: Call::Create,
                container: &container,
                exec: None,
                namespace: "test",
                tenant: &tenant,
                image: None,
                volumes: &[],
                scope: None,
                signed_by: &[],
                refusal: None,
                policy: None,
                judges: 0,
                timings_us: TimingsUs::default(),
            },
        )?;
        writeln!(std::io::stdout(), "{container}")?;
    }
    Ok(())
}
