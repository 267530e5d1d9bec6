//! From an image and a command to a profile: closure, analysis and linking, again while they find more programs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
};

pub use bulkhead_profiles::GENERATOR;
use bulkhead_profiles::syscall_name;
use sha2::{Digest as _, Sha256};

use crate::{
    Cache, Command, FilesError, Key, Landlock, Limits, Profile, Root, Row,
    closure::{Closure, Program, Scope, language::Asked, texts},
    elf::Elf,
    landlock,
    profile::{FORMAT, Site, Values, baseline_numbers, enforceable, runtime_needs},
    syscalls::{
        link::{Known, Linked, Made, Node, Roles, link},
        models, stored,
        summarise::summarise,
        summary::Summary,
    },
};

/// Reasons that a row keeps.
const REASONS_MAX: usize = 5;
/// Callers that a reason keeps.
const CALLERS_MAX: usize = 24;
/// The profile of `command` in the image at `root`.
///
/// # Errors
/// The machine broke. An image that is too much, or that cannot be understood, gets the baseline with the reason.
pub fn generate(
    root: &Root,
    image: Option<&str>,
    command: &Command,
    cache: &dyn Cache,
    limits: &Limits,
) -> Result<Profile, FilesError> {
    let mut analysis = Analysis {
        cache,
        limits,
        summaries: HashMap::new(),
        by_content: HashMap::new(),
        calls: BTreeMap::new(),
        args: BTreeMap::new(),
        unresolved: BTreeSet::new(),
        widened: None,
        elf_bytes: 0,
    };
    let mut members = Vec::new();
    let mut notes = BTreeSet::new();
    let mut landlock = Landlock::whole_image("the closure is not known");
    let run = analysis.run(root, command).and_then(|closure| {
        // What is not understood may execute anything of the image.
        let rules = match &analysis.widened {
            Some(why) => Landlock::whole_image(why),
            None => landlock::ruleset(root, &closure)?,
        };
        Ok((closure, rules))
    });
    match run {
        Ok((closure, rules)) => {
            landlock = rules;
            members = closure.members.into_values().collect();
            notes = closure.notes;
        }
        Err(FilesError::TooMuch { what, limit }) => {
            let why = FilesError::TooMuch { what, limit }.to_string();
            landlock.widened = Some(why.clone());
            analysis.widened = Some(why);
        }
        Err(error @ FilesError::Io { .. }) => return Err(error),
    }
    let key = Key {
        image: image.map(str::to_owned),
        command: command.clone(),
        generator: GENERATOR.to_owned(),
        baseline: baseline_hash(),
    };
    Ok(analysis.profile(key, members, notes.into_iter().collect(), landlock))
}

fn baseline_hash() -> String {
    let mut hash = Sha256::new();
    for row in bulkhead_profiles::rows() {
        hash.update(format!("{row:?}\n"));
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Analysis<'a> {
    cache: &'a dyn Cache,
    limits: &'a Limits,
    summaries: HashMap<PathBuf, Option<Rc<Summary>>>,
    /// By hash: one program may have many names.
    by_content: HashMap<String, Rc<Summary>>,
    calls: BTreeMap<u32, BTreeSet<Site>>,
    args: BTreeMap<u32, Values>,
    unresolved: BTreeSet<Site>,
    widened: Option<String>,
    elf_bytes: u64,
}

/// What a program was linked with, and what is to be said of that.
type With = (Scope, Vec<(usize, Asked)>, Vec<String>);

impl Analysis<'_> {
    fn run<'r>(&mut self, root: &'r Root, command: &Command) -> Result<Closure<'r>, FilesError> {
        let mut closure = Closure::new(root, command, self.limits)?;
        if !closure.add_command(&command.argv, None, "the command")? {
            let name = command.argv.first().map_or("(nothing)", String::as_str);
            self.widened = Some(format!("{name} is not a program of the image"));
            return Ok(closure);
        }
        for exec in &command.exec {
            closure.add_command(exec, None, "may be exec'd")?;
        }
        closure.settle()?;
        self.programs(&mut closure)?;
        if closure.programs.is_empty() {
            self.widened = Some("no program of the closure is an ELF file of this machine".to_owned());
        }
        Ok(closure)
    }

    /// Links each program, and once more where what others bring has added to what it is linked with.
    fn programs(&mut self, closure: &mut Closure<'_>) -> Result<(), FilesError> {
        let mut linked: BTreeMap<usize, With> = BTreeMap::new();
        loop {
            let (mut at, mut changed) = (0, false);
            while let Some(program) = closure.programs.get(at).cloned() {
                let (asked, notes) = closure.said_in(&program.path, &program.scope.files);
                let with = (program.scope.clone(), asked, notes);
                if linked.get(&at) != Some(&with) {
                    self.program(closure, &program, &with.1)?;
                    linked.insert(at, with);
                    closure.settle()?;
                    changed = true;
                }
                at += 1;
            }
            if !changed {
                closure.notes.extend(linked.into_values().flat_map(|(_, _, notes)| notes));
                return Ok(());
            }
        }
    }

    fn program(
        &mut self,
        closure: &mut Closure<'_>,
        program: &Program,
        said: &[(usize, Asked)],
    ) -> Result<(), FilesError> {
        let mut modules = Vec::new();
        let mut files = Vec::new();
        let (mut entries, mut loaded) = (Vec::new(), Vec::new());
        for (at, file) in program.scope.files.iter().enumerate() {
            let Some(summary) = self.summary(closure, file)? else { continue };
            if let Some(why) = &summary.gave_up {
                self.widened.get_or_insert(format!("{}: {why}", file.display()));
            }
            if program.scope.entries.contains(&at) {
                entries.push(modules.len());
            }
            if program.scope.loaded.contains(file) {
                loaded.push(modules.len());
            }
            modules.push(summary);
            files.push(file.clone());
        }
        let asked = said.iter().filter_map(|(at, asked)| {
            let file = program.scope.files.get(*at)?;
            Some((files.iter().position(|other| other == file)?, asked.clone()))
        });
        let asked: Vec<_> = asked.collect();
        let roles = Roles { entries: &entries, loaded: &loaded, asked: &asked };
        let linked = link(&modules, roles, self.limits);
        for module in &linked.looks_up {
            let file = files[*module as usize].display();
            closure.notes.insert(format!("{file} looks functions up by names that are not all constants"));
        }
        if linked.gave_up {
            self.widened.get_or_insert(format!("{} takes too long to link", program.path.display()));
        }
        for (number, made) in &linked.calls {
            let sites = self.calls.entry(*number).or_default();
            for made in made.iter().take(REASONS_MAX.saturating_sub(sites.len())) {
                sites.insert(site(made, &linked, &modules, &files));
            }
            for made in made {
                self.args.entry(*number).or_default().add(&made.args);
            }
        }
        self.unresolved.extend(linked.unresolved.iter().map(|made| site(made, &linked, &modules, &files)));
        self.children(closure, program, &linked, &modules, &files)
    }

    /// Programs that a program may execute: those that its data names, and the shell where it asks for one.
    fn children(
        &mut self,
        closure: &mut Closure<'_>,
        program: &Program,
        linked: &Linked,
        modules: &[Rc<Summary>],
        files: &[PathBuf],
    ) -> Result<(), FilesError> {
        let number = |name| bulkhead_profiles::syscall_number(name).unwrap_or(u32::MAX);
        // A call whose number is not known may be one of these.
        let executes = |name| linked.calls.contains_key(&number(name)) || !linked.unresolved.is_empty();
        if !executes("execve") && !executes("execveat") {
            return Ok(());
        }
        let reached = |name: &str| {
            (0u32..).zip(modules).any(|(module, summary)| {
                let of_that_name = summary.exports.iter().filter(|(export, _)| export == name);
                of_that_name.into_iter().any(|(_, function)| {
                    let node = Node { module, function: *function };
                    [Known::Some, Known::Nothing]
                        .iter()
                        .any(|known| linked.from.contains_key(&(node, *known)))
                })
            })
        };
        if models::SHELLS.iter().any(|name| reached(name)) {
            let because = "it calls system(3) or popen(3)";
            closure.add_command(&["/bin/sh".to_owned()], Some(&program.path), because)?;
            closure.notes.insert(format!(
                "{} may have a shell run what is decided at run time",
                program.path.display()
            ));
        } else {
            closure
                .notes
                .insert(format!("{} may execute what is decided at run time", program.path.display()));
        }
        for (summary, file) in modules.iter().zip(files) {
            if is_c_library(file) {
                continue;
            }
            let bytes = closure.bytes_of(file)?.unwrap_or_default();
            let is_named = |name: &str| texts::ends_with(&bytes, name);
            for text in summary.texts.iter().filter(|text| text.starts_with('/')) {
                let because = format!("its name is in the data of {}", file.display());
                closure.add_command(std::slice::from_ref(text), Some(file), &because)?;
                closure.private(text, file, bytes.len(), &is_named)?;
            }
        }
        Ok(())
    }

    fn summary(&mut self, closure: &Closure<'_>, file: &Path) -> Result<Option<Rc<Summary>>, FilesError> {
        if let Some(known) = self.summaries.get(file) {
            return Ok(known.clone());
        }
        let summary = match closure.bytes_of(file)? {
            Some(bytes) => self.analyse(&bytes),
            None => None,
        };
        self.summaries.insert(file.to_owned(), summary.clone());
        Ok(summary)
    }

    fn analyse(&mut self, bytes: &[u8]) -> Option<Rc<Summary>> {
        let elf = Elf::parse(bytes).ok()?;
        self.elf_bytes += bytes.len() as u64;
        let mut hash = Sha256::new();
        hash.update(GENERATOR);
        hash.update(bytes);
        let hash = hex(&hash.finalize());
        if let Some(summary) = self.by_content.get(&hash) {
            return Some(Rc::clone(summary));
        }
        let kept = self.cache.get(&hash).and_then(|bytes| stored::read(&bytes));
        let summary = kept.unwrap_or_else(|| {
            let summary = summarise(elf, self.limits);
            if let Some(bytes) = stored::bytes(&summary) {
                self.cache.put(&hash, &bytes);
            }
            summary
        });
        let summary = Rc::new(summary);
        self.by_content.insert(hash, Rc::clone(&summary));
        Some(summary)
    }

    fn profile(
        self,
        key: Key,
        members: Vec<crate::Member>,
        notes: Vec<String>,
        landlock: Landlock,
    ) -> Profile {
        let baseline = baseline_numbers();
        let name = |number: u32| syscall_name(number).map_or_else(|| format!("#{number}"), str::to_owned);
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        let mut denied = Vec::new();
        for (number, sites) in &self.calls {
            if !baseline.contains(number) {
                denied.push(name(*number));
                continue;
            }
            let name = name(*number);
            let args = self.args.get(number).map(|values| enforceable(&name, values)).unwrap_or_default();
            rows.insert(name, Row { reasons: sites.iter().cloned().collect(), args });
        }
        for (syscall, origin) in runtime_needs() {
            let row =
                rows.entry(syscall.to_owned()).or_insert(Row { reasons: Vec::new(), args: BTreeMap::new() });
            row.reasons.push(origin.site());
        }
        let mut widened = self.widened;
        if let (None, Some(site)) = (&widened, self.unresolved.first()) {
            let (place, more) =
                (format!("{} of {}", site.function, site.file.display()), self.unresolved.len() - 1);
            let others = if more == 0 { String::new() } else { format!(", and at {more} other places") };
            widened = Some(format!("the number of a system call is not known in {place}{others}"));
        }
        if let Some(why) = &widened {
            for number in baseline {
                let site = Site {
                    function: why.clone(),
                    file: PathBuf::from("(baseline)"),
                    at: 0,
                    callers: Vec::new(),
                };
                let row =
                    rows.entry(name(number)).or_insert(Row { reasons: vec![site], args: BTreeMap::new() });
                row.args.clear();
            }
        }
        Profile {
            format: FORMAT,
            key,
            rows,
            denied_by_baseline: denied,
            unresolved: self.unresolved.into_iter().collect(),
            widened,
            notes,
            members,
            landlock,
            elf_bytes: self.elf_bytes,
        }
    }
}

fn is_c_library(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    ["libc.so.6", "libc-2.", "ld-linux", "ld-musl", "libc.musl", "libpthread", "libutil"]
        .iter()
        .any(|start| name.starts_with(start))
}

fn site(made: &Made, linked: &Linked, modules: &[Rc<Summary>], files: &[PathBuf]) -> Site {
    let mut callers = Vec::new();
    let mut at = (made.node, made.known);
    while let Some(Some(from)) = linked.from.get(&at) {
        callers.push(named(from.0, modules, files));
        at = *from;
        if callers.len() >= CALLERS_MAX {
            break;
        }
    }
    let function = modules[made.node.module as usize].functions.get(made.node.function as usize);
    let function = function.map_or_else(String::new, |function| {
        function.name.clone().unwrap_or_else(|| format!("{:#x}", function.address))
    });
    Site { function, file: files[made.node.module as usize].clone(), at: made.at, callers }
}

fn named(node: Node, modules: &[Rc<Summary>], files: &[PathBuf]) -> String {
    let file = files[node.module as usize].file_name().map(|name| name.to_string_lossy().into_owned());
    let function = modules[node.module as usize].functions.get(node.function as usize);
    let name = function.map_or_else(String::new, |function| {
        function.name.clone().unwrap_or_else(|| format!("{:#x}", function.address))
    });
    format!("{name} of {}", file.unwrap_or_default())
}
