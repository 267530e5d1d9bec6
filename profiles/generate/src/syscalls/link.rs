//! Files to one program, as the loader links it: which functions can run, with which constant arguments, and so
//! which system calls can be made.
//!
//! Invariant: a function whose address is taken by code that can run, or that lies in data of a loaded file, can run
//! with any arguments. So can what dlsym(3) finds: every export of a file that is loaded while the program runs, and of
//! the files that were there at the start those whose name is a text in somebody's data, once dlsym can run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    rc::Rc,
};

use super::models;
use super::summary::{Function, Guard, Place, Summary, Target, Value, shifted};
use crate::Limits;

/// Different constant arguments under which one function is visited; from then on with any.
const CONTEXTS_MAX: usize = 512;

/// The first argument of a call, in the C convention.
const RDI: Place = 7;
/// The second.
const RSI: Place = 6;

/// Functions that find others by name, of which the second argument is that.
const LOOKUPS: &[&str] = &["dlsym", "dlvsym"];

/// Modules by how they come to be in the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roles<'a> {
    /// Those whose entry point runs.
    pub(crate) entries: &'a [usize],
    /// Those that are loaded while it runs, of which any export may be looked up.
    pub(crate) loaded: &'a [usize],
}

/// A file in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) module: u32,
    pub(crate) function: u32,
}

/// Whether something is known of the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Known {
    Some,
    Nothing,
}

fn known(context: &Context) -> Known {
    if context.is_empty() { Known::Nothing } else { Known::Some }
}

/// What is known of the arguments: values of those places that matter.
type Context = Vec<(Place, Vec<u64>)>;

/// A system call that can be made, or one of which the number is not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Made {
    pub(crate) node: Node,
    pub(crate) known: Known,
    pub(crate) at: u64,
    pub(crate) args: Vec<Option<Vec<u64>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Linked {
    pub(crate) calls: BTreeMap<u32, BTreeSet<Made>>,
    pub(crate) unresolved: BTreeSet<Made>,
    /// Who led to a function first: with arguments that are known, and with any.
    pub(crate) from: HashMap<(Node, Known), Option<(Node, Known)>>,
    /// Modules that look up a function by a name that is not one constant.
    pub(crate) looks_up: BTreeSet<u32>,
    /// There were more visits than are allowed.
    pub(crate) gave_up: bool,
}

struct Linker<'p> {
    modules: &'p [Rc<Summary>],
    imports: Vec<Vec<Vec<Node>>>,
    relevant: Vec<Vec<u32>>,
    seen: HashMap<Node, HashSet<Context>>,
    queue: Vec<(Node, Context)>,
    linked: Linked,
    set_id: Vec<Made>,
    visits: usize,
}

/// Links `modules`, which are in the order of the loader's scope.
pub(crate) fn link(modules: &[Rc<Summary>], roles: Roles<'_>, limits: &Limits) -> Linked {
    let mut linker = Linker {
        modules,
        imports: imports(modules),
        relevant: Vec::new(),
        seen: HashMap::new(),
        queue: Vec::new(),
        linked: Linked::default(),
        set_id: Vec::new(),
        visits: 0,
    };
    linker.relevance();
    for (at, module) in (0u32..).zip(modules) {
        let entry = module.entry.filter(|_| roles.entries.contains(&(at as usize)));
        let exports = module.exports.iter().map(|(_, function)| *function);
        let exports = exports.filter(|_| roles.loaded.contains(&(at as usize)));
        for function in module.roots.iter().copied().chain(entry).chain(exports) {
            linker.visit(Node { module: at, function }, Vec::new(), None);
        }
        for import in &module.root_imports {
            for node in linker.targets(at, Target::Import(*import)) {
                linker.visit(node, Vec::new(), None);
            }
        }
        // The loader runs a resolver when it binds to it, with arguments of its own.
        for import in &module.bound {
            for node in linker.targets(at, Target::Import(*import)) {
                if modules[node.module as usize].resolvers.contains(&node.function) {
                    linker.visit(node, Vec::new(), None);
                }
            }
        }
    }
    linker.settle(limits);
    if linker.looks_up() {
        linker.visit_named();
        linker.settle(limits);
    }
    linker.set_ids();
    linker.linked
}

/// For each import of each module, the functions that it may be: all of that name.
fn imports(modules: &[Rc<Summary>]) -> Vec<Vec<Vec<Node>>> {
    let mut exports: HashMap<&str, Vec<Node>> = HashMap::new();
    for (module, summary) in (0u32..).zip(modules) {
        for (name, function) in &summary.exports {
            let nodes = exports.entry(name).or_default();
            let node = Node { module, function: *function };
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
    }
    let of = |name: &String| exports.get(name.as_str()).cloned().unwrap_or_default();
    modules.iter().map(|summary| summary.imports.iter().map(of).collect()).collect()
}

impl Linker<'_> {
    fn settle(&mut self, limits: &Limits) {
        while let Some((node, context)) = self.queue.pop() {
            self.visits += 1;
            if self.visits > limits.visits_max {
                self.linked.gave_up = true;
                return;
            }
            self.function(node, &context);
        }
    }

    /// Whether a function that finds others by name can run.
    fn looks_up(&self) -> bool {
        (0u32..).zip(self.modules).any(|(module, summary)| {
            let mut lookups = summary.exports.iter().filter(|(name, _)| LOOKUPS.contains(&name.as_str()));
            lookups.any(|(_, function)| self.seen.contains_key(&Node { module, function: *function }))
        })
    }

    /// Visits every export whose name is a text in the data of some module.
    fn visit_named(&mut self) {
        let modules = self.modules;
        let names: HashSet<&str> =
            modules.iter().flat_map(|module| &module.names).map(String::as_str).collect();
        for (module, summary) in (0u32..).zip(modules) {
            for (_, function) in summary.exports.iter().filter(|(name, _)| names.contains(name.as_str())) {
                self.visit(Node { module, function: *function }, Vec::new(), None);
            }
        }
    }

    fn targets(&self, module: u32, target: Target) -> Vec<Node> {
        match target {
            Target::Own(function) => vec![Node { module, function }],
            Target::Import(import) => {
                self.imports[module as usize].get(import as usize).cloned().unwrap_or_default()
            }
        }
    }

    fn is_import_of(&self, module: u32, target: Target, name: &str) -> bool {
        match target {
            Target::Own(_) => false,
            Target::Import(import) => self.modules[module as usize]
                .imports
                .get(import as usize)
                .is_some_and(|import| import == name),
        }
    }

    /// Which places of which functions decide anything, there or further on.
    fn relevance(&mut self) {
        let bit = |place: Place| 1u32 << place;
        self.relevant = self
            .modules
            .iter()
            .map(|module| {
                module
                    .functions
                    .iter()
                    .map(|function| {
                        let mut places = 0;
                        let guards = function.calls.iter().flat_map(|call| &call.when);
                        let guards = guards.chain(function.sites.iter().flat_map(|site| &site.when));
                        for guard in guards.chain(function.taken.iter().flat_map(|(_, when)| when)) {
                            places |= bit(guard.place);
                        }
                        for site in &function.sites {
                            for value in
                                std::iter::once(&site.number).chain(site.args.iter().map(|(_, value)| value))
                            {
                                if let Value::Entry { place, .. } = value {
                                    places |= bit(*place);
                                }
                            }
                        }
                        places
                    })
                    .collect()
            })
            .collect();
        loop {
            let mut changed = false;
            for (at, module) in (0u32..).zip(self.modules) {
                for (number, function) in module.functions.iter().enumerate() {
                    let before = self.relevant[at as usize][number];
                    let mut places = before;
                    for call in &function.calls {
                        let passed = |place: &Place| {
                            call.args.iter().find_map(|(to, value)| match value {
                                Value::Entry { place: from, .. } if to == place => Some(*from),
                                _ => None,
                            })
                        };
                        if !call.args.iter().any(|(_, value)| matches!(value, Value::Entry { .. })) {
                            continue;
                        }
                        for node in self.targets(at, call.to) {
                            let theirs = self.relevant[node.module as usize][node.function as usize];
                            for place in (0..32u8).filter(|place| theirs & bit(*place) != 0) {
                                places |= passed(&place).map_or(0, bit);
                            }
                        }
                    }
                    if places != before {
                        self.relevant[at as usize][number] = places;
                        changed = true;
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn visit(&mut self, node: Node, context: Context, from: Option<(Node, Known)>) {
        let seen = self.seen.entry(node).or_default();
        // What was visited with any arguments was visited with these.
        if seen.contains(&Vec::new()) {
            return;
        }
        let context = if seen.len() >= CONTEXTS_MAX { Vec::new() } else { context };
        self.linked.from.entry((node, known(&context))).or_insert(from);
        if seen.insert(context.clone()) {
            self.queue.push((node, context));
        }
    }

    /// Numbers of the changes of ids: those of the functions that can run.
    fn set_ids(&mut self) {
        for made in std::mem::take(&mut self.set_id) {
            let module = made.node.module;
            for (name, call) in models::SET_ID {
                let exports = &self.modules[module as usize].exports;
                let mut functions = exports.iter().filter(|(export, _)| export == name);
                let reached = functions
                    .any(|(_, function)| self.seen.contains_key(&Node { module, function: *function }));
                if let Some(number) = bulkhead_profiles::syscall_number(call).filter(|_| reached) {
                    self.linked.calls.entry(number).or_default().insert(made.clone());
                }
            }
        }
    }

    fn function(&mut self, node: Node, context: &Context) {
        let modules = self.modules;
        let Some(function) = modules[node.module as usize].functions.get(node.function as usize) else {
            return;
        };
        let Function { calls, taken, sites, address: _, name: _ } = function;
        for site in sites {
            let whole = context;
            let Some(context) = under(context, &site.when) else { continue };
            let args = (0..3u8).map(|at| {
                let value = site.args.iter().find(|(place, _)| *place == at).map(|(_, value)| value)?;
                evaluate(value, &context)
            });
            let made = Made { node, known: known(whole), at: site.at, args: args.collect() };
            if site.number == Value::SetId {
                self.set_id.push(made);
                continue;
            }
            match evaluate(&site.number, &context) {
                Some(numbers) => {
                    for number in numbers {
                        let number = u32::try_from(number & 0xffff_ffff).unwrap_or(u32::MAX);
                        self.linked.calls.entry(number).or_default().insert(made.clone());
                    }
                }
                None => {
                    self.linked.unresolved.insert(made);
                }
            }
        }
        for call in calls {
            let whole = context;
            let Some(context) = under(context, &call.when) else { continue };
            if LOOKUPS.iter().any(|name| self.is_import_of(node.module, call.to, name)) {
                let name = call.args.iter().find(|(place, _)| *place == RSI).map(|(_, value)| value);
                if !matches!(name, Some(Value::OneOf(_))) {
                    self.linked.looks_up.insert(node.module);
                }
            }
            for target in self.targets(node.module, call.to) {
                let relevant = self.relevant[target.module as usize][target.function as usize];
                let passed = call.args.iter().filter(|(place, _)| relevant & (1 << place) != 0);
                let passed = passed.filter_map(|(place, value)| Some((*place, evaluate(value, &context)?)));
                let mut passed: Context = passed.collect();
                if relevant & (1 << RDI) != 0
                    && !passed.iter().any(|(place, _)| *place == RDI)
                    && self.is_import_of(node.module, call.to, "syscall")
                    && let Some(numbers) =
                        modules[node.module as usize].soname.as_deref().and_then(models::wrapped)
                {
                    passed.push((RDI, numbers));
                    passed.sort_unstable();
                }
                self.visit(target, passed, Some((node, known(whole))));
            }
        }
        for (target, when) in taken {
            if under(context, when).is_some() {
                for target in self.targets(node.module, *target) {
                    self.visit(target, Vec::new(), Some((node, known(context))));
                }
            }
        }
    }
}

/// The context where these conditions hold, if they can.
fn under(context: &Context, when: &[Guard]) -> Option<Context> {
    let mut context = context.clone();
    for guard in when {
        if let Some((_, values)) = context.iter_mut().find(|(place, _)| *place == guard.place) {
            values.retain(|value| guard.passes(*value));
            if values.is_empty() {
                return None;
            }
        }
    }
    Some(context)
}

fn evaluate(value: &Value, context: &Context) -> Option<Vec<u64>> {
    match value {
        Value::Any | Value::SetId => None,
        Value::OneOf(values) => Some(values.clone()),
        Value::Entry { place, low, plus } => {
            let (_, values) = context.iter().find(|(at, _)| at == place)?;
            Some(values.iter().map(|value| shifted(*value, *low, *plus)).collect())
        }
    }
}
