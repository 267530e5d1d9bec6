//! The judge alone, as `bulkhead judge` runs it: what this crate's tests start.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    bulkhead_trust::judge_main(&[])
}
