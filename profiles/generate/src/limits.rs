//! How much of an image is looked at.

/// Bounds. An image that exceeds one gets the baseline, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Paths looked up.
    pub files_max: u64,
    /// Names of listed directories that are gone over, each time.
    pub names_max: u64,
    /// Longest file that is read.
    pub file_bytes_max: u64,
    /// Bytes read, of all files.
    pub bytes_max: u64,
    /// Programs and libraries in a closure.
    pub members_max: usize,
    /// Instructions looked at, of all files.
    pub instructions_max: u64,
    /// Pairs of function and constant arguments that linking visits.
    pub visits_max: usize,
}

impl Limits {
    /// What the images of everyday take, several times over.
    #[must_use]
    pub fn everyday() -> Self {
        Self {
            files_max: 400_000,
            names_max: 16_000_000,
            file_bytes_max: 512 << 20,
            bytes_max: 2 << 30,
            members_max: 2_000,
            instructions_max: 2_000_000_000,
            visits_max: 20_000_000,
        }
    }
}
