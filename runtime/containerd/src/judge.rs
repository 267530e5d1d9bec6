//! Asks a judge process about one image and hands it the blobs that it asks for.
//!
//! The judge reads attacker's bytes and is not trusted: its lines are limited, its blobs counted, its time bounded, and
//! its facts checked again here and in `bind`. What it can gain at most is wrong facts about the image that it was asked
//! about: whoever owns the judge by a crafted image owns the verdict of that image.

use std::{ffi::OsString, fmt, io, path::PathBuf, sync::Arc, time::Duration};

use bulkhead_model::{
    BlobLine, Digest, ImageFacts, JUDGE_BLOB_BYTES_MAX, JUDGE_LINE_BYTES_MAX, JUDGE_VERSION, JudgeAbout,
    JudgeLine, JudgeQuestion, SIGNATURE_FILES_MAX, SIGNERS_MAX, SignatureFacts, SignatureQuestion,
};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe::{Receiver, Sender},
};

use crate::{Containerd, Failure, content::Blob, evidence::Stored, process::Process};

/// Called with a judge's pid before it gets its question. An error stops the judge.
pub type AdmitJudge = Arc<dyn Fn(u32) -> io::Result<()> + Send + Sync>;

/// Called before a judge is started: makes a control group for it, and says into which files the judge is to write `0`
/// before it gives up its rights. Who moves itself waits for no CPU; who moves another, for all of them. An error starts
/// no judge.
pub type GroupJudge = Arc<dyn Fn() -> io::Result<Vec<PathBuf>> + Send + Sync>;

/// Most blobs a judge of an image may ask for: four indexes, a manifest and a config, and some air.
const BLOBS_MAX: usize = 8;

/// Most blobs a judge of signatures may ask for: those of an index and a manifest, and the roots.
const SIGNATURE_BLOBS_MAX: usize = 2 * SIGNATURE_FILES_MAX + SIGNERS_MAX;

/// How judges are started and bounded.
#[derive(Clone)]
pub struct Judge {
    /// The executable: `bulkhead`.
    pub program: PathBuf,
    /// Its arguments: `judge`.
    pub arguments: Vec<OsString>,
    /// How long one judge may take.
    pub time_max: Duration,
    /// How long a launch waits for the judge of another launch of the same image.
    pub wait_max: Duration,
    /// Says into which control group it goes before it reads anything.
    pub group: Option<GroupJudge>,
    /// Hears of it before it reads anything.
    pub admit: Option<AdmitJudge>,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").field("program", &self.program).finish_non_exhaustive()
    }
}

/// What a judge found: the same the next time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An image.
    Facts(ImageFacts),
    /// A broken image: why.
    Flaw(String),
}

/// What a judge said, or would have said had containerd's bytes been what their names say.
#[derive(Debug)]
pub(crate) enum Opinion {
    /// To be stored.
    Verdict(Verdict),
    /// A blob that does not hash to its digest: refused now, and judged anew when it is mended.
    Spoilt(Digest),
}

/// Reads a blob of an image that is not in containerd, of at most so many bytes; `None` where it has more.
pub type ReadBlob<'a> = dyn Fn(&Digest, u64) -> io::Result<Option<Vec<u8>>> + Sync + 'a;

/// Where the blobs are that a judge asks for.
enum Blobs<'a> {
    Content(&'a Containerd),
    Elsewhere(&'a ReadBlob<'a>),
    Signatures(&'a Stored),
}

impl Blobs<'_> {
    async fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Blob, Failure> {
        match self {
            Blobs::Content(containerd) => containerd.blob(digest, bytes_max).await,
            Blobs::Elsewhere(read) => match read(digest, bytes_max) {
                Ok(None) => Ok(Blob::TooLarge),
                Ok(Some(bytes)) => {
                    let found = Digest::of(&bytes);
                    Ok(if found == *digest { Blob::Bytes(bytes) } else { Blob::Spoilt(found) })
                }
                Err(error) => Err(Failure::File { call: "read(2)", path: digest.to_string().into(), error }),
            },
            Blobs::Signatures(stored) => stored.read(digest, bytes_max),
        }
    }
}

/// A judge's last word, or that there can be none.
enum Last {
    Line(JudgeLine),
    Spoilt(Digest),
}

impl Judge {
    /// `bulkhead judge`, `bulkhead` being beside this executable. Resolve it once, early, and keep it.
    ///
    /// # Errors
    /// `/proc/self/exe` cannot be read.
    pub fn beside_this_executable() -> Result<Self, Failure> {
        let link = PathBuf::from("/proc/self/exe");
        let failed = |error| Failure::File { call: "readlink(2)", path: link.clone(), error };
        let program = std::fs::read_link(&link).map_err(failed)?.with_file_name("bulkhead");
        Ok(Self::at(program))
    }

    /// `PROGRAM judge`, ten seconds for a judge, twenty for a launch that waits for one.
    #[must_use]
    pub fn at(program: PathBuf) -> Self {
        Self {
            program,
            arguments: vec!["judge".into()],
            time_max: Duration::from_secs(10),
            wait_max: Duration::from_secs(20),
            group: None,
            admit: None,
        }
    }

    /// Asks what `target` is.
    pub(crate) async fn ask(&self, containerd: &Containerd, target: &Digest) -> Result<Opinion, Failure> {
        self.ask_of(&Blobs::Content(containerd), target).await
    }

    /// Asks what `target` is, of an image that is not in containerd.
    pub(crate) async fn ask_elsewhere(
        &self,
        read: &ReadBlob<'_>,
        target: &Digest,
    ) -> Result<Opinion, Failure> {
        self.ask_of(&Blobs::Elsewhere(read), target).await
    }

    async fn ask_of(&self, blobs: &Blobs<'_>, target: &Digest) -> Result<Opinion, Failure> {
        let question = JudgeQuestion { version: JUDGE_VERSION, target: *target, about: JudgeAbout::Image };
        match self.run(&question, blobs, BLOBS_MAX).await? {
            Last::Spoilt(blob) => Ok(Opinion::Spoilt(blob)),
            Last::Line(JudgeLine::Facts(facts)) => {
                facts.check(target).map_err(|error| Failure::Facts { target: *target, error })?;
                Ok(Opinion::Verdict(Verdict::Facts(facts)))
            }
            Last::Line(JudgeLine::Flaw(flaw)) => {
                Ok(Opinion::Verdict(Verdict::Flaw(flaw.chars().take(1000).collect())))
            }
            Last::Line(line) => Err(no_verdict(target, line)),
        }
    }

    /// Asks who signed `target`.
    pub(crate) async fn ask_signatures(
        &self,
        target: &Digest,
        asked: &SignatureQuestion,
        stored: &Stored,
    ) -> Result<SignatureFacts, Failure> {
        let about = JudgeAbout::Signatures(asked.clone());
        let question = JudgeQuestion { version: JUDGE_VERSION, target: *target, about };
        match self.run(&question, &Blobs::Signatures(stored), SIGNATURE_BLOBS_MAX).await? {
            Last::Line(JudgeLine::Signatures(facts)) => {
                facts.check(asked).map_err(|error| Failure::SignatureFacts { target: *target, error })?;
                Ok(facts)
            }
            Last::Line(line) => Err(no_verdict(target, line)),
            Last::Spoilt(blob) => {
                let why = format!("it asked for {blob}, which it was not told of");
                Err(Failure::NoVerdict { target: *target, why })
            }
        }
    }

    /// Starts a judge and sees it through.
    async fn run(
        &self,
        question: &JudgeQuestion,
        blobs: &Blobs<'_>,
        blobs_max: usize,
    ) -> Result<Last, Failure> {
        let mut arguments = self.arguments.clone();
        if let Some(group) = &self.group {
            let files = group().map_err(|error| self.failed("make its control group", error))?;
            arguments.push("in".into());
            arguments.extend(files.into_iter().map(PathBuf::into_os_string));
        }
        let mut process =
            Process::spawn(&self.program, &arguments).map_err(|(step, error)| self.failed(step, error))?;
        let talk = self.talk(&mut process, question, blobs, blobs_max);
        let talk = tokio::time::timeout(self.time_max, talk).await;
        process.finish().await;
        talk.unwrap_or(Err(Failure::JudgeTime { target: question.target, after: self.time_max }))
    }

    async fn talk(
        &self,
        process: &mut Process,
        question: &JudgeQuestion,
        blobs: &Blobs<'_>,
        blobs_max: usize,
    ) -> Result<Last, Failure> {
        if let Some(admit) = &self.admit {
            admit(process.pid()).map_err(|error| self.failed("admit", error))?;
        }
        let mut output = BufReader::new(&mut process.output);
        let input = &mut process.input;
        self.say(input, question, &[]).await?;
        for _ in 0..=blobs_max {
            match self.hear(&mut output).await? {
                JudgeLine::Blob { digest, bytes_max } => {
                    match blobs.read(&digest, bytes_max.min(JUDGE_BLOB_BYTES_MAX)).await? {
                        Blob::Bytes(bytes) => {
                            self.say(input, &BlobLine::Bytes(bytes.len() as u64), &bytes).await?;
                        }
                        Blob::TooLarge => self.say(input, &BlobLine::TooLarge, &[]).await?,
                        Blob::Spoilt(_) => return Ok(Last::Spoilt(digest)),
                    }
                }
                line => return Ok(Last::Line(line)),
            }
        }
        let why = format!("it asked for more than {blobs_max} blobs");
        Err(Failure::NoVerdict { target: question.target, why })
    }

    async fn say(&self, input: &mut Sender, line: &impl Serialize, bytes: &[u8]) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(line).map_err(|error| self.failed("encode", error.into()))?;
        text.push(b'\n');
        let failed = |error| self.failed("write(2) to its stdin", error);
        input.write_all(&text).await.map_err(failed)?;
        input.write_all(bytes).await.map_err(failed)
    }

    async fn hear(&self, output: &mut BufReader<&mut Receiver>) -> Result<JudgeLine, Failure> {
        let mut line = Vec::new();
        output
            .take(JUDGE_LINE_BYTES_MAX as u64)
            .read_until(b'\n', &mut line)
            .await
            .map_err(|error| self.failed("read(2) of its stdout", error))?;
        if line.last() != Some(&b'\n') {
            return Err(self.failed("read(2) of its stdout", io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|error| self.failed("decode its line", error.into()))
    }

    fn failed(&self, step: &'static str, error: io::Error) -> Failure {
        Failure::Judge { program: self.program.clone(), step, error }
    }
}

/// A last word that is no answer to the question.
fn no_verdict(target: &Digest, line: JudgeLine) -> Failure {
    let why = match line {
        JudgeLine::Failed(why) | JudgeLine::Flaw(why) => why.chars().take(300).collect(),
        JudgeLine::Facts(_) | JudgeLine::Signatures(_) | JudgeLine::Blob { .. } => {
            "it answered another question".to_owned()
        }
    };
    Failure::NoVerdict { target: *target, why }
}
