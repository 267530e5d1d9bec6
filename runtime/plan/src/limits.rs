//! How much a request may bring. Each limit is far above what containerd sends and far below what hurts.

use bulkhead_model::{Refusal, Rule};

/// Most mounts of one container. A busy Kubernetes pod has about 20.
pub(crate) const MOUNTS_MAX: usize = 128;

/// Longest path of any kind, in bytes.
///
/// Source: `PATH_MAX`, include/uapi/linux/limits.h, with its NUL.
pub(crate) const PATH_BYTES_MAX: usize = 4095;

/// Longest single argument or environment entry, in bytes.
///
/// Source: `MAX_ARG_STRLEN`, include/uapi/linux/binfmts.h: 32 pages of 4096 bytes, with the NUL.
pub(crate) const STRING_BYTES_MAX: usize = 131_071;

/// Longest argv and environment together, in bytes: what execve takes with a stack limit of 8 MiB.
///
/// Source: execve(2), "Limits on size of arguments and environment".
pub(crate) const COMMAND_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most arguments, and most environment entries. Kubernetes adds about seven per service of a namespace.
pub(crate) const STRINGS_MAX: usize = 32_768;

/// Most annotations.
pub(crate) const ANNOTATIONS_MAX: usize = 1024;

/// Longest annotations together, in bytes. Kubernetes allows 256 KiB per pod; containerd adds its own.
pub(crate) const ANNOTATION_BYTES_MAX: usize = 512 * 1024;

/// Most additional groups.
///
/// Source: `NGROUPS_MAX`, include/uapi/linux/limits.h, is 65536; nobody needs that many.
pub(crate) const GROUPS_MAX: usize = 1024;

/// Most masked, and most read-only paths.
pub(crate) const MASKS_MAX: usize = 256;

/// Longest host name, in bytes.
///
/// Source: `__NEW_UTS_LEN`, include/uapi/linux/utsname.h.
pub(crate) const HOSTNAME_BYTES_MAX: usize = 64;

/// Refuses more than `most` of `unit` in `field`.
pub(crate) fn at_most(field: &str, count: usize, most: usize, unit: &str) -> Result<(), Refusal> {
    if count <= most {
        return Ok(());
    }
    Err(Refusal::new(
        Rule::Spec,
        format!("{field} has {count} {unit}"),
        format!("at most {most} are accepted"),
        format!("shorten {field}"),
    ))
}

/// Refuses a NUL byte, which would cut the text where the kernel reads it.
pub(crate) fn no_nul(field: &str, text: &str) -> Result<(), Refusal> {
    if !text.contains('\0') {
        return Ok(());
    }
    Err(Refusal::new(
        Rule::Spec,
        format!("{field} contains a NUL byte"),
        "the kernel would read it only up to there",
        format!("take the NUL byte out of {field}"),
    ))
}
