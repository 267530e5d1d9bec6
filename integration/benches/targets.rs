//! What is to be reached, and whether this run reached it: said, never enforced. A shared machine is no judge.

use crate::{floor::FLOOR, row::Findings};

/// A target.
struct Target {
    what: &'static str,
    /// What was found, to be at most `at_most`; `None` where it was not measured.
    found: fn(&Findings) -> Option<f64>,
    at_most: f64,
}

const TARGETS: [Target; 19] = [
    Target { what: "start / runc", found: |f| ratio(f, "start", "runc"), at_most: 0.60 },
    Target { what: "start / crun", found: |f| ratio(f, "start", "crun"), at_most: 0.99 },
    Target { what: "exec / runc", found: |f| ratio(f, "exec", "runc"), at_most: 0.80 },
    Target { what: "own part / runc", found: |f| ratio(f, "own-part", "runc"), at_most: 0.35 },
    Target { what: "own part / kernel floor", found: |f| ratio(f, "own-part", FLOOR), at_most: 3.0 },
    Target {
        what: "all gates, warm - digest only, ms",
        found: |f| added(f, "gates-warm", "digest-only"),
        at_most: 3.0,
    },
    Target {
        what: "a signature judged, cold - warm, ms",
        found: |f| added(f, "gates-cold-keyed", "warm"),
        at_most: 15.0,
    },
    Target {
        what: "first look at layers / sha256sum on all cores",
        found: |f| ratio(f, "contents-first-look", "sha256sum"),
        at_most: 1.5,
    },
    Target {
        what: "walk of layers / find -printf",
        found: |f| ratio(f, "contents-receipt-walk", "find"),
        at_most: 1.5,
    },
    Target {
        what: "start with shifted ids - without, ms",
        found: |f| added(f, "policy-shifted", "without"),
        at_most: 5.0,
    },
    Target {
        what: "PSS of each of 20 pods, MB",
        found: |f| Some(subject(f, "pss-20")? / 20.0),
        at_most: 2.0,
    },
    Target {
        what: "PSS of a further container of a pod, MB",
        found: |f| Some((subject(f, "pss-pod-20")? - subject(f, "pss-pod-1")?) / 19.0),
        at_most: 0.4,
    },
    Target {
        what: "getppid under a profile / runc with containerd's default",
        found: |f| ratio(f, "profile-getppid", "runc"),
        at_most: 1.0,
    },
    Target {
        what: "open and close under a profile / the same",
        found: |f| ratio(f, "profile-open-close", "runc"),
        at_most: 1.0,
    },
    Target {
        what: "nginx under its profile, lost beside no filter, %",
        found: |f| lost(f, "served-nginx"),
        at_most: 1.0,
    },
    Target {
        what: "redis under its profile, lost beside no filter, %",
        found: |f| lost(f, "served-redis"),
        at_most: 1.0,
    },
    Target {
        what: "gates with a stored profile - without, ms",
        found: |f| added(f, "profile-stored", "without"),
        at_most: 5.0,
    },
    Target {
        what: "a profile of nginx, cold, processor s for 100 MB of ELF",
        found: |f| subject(f, "profile-cold-nginx"),
        at_most: 2.0,
    },
    Target {
        what: "a profile of redis, cold, processor s for 100 MB of ELF",
        found: |f| subject(f, "profile-cold-redis"),
        at_most: 2.0,
    },
];

/// Percents of the baseline's requests.
fn lost(findings: &Findings, name: &str) -> Option<f64> {
    Some((1.0 - ratio(findings, name, "no-filter")?) * 100.0)
}

/// What the subject has above the baseline, in the row's unit.
fn added(findings: &Findings, name: &str, baseline: &str) -> Option<f64> {
    let compared = findings.row(name, baseline)?.compared;
    Some(compared.subject_median - compared.baseline_median)
}

fn ratio(findings: &Findings, name: &str, baseline: &str) -> Option<f64> {
    Some(findings.row(name, baseline)?.compared.ratio)
}

fn subject(findings: &Findings, name: &str) -> Option<f64> {
    Some(findings.rows.iter().find(|row| row.name == name)?.compared.subject_median)
}

impl Target {
    /// What was found, and what that means.
    fn said(&self, findings: &Findings) -> (String, &'static str) {
        match (self.found)(findings) {
            None => ("–".to_owned(), "not measured"),
            Some(found) if found <= self.at_most => (format!("{found:.2}"), "reached"),
            Some(found) => (format!("{found:.2}"), "not reached"),
        }
    }
}

/// A line for each target, for the terminal.
pub(crate) fn of(findings: &Findings) -> String {
    let line = |target: &Target| {
        let (found, verdict) = target.said(findings);
        format!("target: {:<40} at most {:.2}: {found:>5} {verdict}\n", target.what, target.at_most)
    };
    TARGETS.iter().map(line).collect()
}

/// The same as rows of a Markdown table.
pub(crate) fn rows(findings: &Findings) -> String {
    let line = |target: &Target| {
        let (found, verdict) = target.said(findings);
        format!("| {}: at most {:.2} | {found} | {verdict} |\n", target.what, target.at_most)
    };
    TARGETS.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bulkhead_integration::Compared;

    use super::*;
    use crate::row::Row;

    #[test]
    fn a_target_is_reached_not_reached_or_not_measured() {
        let row = |name: &str, subject: f64| Row {
            name: name.to_owned(),
            baseline: "runc",
            unit: "ms",
            compared: Compared::of(&[(subject, 100.0)]).unwrap(),
        };
        let findings = Findings { rows: vec![row("start", 55.0), row("exec", 90.0)], ..Findings::default() };
        let said = of(&findings);
        let line = |what: &str| said.lines().find(|line| line.contains(what)).unwrap();
        assert!(line("start / runc").ends_with("at most 0.60:  0.55 reached"));
        assert!(line("exec / runc").ends_with("at most 0.80:  0.90 not reached"));
        assert!(line("kernel floor").ends_with("not measured"));
        assert!(rows(&findings).contains("| start / runc: at most 0.60 | 0.55 | reached |"));
    }
}
