//! What a kernel's Landlock lacks of what Bulkhead uses.
//!
//! Where policy asks for one of these by name, an older kernel is refused; the rest is listed here and in docs/profiles.md.
//! Which of the image's files may be executed and read needs ABI 1 alone.

use crate::{Finding, Standing};

/// ABI, the first Linux that has it, and what is lost below it.
///
/// Source: landlock(7), "Landlock ABI versions".
const SINCE: [(u8, &str, &str); 5] = [
    (2, "5.19", "moving files between directories of a mount (always denied)"),
    (3, "6.2", "limits on truncate(2) (modes and read-only mounts hold)"),
    (4, "6.7", "tcp_bind and tcp_connect (refused)"),
    (5, "6.10", "limits on ioctl(2) of devices"),
    (6, "6.12", "scope (refused)"),
];

/// What a kernel of this ABI does without.
pub(crate) fn finding(abi: &Result<u8, String>) -> Finding {
    let abi = abi.as_ref().copied().unwrap_or_default();
    let lost: Vec<String> = SINCE
        .iter()
        .filter(|(since, _, _)| abi < *since)
        .map(|(since, linux, what)| format!("{what}: ABI {since}, Linux {linux}"))
        .collect();
    let (found, standing) = match lost.is_empty() {
        true => ("all that is used".to_owned(), Standing::Good),
        false => (format!("without {}", lost.join("; ")), Standing::Optional),
    };
    Finding::new("landlock's rules", found, "ABI 6 for all", standing, "boot Linux 6.12 or newer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_kernel_lacks_more_and_each_by_its_name() {
        let found = |abi| finding(&Ok(abi)).found;
        assert_eq!(found(6), "all that is used");
        assert_eq!(found(7), "all that is used");
        assert_eq!(found(5), "without scope (refused): ABI 6, Linux 6.12");
        for (abi, lines) in [(4, 2), (3, 3), (2, 4), (1, 5)] {
            assert_eq!(found(abi).split("; ").count(), lines, "{}", found(abi));
        }
        assert_eq!(finding(&Err("EOPNOTSUPP".to_owned())).standing, Standing::Optional);
    }
}
