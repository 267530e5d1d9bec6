//! The judge as a process: questions and blobs on stdin, lines on stdout, no file, no socket.
//!
//! ```text
//! caller → {"version":2,"target":"sha256:…","about":"image"}
//! judge  → {"blob":{"digest":"sha256:…","bytes_max":4194304}}      caller → {"bytes":1234}⏎ and 1234 bytes
//!          …
//! judge  → {"facts":{…}} | {"signatures":{…}} | {"flaw":"…"} | {"failed":"…"}           and exits
//! ```
//! Asked about an image it reads the image's documents; asked about signatures, the files and roots that the question
//! names, all of them by their hashes.
//! Whoever calls needs the last line only: the exit status says nothing more, and EOF without a last line is a
//! failure. Invariant: not a byte of stdin is read before the process has locked itself down.

use std::{
    io::{self, BufRead, Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use bulkhead_model::{
    BlobLine, Digest, JUDGE_BLOB_BYTES_MAX, JUDGE_LINE_BYTES_MAX, JUDGE_VERSION, JudgeAbout, JudgeLine,
    JudgeQuestion, PublicKey, RejectedSignature, SIGNATURE_BYTES_MAX, SIGNATURE_FILES_MAX, SIGNERS_MAX,
    SignatureFacts, SignatureQuestion,
};

use crate::{
    error::{BlobError, TrustError},
    signature::{MaterialError, SignatureFlaw, Verifier},
    walk::{self, Blobs},
};

/// What went wrong between judge and caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// A call on a pipe failed.
    #[error("{call}: {kind}")]
    Pipe {
        /// Which.
        call: &'static str,
        /// How.
        kind: io::ErrorKind,
    },
    /// The other side is gone.
    #[error("stdin ended in the middle")]
    Ended,
    /// A line that is too long or makes no sense.
    #[error("line of stdin is not one of the protocol: {0}")]
    Line(String),
    /// Another version of Bulkhead speaks.
    #[error("caller speaks version {0} of the protocol, not {JUDGE_VERSION}")]
    Version(u32),
}

/// Answers one question on `input` and writes the last line to `output`.
///
/// # Errors
/// Where even a last line could not be written. The last line has been tried before.
pub fn serve(mut input: impl BufRead, mut output: impl Write) -> Result<(), ProcessError> {
    let last = match answer(&mut input, &mut output) {
        Ok(line) => line,
        Err(error) => JudgeLine::Failed(full(&error)),
    };
    write_line(&mut output, &last)
}

/// `bulkhead judge [in FILE …]`: joins the control groups whose files these are, locks itself down, answers one question,
/// exits. 0: a verdict was given; 3: none could be.
#[must_use]
pub fn judge_main(groups: &[PathBuf]) -> ExitCode {
    let ready = crate::lockdown::join(groups).and_then(|()| crate::lockdown::lock_down());
    let result = match ready {
        Ok(()) => serve(io::stdin().lock(), io::stdout().lock()),
        Err(error) => write_line(&mut io::stdout().lock(), &JudgeLine::Failed(full(&error))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(3),
    }
}

fn answer(input: &mut dyn BufRead, output: &mut dyn Write) -> Result<JudgeLine, ProcessError> {
    let question: JudgeQuestion = read_line(input)?;
    if question.version != JUDGE_VERSION {
        return Err(ProcessError::Version(question.version));
    }
    let mut blobs = Pipes { input, output };
    match question.about {
        JudgeAbout::Image => match walk::judge(&question.target, &mut blobs) {
            Ok(facts) => Ok(JudgeLine::Facts(facts)),
            Err(TrustError::Flaw(flaw)) => Ok(JudgeLine::Flaw(flaw.to_string())),
            Err(error @ TrustError::Blob { .. }) => Ok(JudgeLine::Failed(full(&error))),
        },
        JudgeAbout::Signatures(asked) => match signatures(&asked, &mut blobs) {
            Ok(facts) => Ok(JudgeLine::Signatures(facts)),
            Err(error) => Ok(JudgeLine::Failed(full(&error))),
        },
    }
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
enum SignaturesError {
    #[error("asked about more files, keys or roots than an image or node may have")]
    Number,
    #[error(transparent)]
    Material(#[from] MaterialError),
    #[error("signature file or root {0}")]
    Blob(Digest, #[source] BlobError),
}

fn signatures(asked: &SignatureQuestion, blobs: &mut dyn Blobs) -> Result<SignatureFacts, SignaturesError> {
    let SignatureQuestion { files, keys, roots } = asked;
    if files.len() > 2 * SIGNATURE_FILES_MAX || keys.len() > SIGNERS_MAX || roots.len() > SIGNERS_MAX {
        return Err(SignaturesError::Number);
    }
    let mut read = |digest: &Digest| {
        blobs.read(digest, SIGNATURE_BYTES_MAX).map_err(|error| SignaturesError::Blob(*digest, error))
    };
    let keys = keys.iter().map(|key| PublicKey::from_base64(key)).collect::<Result<Vec<_>, _>>();
    let roots = roots.iter().map(&mut read).collect::<Result<Vec<_>, _>>()?;
    let verifier = Verifier::new(&keys.map_err(MaterialError::from)?, &roots)?;
    let mut facts = SignatureFacts::default();
    for file in files {
        // One at a time: what the judge holds is one file, not all. One that is too large spoils no other.
        match blobs.read(&file.blob, SIGNATURE_BYTES_MAX) {
            Ok(bytes) => verifier.judge(file, &bytes, &mut facts),
            Err(BlobError::TooLarge(_)) => {
                let why = SignatureFlaw::Size.to_string();
                facts.rejected.push(RejectedSignature { blob: file.blob, why });
            }
            Err(error) => return Err(SignaturesError::Blob(file.blob, error)),
        }
    }
    Ok(facts)
}

/// Blobs from the other end of two pipes.
struct Pipes<'a> {
    input: &'a mut dyn BufRead,
    output: &'a mut dyn Write,
}

impl Blobs for Pipes<'_> {
    fn read(&mut self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        let bytes_max = bytes_max.min(JUDGE_BLOB_BYTES_MAX);
        write_line(self.output, &JudgeLine::Blob { digest: *digest, bytes_max })?;
        match read_line(self.input)? {
            BlobLine::Failed(why) => Err(BlobError::Refused(why)),
            BlobLine::TooLarge => Err(BlobError::TooLarge(bytes_max)),
            BlobLine::Bytes(count) if count > bytes_max => Err(BlobError::TooLarge(bytes_max)),
            BlobLine::Bytes(count) => {
                let mut bytes = Vec::new();
                self.input.take(count).read_to_end(&mut bytes).map_err(pipe("read(2) of stdin"))?;
                if bytes.len() as u64 == count { Ok(bytes) } else { Err(ProcessError::Ended.into()) }
            }
        }
    }
}

fn read_line<T: serde::de::DeserializeOwned>(input: &mut dyn BufRead) -> Result<T, ProcessError> {
    let mut line = Vec::new();
    input.take(JUDGE_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).map_err(pipe("read(2) of stdin"))?;
    match line.last() {
        None => Err(ProcessError::Ended),
        Some(b'\n') => serde_json::from_slice(&line).map_err(|error| ProcessError::Line(error.to_string())),
        Some(_) if line.len() == JUDGE_LINE_BYTES_MAX => Err(ProcessError::Line("too long".to_owned())),
        Some(_) => Err(ProcessError::Ended),
    }
}

fn write_line(output: &mut dyn Write, line: &JudgeLine) -> Result<(), ProcessError> {
    let mut text = serde_json::to_vec(line).map_err(|error| ProcessError::Line(error.to_string()))?;
    text.push(b'\n');
    output.write_all(&text).and_then(|()| output.flush()).map_err(pipe("write(2) to stdout"))
}

fn pipe(call: &'static str) -> impl Fn(io::Error) -> ProcessError {
    move |error| ProcessError::Pipe { call, kind: error.kind() }
}

/// An error with its causes.
pub(crate) fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
