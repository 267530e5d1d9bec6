//! `bulkhead profile generate`: of an image by the process that a launch has it worked out by, locked down; of a directory,
//! which its owner has made, in this one.

use std::path::{Path, PathBuf};

use bulkhead_generate::{
    Access, Cache, Command, DirectoryCache, FilesError, Landlock, Layer, Limits, NoCache, Profile, Root, Row,
    generate,
};
use bulkhead_model::{LOADER_VARIABLES, Layout, ProfileExec, ProfileQuestion, StoredProfile};
use serde_json::json;

use super::{image, parsed, shown};
use crate::{
    answer::{Answer, Trouble},
    args::GenerateOptions,
    generator,
};

/// PATH of an image that says none.
///
/// Source: `defaultUnixEnv`, containerd pkg/oci/spec.go.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn make(layout: &Layout, options: GenerateOptions) -> Result<Answer, Trouble> {
    let (profile, output) = if image::is_directory(&options.source) {
        if options.argv.is_empty() {
            return Ok(Answer::usage("a directory names no command: say one, after --"));
        }
        (of_directory(layout, &options)?, options.output)
    } else {
        let found = match options.source.strip_prefix(image::LAYOUT) {
            Some(place) => image::of_layout(layout, place)?,
            None => image::unpacked(layout, &options.daemon, &options.namespace, &options.source)?,
        };
        let found = match found {
            Ok(found) => found,
            Err(refusal) => return Ok(refusal.into()),
        };
        if options.argv.is_empty() && found.argv().is_empty() {
            let why = format!("{} names no command: say one, after --", options.source);
            return Ok(Answer::usage(&why));
        }
        (of_image(layout, &options, &found)?, options.output)
    };
    if let Some(output) = output {
        keep(&output, &profile)?;
    }
    Ok(Answer::yes(shown(&profile), json!({ "profile": profile })))
}

/// Writes a profile to a file.
pub(super) fn keep(path: &Path, profile: &Profile) -> Result<(), Trouble> {
    let failed = |source| Trouble::File { call: "write(2)", path: path.to_owned(), source };
    let mut text = serde_json::to_string_pretty(profile).map_err(|error| failed(error.into()))?;
    text.push('\n');
    std::fs::write(path, text).map_err(failed)
}

/// What is said beats what the image says.
fn question(options: &GenerateOptions, found: &image::Unpacked) -> ProfileQuestion {
    let GenerateOptions { env, cwd, exec, argv, .. } = options;
    let variable = |name: &str| value_of(env.iter().chain(found.env()), name);
    ProfileQuestion {
        config: found.config_digest,
        chain: found.chain,
        layers: found.layers.clone(),
        argv: if argv.is_empty() { found.argv() } else { argv.clone() },
        path: variable("PATH").unwrap_or(PATH).to_owned(),
        cwd: cwd.as_deref().or_else(|| found.cwd()).unwrap_or("/").to_owned(),
        environment: LOADER_VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), variable(name)?.to_owned())))
            .collect(),
        exec: exec.iter().map(|command| ProfileExec { words: words(command), open_end: false }).collect(),
        volumes: Default::default(),
        generator: bulkhead_profiles::GENERATOR.to_owned(),
        baseline: bulkhead_profiles::baseline_hash(),
    }
}

/// Not a byte of the image's files is parsed here: what its child said is held to what a launch would believe of it.
fn of_image(layout: &Layout, options: &GenerateOptions, found: &image::Unpacked) -> Result<Profile, Trouble> {
    let question = question(options, found);
    let (stored, reasons) = generator::show(layout, &question, !options.no_cache)?;
    let path = PathBuf::from(&options.source);
    if reasons.is_empty() {
        let why = "it has more reasons than 8 MiB: name fewer commands with --exec".to_owned();
        return Err(Trouble::Profile { path, why });
    }
    let mut profile = parsed(&reasons, &path)?;
    hold(&mut profile, stored);
    profile.key.image = Some(options.image.clone().unwrap_or_else(|| found.digest.clone()));
    Ok(profile)
}

/// Leaves of a profile with its reasons what a launch would have of it.
fn hold(profile: &mut Profile, stored: StoredProfile) {
    let StoredProfile { version: _, key: _, calls, mut arguments, widened, files, files_widened, passing: _ } =
        stored;
    profile.rows.retain(|name, _| calls.contains(name));
    for call in calls {
        profile.rows.entry(call).or_insert(Row { reasons: Vec::new(), args: Default::default() });
    }
    for (call, row) in &mut profile.rows {
        row.args = arguments.remove(call).unwrap_or_default();
    }
    profile.widened = widened;
    match files_widened {
        Some(why) => profile.landlock = Landlock::whole_image(&why),
        None => profile.landlock.rules.retain(|rule| match rule.access {
            Access::Read => files.read.contains(&rule.path),
            Access::ReadExecute => files.execute.contains(&rule.path),
        }),
    }
}

fn of_directory(layout: &Layout, options: &GenerateOptions) -> Result<Profile, Trouble> {
    let GenerateOptions { source, lower, env, cwd, exec, image, no_cache, argv, .. } = options;
    let limits = Limits::everyday();
    let mut layers = Vec::new();
    for directory in std::iter::once(Path::new(source)).chain(lower.iter().map(PathBuf::as_path)) {
        layers.push(Layer::open(directory).map_err(failed("open(2)", directory))?);
    }
    let root = Root::overlay(layers, &limits);
    let variable = |name: &str| value_of(env.iter(), name);
    let command = Command {
        argv: argv.clone(),
        path: variable("PATH").unwrap_or(PATH).split(':').map(str::to_owned).collect(),
        cwd: cwd.clone().unwrap_or_else(|| "/".to_owned()),
        loader_environment: LOADER_VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), variable(name)?.to_owned())))
            .collect(),
        exec: exec.iter().map(|command| words(command)).collect(),
    };
    let cache: Box<dyn Cache> = if *no_cache {
        Box::new(NoCache)
    } else {
        let directory = layout.analysis_dir();
        Box::new(DirectoryCache::open(&directory).map_err(failed("mkdir(2)", &directory))?)
    };
    generate(&root, image.as_deref(), &command, cache.as_ref(), &limits).map_err(|error| match error {
        FilesError::Io { call, path, source } => Trouble::File { call, path, source },
        FilesError::TooMuch { .. } => {
            Trouble::Configuration { path: PathBuf::from("/"), why: error.to_string() }
        }
    })
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Trouble {
    let path = path.to_owned();
    move |source| Trouble::File { call, path, source }
}

/// Of two of one name the first counts, as for getenv(3).
fn value_of<'e>(pairs: impl IntoIterator<Item = &'e String>, name: &str) -> Option<&'e str> {
    pairs.into_iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}
