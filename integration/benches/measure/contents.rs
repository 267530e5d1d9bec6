//! What a first look at an image's layers costs beside `sha256sum` of the same files on all cores, and the walk of a later
//! launch beside `find`.
//!
//! The layers are files of this machine's /usr, in tars; `bulkhead judge layers` is asked as `bulkhead watch` asks it: a
//! process that opens them, gives up the rest, and compares.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bulkhead_integration::{HarnessError, bulkhead_dir, run, run_on};
use serde_json::{Value, json};

use crate::{
    interrupt,
    row::{Findings, SUBJECT},
    series::Series,
    stage::Stage,
    wrong,
};

/// How many layers, and what they have together at most, in bytes.
const LAYERS: usize = 4;
const BYTES_MAX: usize = 240 << 20;

/// How long one look may take.
const WITHIN: Duration = Duration::from_secs(300);

/// The layers, unpacked and packed.
struct Layers {
    dirs: Vec<PathBuf>,
    blobs: PathBuf,
    digests: Vec<String>,
    job: PathBuf,
}

/// Looks and sums in turn, then walks and finds.
pub(crate) fn looks(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let layers = Layers::make(&stage.daemon().dir().join("layers"))?;
    let dirs = layers.dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" ");
    let sums = format!("find {dirs} -type f -print0 | xargs -0 -n 64 -P \"$(nproc)\" sha256sum >/dev/null");
    let find = format!("find {dirs} -printf '%p %i %s %m %U %G %T@ %C@\\n' >/dev/null");
    let looks = [
        ("contents-first-look", "sha256sum", layers.compare()?, "\"done\"", sums),
        ("contents-receipt-walk", "find", layers.walk(), "{\"walked\"", find),
    ];
    for (name, baseline, question, answer, peer) in looks {
        let mut series = Series::default();
        // The first round has the files read from the disk.
        for round in 0..=stage.settings.runs {
            interrupt::check()?;
            let (ours, theirs) = (layers.ask(&question, answer)?, shell(&peer)?);
            if round > 0 {
                series.add(SUBJECT, ours);
                series.add(baseline, theirs);
            }
        }
        series.rows(name, "ms", findings);
    }
    fs::remove_dir_all(layers.job.with_file_name("")).map_err(HarnessError::at("remove", &layers.job))
}

impl Layers {
    fn make(dir: &Path) -> Result<Self, HarnessError> {
        let blobs = dir.join("blobs");
        fs::create_dir_all(&blobs).map_err(HarnessError::at("create", &blobs))?;
        let script = format!(
            "cd {dir} && find /usr/bin /usr/lib /usr/share -xdev -type f -size -512k -printf '%s %p\\n' | sort -k 2 | \
             awk '{{ sum += $1; if (sum <= {BYTES_MAX}) {{ $1 = \"\"; print substr($0, 3) > (\"list\" NR % {LAYERS}) }} }}' && \
             for list in list*; do n=${{list#list}}; mkdir -p $n/fs && tar -C / --no-recursion -cf $n.tar -T $list && \
             tar -C $n/fs -xpf $n.tar && sum=$(sha256sum <$n.tar) && mv $n.tar blobs/${{sum%% *}} && echo $n ${{sum%% *}}; done",
            dir = dir.display()
        );
        let made = run(Command::new("sh").args(["-ec", &script]), WITHIN)?.success()?.stdout;
        let pairs: Vec<(&str, &str)> = made.lines().filter_map(|line| line.split_once(' ')).collect();
        if pairs.len() != LAYERS {
            return Err(wrong("layers", made));
        }
        Ok(Self {
            dirs: pairs.iter().map(|(number, _)| dir.join(number).join("fs")).collect(),
            blobs,
            digests: pairs.iter().map(|(_, hex)| format!("sha256:{hex}")).collect(),
            job: dir.join("job.json"),
        })
    }

    fn compare(&self) -> Result<Value, HarnessError> {
        let layers = self.digests.iter().enumerate();
        let layers: Vec<Value> = layers
            .map(|(layer, digest)| json!({ "layer": layer, "blob": digest, "diff_id": digest }))
            .collect();
        let program = bulkhead_dir()?.join("bulkhead");
        let task = json!({ "compare": { "program": program, "blobs": self.blobs, "layers": layers } });
        Ok(json!({ "dirs": self.dirs, "own": null, "task": task }))
    }

    fn walk(&self) -> Value {
        json!({ "dirs": self.dirs, "own": null, "task": "walk" })
    }

    /// How long it takes until the answer is there, in milliseconds.
    fn ask(&self, question: &Value, answer: &str) -> Result<f64, HarnessError> {
        fs::write(&self.job, question.to_string()).map_err(HarnessError::at("write", &self.job))?;
        let input = fs::File::open(&self.job).map_err(HarnessError::at("open", &self.job))?;
        let mut command = Command::new(bulkhead_dir()?.join("bulkhead"));
        command.args(["judge", "layers"]);
        let began = Instant::now();
        let said = run_on(&mut command, Stdio::from(input), WITHIN)?.success()?.stdout;
        let took = began.elapsed().as_secs_f64() * 1000.0;
        match said.lines().last().is_some_and(|line| line.starts_with(answer)) {
            true => Ok(took),
            false => Err(wrong("layers that are the same", said)),
        }
    }
}

fn shell(text: &str) -> Result<f64, HarnessError> {
    let began = Instant::now();
    run(Command::new("sh").args(["-ec", text]), WITHIN)?.success()?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
