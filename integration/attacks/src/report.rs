//! The table in the terminal, in target/reports/attacks.json and in docs/attacks.md.

use std::fs;

use bulkhead_integration::{HarnessError, Result, workspace, write_report};
use serde_json::json;

use crate::{
    column::{Column, Phase},
    gather::{Cells, Table},
    technique::{Outcome, Row},
    verdict,
};

/// Prints it: what Bulkhead does not stop comes first, in red.
pub(crate) fn print(table: &Table) {
    let names: Vec<String> = Column::ALL.into_iter().map(|column| format!(" {:16}", column.name())).collect();
    println!("{:52}{}", "technique (as init/by exec)", names.concat());
    for (row, cells) in ordered(table) {
        let mut line = format!("{:52}", row.name);
        for column in Column::ALL {
            line += &format!(" {:16}", marks(cells, column, "BITES").join("/"));
        }
        if verdict::bites_us(cells) { println!("\x1b[31m{line}\x1b[0m") } else { println!("{line}") }
    }
}

/// Writes report and page.
pub(crate) fn write(table: &Table) -> Result<()> {
    let mut rows = Vec::new();
    for (row, cells) in ordered(table) {
        for ((column, phase), outcome) in cells {
            let (outcome, by) = match outcome {
                Outcome::Succeeded(by) => ("succeeded", by),
                Outcome::Stopped(by) => ("stopped", by),
            };
            rows.push(json!({ "technique": row.name, "source": row.source, "phase": phase.name(),
                "runtime": column.name(), "outcome": outcome, "by": by }));
        }
    }
    write_report("attacks", &rows)?;
    if std::env::var_os("BULKHEAD_WRITE_DOCS").is_some() {
        let path = workspace().join("docs/attacks.md");
        fs::write(&path, page(table)).map_err(HarnessError::at("write", &path))?;
    }
    Ok(())
}

/// What came of a row in a column, as init and by exec.
fn marks(cells: &Cells, column: Column, bites: &'static str) -> Vec<&'static str> {
    Phase::ALL
        .into_iter()
        .filter_map(|phase| cells.get(&(column, phase)))
        .map(|outcome| if matches!(outcome, Outcome::Succeeded(_)) { bites } else { "stopped" })
        .collect()
}

fn ordered(table: &Table) -> Vec<(&Row, &Cells)> {
    let mut rows: Vec<_> = table.iter().collect();
    rows.sort_by_key(|(row, cells)| (!verdict::bites_us(cells), *row));
    rows
}

fn page(table: &Table) -> String {
    let count = |what: &dyn Fn(&Cells) -> bool| table.values().filter(|cells| what(cells)).count();
    let mut text = format!(
        "# Attacks\n\nWhat a hostile tenant tries, and what came of it. Written by `make attacks`; each cell was observed.\n\
         `init/exec`: as the container's first process, and by exec into it.\n\n\
         {} techniques bite somewhere, {} of them under Bulkhead's defaults: those come first and are named in the\n\
         [threat model](threat-model.md). {} more have nothing to bite on the kernel that this was taken on, and do not count.\n\
         runsc runs without a network here, which stops what asks for one. The old runc is 1.1.11, and 1.0.0-rc6 for\n\
         *replace the runtime*, whose hole was mended before.\n\n",
        count(&verdict::bites),
        count(&verdict::bites_us),
        count(&|cells| !verdict::bites(cells)),
    );
    text += "| technique | source |";
    for column in Column::ALL {
        text += &format!(" {} |", column.name());
    }
    text += " what stopped it under Bulkhead |\n|---|---|";
    text += &"---|".repeat(Column::ALL.len() + 1);
    text.push('\n');
    for (row, cells) in ordered(table) {
        text += &format!("| **{}**: {} | {} |", row.name.replace('_', " "), row.tries, row.source);
        for column in Column::ALL {
            let marks = marks(cells, column, if column.is_ours() { "🟥 **bites**" } else { "**bites**" });
            let same = marks.windows(2).all(|pair| pair[0] == pair[1]);
            text += &format!(
                " {} |",
                if same { marks.first().copied().unwrap_or("–").to_owned() } else { marks.join("/") }
            );
        }
        text += &format!(" {} |\n", verdict::evidence(cells).replace('|', "\\|"));
    }
    text + WAY_IN
}

/// What is no row of the table: attacks whose victim is not the container but what serves it.
const WAY_IN: &str = "
## Attacks on the way in

Tests, each with a neighbour that takes an exec and a container that runs while it lasts or after it.

| what is attacked | how | suite |
|---|---|---|
| the server's socket | bytes that are no ttrpc; unknown services and methods, messages of 2 GiB, ids and bundles with `..`, a thousand connections; a user that is not root | `siege`, `hostile_calls` |
| one container, by calls that race | pause, resume, kill, exec, delete at once; execs of one name; execs while it ends | `siege`, `hostile_calls` |
| the request | specs, process JSON, bundles and annotations that are malformed or reach for the host | `bad_input`, `hostile` |
| the image | links at /dev, /proc, /sys and where mounts land, an interpreter that is the runtime | `hostile` |
| the pod's other containers, whose processes it shares | files by /proc/PID/root, environment, memory | `pods` |
| the pod's other volumes | those of another pod, links of a volume on the way to a mount, one that comes and goes meanwhile | `pods`, `hostile` |
| the node's processes and memory | a fork bomb, memory without end, SIGKILL and SIGSTOP to all that can be seen | `siege` |
| files, inodes and space | open files at the limit, a full disk, /tmp filled by bytes and by empty files | `bad_input`, the table above |
| the log | a log that nobody takes, a reader that stops, a logger that dies or never answers | `stdio`, `stdio_restart` |
| server, zygote, worker and judge | killed at each system call of create, start, exec, kill and delete | `faults` |
";
