//! The process that reads an image's files: `bulkhead judge profile child`.
//!
//! Invariant: not a byte of its question is read before it has locked itself down. It is handed the image's root as its
//! input and a socket as its output, and speaks and hears on that.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bulkhead_confine::{LockDown, lock_down_to};
use bulkhead_generate::{
    Access, Cache, Command, Landlock, Layer, Limits, PathRule, Profile, Root, Row, generate,
};
use bulkhead_model::{FileRules, ProfileExec, ProfileQuestion};

use super::{Line, NONE, QUESTION_BYTES_MAX, REASONS_BYTES_MAX, baseline_calls};

/// Uid and gid of the generator: beside those of the judges, nobody else's.
///
/// Source: as `JUDGE_ID` of bulkhead-trust.
const GENERATOR_ID: u32 = 61_009;

/// Address space, in bytes, most of it only reserved for threads: what is used, its control group bounds.
const MEMORY_BYTES_MAX: u64 = 6 << 30;

/// CPU time, in seconds: some 2 s for 100 MB of ELF, several times over.
const CPU_SECONDS_MAX: u64 = 600;

/// Programs that run what they are told: which, a pattern with an open end does not say.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "env", "xargs"];

/// Answers one question. 0: it did; 3: it could not.
#[must_use]
pub(crate) fn child_main() -> ExitCode {
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(3),
    }
}

fn answer() -> io::Result<()> {
    let root = File::open("/proc/self/fd/0")?;
    let layer = Layer::open(Path::new("/proc/self/fd/0"))?;
    let to = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let from = to.try_clone()?;
    let limits = LockDown {
        uid: GENERATOR_ID,
        gid: GENERATOR_ID,
        memory_bytes_max: MEMORY_BYTES_MAX,
        cpu_seconds_max: CPU_SECONDS_MAX,
    };
    let talk = Talk(RefCell::new((BufReader::new(from), to)));
    if let Err(error) = lock_down_to(limits, &[root.as_fd()]) {
        return talk.say(&Line::Failed(error.to_string()), &[]);
    }
    let question = talk.question()?;
    let limits = Limits::everyday();
    let root = Root::overlay(vec![layer], &limits);
    match generate(&root, Some(&question.config.to_string()), &command(&question), &talk, &limits) {
        Err(error) => talk.say(&Line::Failed(error.to_string()), &[]),
        Ok(mut profile) => {
            if let Some(why) = unknown(&question, &profile) {
                profile.landlock = Landlock::whole_image(&why);
                profile.widened.get_or_insert(why);
            }
            widen(&mut profile);
            let mut reasons = serde_json::to_vec(&profile)?;
            if reasons.len() as u64 > REASONS_BYTES_MAX {
                // The profile holds without them.
                reasons.clear();
            }
            let arguments = profile.arguments();
            let calls: BTreeSet<String> = profile.rows.into_keys().collect();
            let (widened, files_widened) = (profile.widened, profile.landlock.widened);
            let files = rules(profile.landlock.rules);
            let bytes = reasons.len() as u64;
            talk.say(&Line::Profile { calls, arguments, widened, files, files_widened, bytes }, &reasons)
        }
    }
}

fn command(question: &ProfileQuestion) -> Command {
    Command {
        argv: question.argv.clone(),
        path: question.path.split(':').map(str::to_owned).collect(),
        cwd: question.cwd.clone(),
        loader_environment: question.environment.clone(),
        exec: question
            .exec
            .iter()
            .filter(|exec| !exec.words.is_empty())
            .map(|exec| exec.words.clone())
            .collect(),
    }
}

/// Why what runs cannot be known from the image's files, though all of these are understood.
fn unknown(question: &ProfileQuestion, profile: &Profile) -> Option<String> {
    let any = |exec: &&ProfileExec| {
        let program = exec.words.first().map(|word| Path::new(word).file_name().unwrap_or_default());
        let shell = program.is_none_or(|program| SHELLS.iter().any(|shell| program == *shell));
        exec.open_end && exec.words.len() <= 2 && shell
    };
    if let Some(exec) = question.exec.iter().find(any) {
        return Some(format!("policy lets \"{} *\" be exec'd, which runs any program", exec.words.join(" ")));
    }
    let volume_of = |path: &Path| question.volumes.iter().find(|volume| path.starts_with(volume));
    let searched = ["LD_LIBRARY_PATH", "PYTHONPATH", "PERL5LIB", "RUBYLIB", "NODE_PATH"];
    let lists = searched.iter().filter_map(|name| question.environment.get(*name));
    let directories =
        lists.flat_map(|list| list.split(':')).chain(question.path.split(':')).map(PathBuf::from);
    let programs =
        question.argv.first().into_iter().chain(question.exec.iter().filter_map(|exec| exec.words.first()));
    let members = profile.members.iter().map(|member| member.path.clone());
    let cwd = Path::new(&question.cwd);
    let named = programs.filter(|word| word.contains('/')).map(|word| cwd.join(word));
    let (path, volume) =
        directories.chain(named).chain(members).find_map(|path| Some((path.clone(), volume_of(&path)?)))?;
    Some(format!(
        "{} is below {}, where something else than the image is mounted",
        path.display(),
        volume.display()
    ))
}

fn rules(rules: Vec<PathRule>) -> FileRules {
    let mut made = FileRules::default();
    for PathRule { path, access } in rules {
        match access {
            Access::Read => made.read.insert(path),
            Access::ReadExecute => made.execute.insert(path),
        };
    }
    made
}

/// Has a profile that cannot be known allow what the baseline does.
fn widen(profile: &mut Profile) {
    if profile.widened.is_none() {
        return;
    }
    for call in baseline_calls() {
        let row = profile.rows.entry(call).or_insert(Row { reasons: Vec::new(), args: Default::default() });
        row.args.clear();
    }
}

/// The socket to the keeper.
struct Talk(RefCell<(BufReader<File>, File)>);

impl Talk {
    fn question(&self) -> io::Result<ProfileQuestion> {
        let mut line = Vec::new();
        (&mut self.0.borrow_mut().0).take(QUESTION_BYTES_MAX).read_until(b'\n', &mut line)?;
        Ok(serde_json::from_slice(&line)?)
    }

    fn say(&self, line: &Line, bytes: &[u8]) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let to = &mut self.0.borrow_mut().1;
        to.write_all(&text)?;
        to.write_all(bytes)
    }

    fn ask(&self, hash: &str) -> io::Result<Option<Vec<u8>>> {
        self.say(&Line::Get(hash.to_owned()), &[])?;
        let from = &mut self.0.borrow_mut().0;
        let mut length = [0; 8];
        from.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length == NONE {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        from.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }
}

impl Cache for Talk {
    fn get(&self, hash: &str) -> Option<Vec<u8>> {
        self.ask(hash).ok().flatten()
    }

    fn put(&self, hash: &str, bytes: &[u8]) {
        let line = Line::Put { hash: hash.to_owned(), bytes: bytes.len() as u64 };
        // A keeper that is gone takes no profile either, which is said then.
        self.say(&line, bytes).unwrap_or_default();
    }
}
