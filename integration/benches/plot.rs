//! The plot: one bar for each comparison, its length the ratio, with its interval. Hand-written SVG: no library draws
//! so little in fewer lines, and one file serves light and dark readers.

use crate::row::{Findings, Row};

/// Rows that are drawn, in this order: times and memory, where less is better.
const DRAWN: [&str; 10] = [
    "start",
    "exec",
    "kill-to-event",
    "delete",
    "own-part",
    "own-cpu",
    "create",
    "pss-1",
    "pss-20",
    "pss-pod-20",
];

/// Peers that are drawn: the floor and gVisor are another scale.
const BESIDE: [&str; 2] = ["runc", "crun"];

const LEFT: f64 = 150.0;
const WIDTH: f64 = 720.0;
const BAR: f64 = 14.0;
const GROUP: f64 = 44.0;
const TOP: f64 = 56.0;

/// Ratios beyond this are cut off.
const RATIO_MAX: f64 = 1.6;

/// One style for both kinds of reader.
const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #24292f }
.runc { fill: #3a6ea5 } .crun { fill: #c77d2e }
.grid { stroke: #d0d7de } .one { stroke: #24292f; stroke-dasharray: 4 3 } .spread { stroke: #24292f; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .runc { fill: #79aee0 } .crun { fill: #e3a25c }
  .grid { stroke: #30363d } .one, .spread { stroke: #e6edf3 }
}";

/// The picture.
pub(crate) fn of(findings: &Findings) -> String {
    let groups: Vec<(&str, Vec<&Row>)> = DRAWN
        .iter()
        .map(|name| (*name, BESIDE.iter().filter_map(|beside| findings.row(name, beside)).collect()))
        .filter(|(_, rows): &(&str, Vec<&Row>)| !rows.is_empty())
        .collect();
    let height = TOP + groups.len() as f64 * GROUP + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Ratios of Bulkhead to its peers\">\n<style>\n{STYLE}\n</style>\n\
         <text x=\"{LEFT}\" y=\"20\">Bulkhead with every gate on, as a part of what the peer takes: less is better</text>\n"
    );
    for (number, peer) in BESIDE.iter().enumerate() {
        let x = LEFT + number as f64 * 110.0;
        svg += &format!(
            "<rect class=\"{peer}\" x=\"{x}\" y=\"30\" width=\"12\" height=\"12\"/><text x=\"{}\" y=\"41\">beside {peer}</text>\n",
            x + 18.0
        );
    }
    let bottom = height - 30.0;
    for tenths in (0..=16).step_by(2) {
        let ratio = f64::from(tenths) / 10.0;
        let class = if tenths == 10 { "one" } else { "grid" };
        svg += &format!(
            "<line class=\"{class}\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\">{ratio:.1}</text>\n",
            at(ratio),
            bottom + 18.0
        );
    }
    for (number, (name, rows)) in groups.iter().enumerate() {
        let top = TOP + number as f64 * GROUP + 6.0;
        svg += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\n",
            LEFT - 10.0,
            top + BAR + 4.0
        );
        for (place, row) in rows.iter().enumerate() {
            svg += &bar(row, top + place as f64 * (BAR + 2.0));
        }
    }
    svg + "</svg>\n"
}

fn bar(row: &Row, top: f64) -> String {
    let compared = row.compared;
    let (end, middle) = (at(compared.ratio), top + BAR / 2.0);
    let (low, high) = (at(compared.ratio_low), at(compared.ratio_high));
    format!(
        "<rect class=\"{}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\"/>\
         <line class=\"spread\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{:.2}</text>\n",
        row.baseline,
        end - LEFT,
        high.max(end) + 6.0,
        middle + 4.5,
        compared.ratio
    )
}

/// Where a ratio is.
fn at(ratio: f64) -> f64 {
    LEFT + ratio.clamp(0.0, RATIO_MAX) / RATIO_MAX * (WIDTH - LEFT - 60.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bulkhead_integration::Compared;

    use super::*;

    #[test]
    fn the_plot_has_a_bar_for_each_peer_of_a_row_and_none_for_the_floor() {
        let compared = Compared::of(&[(50.0, 100.0)]).unwrap();
        let row = |baseline| Row { name: "own-part".to_owned(), baseline, unit: "ms", compared };
        let rows = ["runc", "crun", "kernel-floor"].map(row).to_vec();
        let svg = of(&Findings { rows, ..Findings::default() });
        assert_eq!(svg.matches("class=\"spread\"").count(), 2);
        assert_eq!(svg.matches(">0.50</text>").count(), 2);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("prefers-color-scheme: dark"));
    }
}
