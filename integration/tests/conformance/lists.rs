//! `integration/conformance/suites.toml`: which tests count, and which Bulkhead may lose.

use std::{collections::BTreeMap, fs};

use bulkhead_integration::{HarnessError, Result, workspace};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lists {
    /// By name of the suite.
    suite: BTreeMap<String, List>,
    /// Tests that runc passes and Bulkhead does not, each for a reason that is not Bulkhead's.
    #[serde(default)]
    exception: Vec<Exception>,
}

/// What is to be known of a suite.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    /// How many tests and parts runc has to pass, without the long ones: fewer, and the comparison sees too little.
    pub(crate) least: usize,
    /// Tests that pass without a runtime, too: they say nothing of one.
    pub(crate) blind: Vec<String>,
    /// Tests that take a while: the long tier runs them.
    pub(crate) long: Vec<String>,
    /// Tests that cannot run here, and what they want.
    pub(crate) left_out: BTreeMap<String, String>,
}

/// A test, or a part of one, that Bulkhead need not pass.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exception {
    pub(crate) suite: String,
    pub(crate) test: String,
    /// The first version of containerd whose suite has it, where the oldest does not.
    pub(crate) since: Option<String>,
    /// The limit of the kernel or of containerd that is behind it.
    pub(crate) limit: String,
}

/// Which tests of a suite a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Short,
    Long,
    All,
}

impl Lists {
    /// Reads the file.
    pub(crate) fn read() -> Result<Self> {
        let path = workspace().join("integration/conformance/suites.toml");
        let text = fs::read_to_string(&path).map_err(HarnessError::at("read", &path))?;
        toml::from_str(&text)
            .map_err(|error| HarnessError::Format { what: "suites.toml", found: error.to_string() })
    }

    /// What is to be known of a suite.
    pub(crate) fn of(&self, suite: &str) -> Result<&List> {
        let missing = || HarnessError::Format { what: "suite in suites.toml", found: suite.to_owned() };
        self.suite.get(suite).ok_or_else(missing)
    }

    /// The exceptions of a suite, by test.
    pub(crate) fn exceptions(&self, suite: &str) -> BTreeMap<&str, &Exception> {
        let own = self.exception.iter().filter(|exception| exception.suite == suite);
        own.map(|exception| (exception.test.as_str(), exception)).collect()
    }
}

impl List {
    /// Of all tests, those that see the runtime and belong to the tier.
    pub(crate) fn chosen(&self, all: &[String], tier: Tier) -> Vec<String> {
        let counts = |test: &String| !self.blind.contains(test) && !self.left_out.contains_key(test);
        let belongs = |test: &String| match tier {
            Tier::Short => !self.long.contains(test),
            Tier::Long => self.long.contains(test),
            Tier::All => true,
        };
        all.iter().filter(|test| counts(test) && belongs(test)).cloned().collect()
    }
}
