//! docs/numbers.md and its plot, written by the run whose numbers they show: text and table cannot drift apart.

use std::fs;

use bulkhead_integration::{HarnessError, machine, workspace};

use crate::{
    names::PARTS,
    plot,
    row::{Findings, Row},
    table::number,
    targets,
};

/// What the rows mean, which no number says by itself.
const HOW: &str = "\
Every measurement takes all runtimes in turn on one private containerd, and begins with another one in each round. What
counts is the **ratio of pairs** that were taken one right after the other: median, and the 95 % bootstrap interval of
that median. The times themselves are this machine's on that day. Bulkhead runs with every gate on (policy, verdict,
hardened plan, seccomp, Landlock, a look at the process before execve); the peers run as `ctr` starts them, without any
filter, but for the cost of system calls, where they have containerd's default profile.

- **start, exec**: whole `ctr` commands, client and daemon included.
- **kill-to-event, delete**: calls of containerd's API; an event counts when a subscriber has it.
- **own-part**: the bench takes containerd's place. From the exec of the shim's `start` over Create, Wait, Start, the
  container's end, Delete, to the answer to Shutdown, in wall time; less the time in which a request to containerd's API
  was unanswered (a proxy between shim and containerd counts it; runc's shim asks nothing there). Events go to the real
  containerd, which nobody waits for. **own-cpu** is the processor time of all processes that the shim started, itself
  included, read when the last of them was reaped: it does not depend on who else uses the machine. **create** is the
  Create call in it.
- **kernel-floor**: [floor.c](../integration/benches/floor/floor.c), static, makes the kernel calls of the Plan that
  Bulkhead's own gates make of the same request, and no other: control groups, namespaces, mounts, devices, masks, ids,
  bounding set, Landlock rules, seccomp program, execve, removal. On cgroup v2 it leaves out the device program.
- **gates-warm**: a Create that the last gate refuses, so that everything before the launch is done and nothing after it;
  beside the whole Create of the same container. **gates-warm-own** is the same less waits on containerd. Beside
  **digest-only** it is what the record says of the gates of whole launches: a signature, receipts and a digest, all known
  by then, against a policy that lists the digest alone.
- **starts-per-second-N**: `ctr run --rm … true` by N clients at once.
- **pss-N**: proportional set size of all shim processes (for Bulkhead server and zygote; for gVisor its sandbox, which
  holds the container's memory as well) with N containers that have a shim each; **pss-pod-N**: with N containers in one
  CRI pod beside its pause container. **idle-cpu**: their processor time over five seconds in which nobody asks for
  anything.
- **stdio-throughput**: 256 MiB of zeros, from the container's standard output to a reader of the FIFO.
- **syscall-getppid, syscall-open-close**: in the container, the quickest of fifteen batches; `no-filter` is runc without a
  profile, `runc`, `crun` and `runsc` have containerd's default profile.

gVisor runs with `--ignore-cgroups --network=none --platform=systrap` behind runc's shim, by way of a shell script that
adds these options (about a millisecond for each call). The bench's containerd sees no unified hierarchy on a hybrid host,
for all runtimes alike: crun refuses to run beside one.
";

/// Writes both.
pub(crate) fn write(findings: &Findings) -> Result<(), HarnessError> {
    for (name, text) in [("numbers.md", page(findings)), ("numbers.svg", plot::of(findings))] {
        let path = workspace().join("docs").join(name);
        fs::write(&path, text).map_err(HarnessError::at("write", &path))?;
    }
    Ok(())
}

fn page(findings: &Findings) -> String {
    let machine = machine();
    let word = |key: &str| machine[key].as_str().map_or_else(|| machine[key].to_string(), str::to_owned);
    let mut page = format!(
        "# Numbers\n\nWritten by `make bench`; `RUNS=30 make bench` measures longer. The same rows for machines: \
         `target/reports/bench.json`.\n\n![Ratios of Bulkhead to its peers](numbers.svg)\n\n\
         Taken on {}, {} cores, kernel {}, cgroup {}, load {} at the end.\n\n",
        word("processor"),
        word("cores"),
        word("kernel"),
        word("cgroup"),
        word("load")
    );
    for (name, version) in &findings.versions.0 {
        page += &format!("- {name}: {version}\n");
    }
    page += "\n## To reach\n\n| target | found | |\n|---|---|---|\n";
    page += &targets::rows(findings);
    for part in PARTS {
        let rows: Vec<&Row> = findings.rows.iter().filter(|row| part.has(&row.name)).collect();
        if rows.is_empty() {
            continue;
        }
        page += &format!("\n## {}\n\n", part.about);
        page += "| row | baseline | Bulkhead | baseline's | unit | ratio | 95 % interval | pairs |\n";
        page += "|---|---|---|---|---|---|---|---|\n";
        page.extend(rows.into_iter().map(line));
    }
    if !findings.absent.is_empty() {
        page += "\n## Not measured\n\n";
        page.extend(findings.absent.iter().map(|absent| format!("- {}: `{}`\n", absent.what, absent.why)));
    }
    page + "\n## How\n\n" + HOW
}

fn line(row: &Row) -> String {
    let compared = row.compared;
    format!(
        "| {} | {} | {} | {} | {} | {:.2} | {:.2} – {:.2} | {} |\n",
        row.name,
        row.baseline,
        number(compared.subject_median),
        number(compared.baseline_median),
        row.unit,
        compared.ratio,
        compared.ratio_low,
        compared.ratio_high,
        compared.runs
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bulkhead_integration::Compared;

    use super::*;

    #[test]
    fn the_page_holds_every_row_and_every_reason() {
        let compared = Compared::of(&[(50.0, 100.0)]).unwrap();
        let names = ["start", "kill-to-event", "own-cpu", "gates-warm-own", "pss-pod-20", "syscall-getppid"];
        let row = |name: &&str| Row { name: (*name).to_owned(), baseline: "runc", unit: "ms", compared };
        let mut findings = Findings { rows: names.iter().map(row).collect(), ..Findings::default() };
        findings.lacks("crun", &"no such package");
        let page = page(&findings);
        for name in names {
            assert!(
                page.contains(&format!("| {name} | runc | 50.0 | 100 | ms | 0.50 |")),
                "{name} in {page}"
            );
        }
        assert!(page.contains("- crun: `no such package`"));
    }
}
