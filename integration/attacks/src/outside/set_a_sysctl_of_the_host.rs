//! A sysctl that no namespace holds.
//!
//! Source: Pod Security baseline; CVE-2022-0811 (cr8escape).

use bulkhead_integration::Result;
use serde_json::json;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2022-0811",
    tries: "set a sysctl of the network that pods must not set",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let output =
        spec::run(arena, column, &["/bin/cat", "/proc/sys/net/ipv4/conf/all/route_localnet"], |spec| {
            spec["linux"]["sysctl"] = json!({ "net.ipv4.conf.all.route_localnet": "1" });
        })?;
    Ok(Outcome::judged(output.stdout.trim() == "1", "net.ipv4.conf.all.route_localnet = 1", &output))
}
