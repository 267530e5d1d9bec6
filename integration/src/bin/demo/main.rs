//! `make demo`: a real containerd runs an allowed image confined by Bulkhead, and refuses what it must.
//!
//! ```text
//! containerd (private) ─► allowed image under runc and under Bulkhead: what each lets it do
//!                      ─► an image before and after it is signed, and with a changed file
//!                      ─► every kind of refusal
//!                      ─► `ctr run --rm … true`, both runtimes in turn: the median and the ratio
//! ```
//! Exit 0 only if all of it happened as it must. What it started is gone when it ends.

#![forbid(unsafe_code)]

mod confinement;
mod refusals;
mod signed;
mod start_time;

use std::process::ExitCode;

use bulkhead_integration::{Containerd, Cri, Digests, HarnessError, Image, Release};

/// The image that policy allows; its USER is root, as of most published ones.
const APP: &str = "registry.test/team-a/app:1";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.tell("demo");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), HarnessError> {
    let stage = Stage::set()?;
    let (major, minor) = stage.daemon.version();
    println!("A private containerd {major}.{minor} runs; the system's own is untouched.\n");
    confinement::show(&stage)?;
    signed::show(&stage)?;
    refusals::show(&stage)?;
    start_time::show(&stage)?;
    let left = stage.daemon.leftovers_after(std::time::Duration::from_secs(5))?;
    if !left.none() {
        return Err(wrong("nothing left behind", left.to_string()));
    }
    println!("Left behind: {left}");
    Ok(())
}

/// A daemon with the allowed image.
struct Stage {
    daemon: Containerd,
    app: Digests,
}

impl Stage {
    fn set() -> Result<Self, HarnessError> {
        let daemon = Containerd::start(Release::System, Cri::Off)?;
        let app = daemon.import(&Image::busybox(APP, "")?)?;
        let stage = Self { daemon, app };
        signed::make_key(&stage)?;
        stage.write_policy()?;
        Ok(stage)
    }

    /// Root of the image becomes uid 65532; one command may be exec'd.
    fn write_policy(&self) -> Result<(), HarnessError> {
        self.daemon.policy(&format!(
            "version = 1\nmode = \"enforce\"\n[image]\n\
             \"registry.test/team-a/*\" = {{ digests = [{0:?}], confine = \"app\" }}\n\
             \"registry.test/strict/*\" = {{ digests = [{0:?}] }}\n\
             \"registry.test/signed/*\" = {{ require = [\"team-a\"], confine = \"app\" }}\n\
             [rule.team-a]\nkeys = [\"keys/demo.pub\"]\n\
             [confine.app]\nuser = {{ force = 65532 }}\nexec = [{{ command = \"/bin/probe *\", stdin = true }}]\n",
            self.app.manifest
        ))
    }
}

/// Something happened otherwise than it must.
fn wrong(what: &'static str, found: impl Into<String>) -> HarnessError {
    HarnessError::Format { what, found: found.into() }
}
