//! The table in the terminal.

use crate::row::Findings;

/// All rows, and what is not there.
pub(crate) fn of(findings: &Findings) -> String {
    let mut text = format!(
        "{:<22} {:<13} {:>10} {:>10} {:<7} {:>6}   {:<14} {:>5}\n",
        "", "baseline", "Bulkhead", "baseline's", "", "ratio", "95 % interval", "pairs"
    );
    for row in &findings.rows {
        let compared = row.compared;
        text += &format!(
            "{:<22} {:<13} {:>10} {:>10} {:<7} {:>6.2}   {:<14} {:>5}\n",
            row.name,
            row.baseline,
            number(compared.subject_median),
            number(compared.baseline_median),
            row.unit,
            compared.ratio,
            format!("{:.2} to {:.2}", compared.ratio_low, compared.ratio_high),
            compared.runs
        );
    }
    for absent in &findings.absent {
        text += &format!("not measured: {}: {}\n", absent.what, absent.why);
    }
    text
}

/// Three figures that count.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        big if big >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_figures() {
        assert_eq!([1.234, 12.34, 123.4, 0.0].map(number), ["1.23", "12.3", "123", "0.00"]);
    }
}
