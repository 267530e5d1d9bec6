//! Files to one program, as the loader links it: which functions can run, with which constant arguments, and so
//! which system calls can be made.
//!
//! Invariant: a function whose address is taken by code that can run, or that lies in data that such code refers to, can
//! run with any arguments. So can what dlsym(3) finds, and every export of a file that is loaded while the program runs.

mod data;
mod graph;
mod lookups;
mod rare;
mod ruled_out;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    rc::Rc,
};

use graph::Graph;
use lookups::Lookups;
use rare::Rare;
use ruled_out::RuledOut;

use super::models;
use super::summary::{Call, Function, Guard, Place, Site, Summary, Target, Value, handed_on};
use crate::Limits;
use crate::closure::language::Asked;

/// Different constant arguments under which one function is visited; from then on with any.
const CONTEXTS_MAX: usize = 512;

/// The first argument of a call, in the C convention.
const RDI: Place = 7;
/// The second.
const RSI: Place = 6;

/// Modules by how they come to be in the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roles<'a> {
    /// Those whose entry point runs.
    pub(crate) entries: &'a [usize],
    /// Those that are loaded while it runs, of which any export may be looked up.
    pub(crate) loaded: &'a [usize],
    /// What scripts have an interpreter's files do.
    pub(crate) asked: &'a [(usize, Asked)],
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
    graph: Graph<'p>,
    seen: Vec<HashSet<Context>>,
    queue: Vec<(Node, Context)>,
    linked: Linked,
    set_id: Vec<Made>,
    lookups: Lookups,
    rare: Rare,
    ruled_out: RuledOut,
    asked: &'p [(usize, Asked)],
    /// By module: whether somebody referred to the stretch of data.
    referred: Vec<Vec<bool>>,
    visits: usize,
}

/// Links `modules`, which are in the order of the loader's scope.
pub(crate) fn link<'p>(modules: &'p [Rc<Summary>], roles: Roles<'p>, limits: &Limits) -> Linked {
    let graph = Graph::of(modules);
    let mut linker = Linker {
        seen: vec![HashSet::new(); graph.functions()],
        queue: Vec::new(),
        linked: Linked::default(),
        set_id: Vec::new(),
        lookups: Lookups::of(&graph),
        rare: Rare::of(&graph),
        ruled_out: RuledOut::of(modules, roles.loaded),
        asked: roles.asked,
        referred: modules.iter().map(|module| vec![false; module.stretches.len()]).collect(),
        visits: 0,
        graph,
    };
    for (at, module) in (0u32..).zip(modules) {
        linker.begin(at, module, roles);
    }
    for (module, stretch) in data::imported(modules) {
        linker.refer(module, stretch, None);
    }
    loop {
        linker.settle(limits);
        if linker.linked.gave_up || !linker.resume() {
            break;
        }
    }
    linker.set_ids();
    linker.linked.looks_up = linker.lookups.unknown;
    linker.linked
}

impl Linker<'_> {
    /// What of a module runs, or can be called, without anybody of the program calling it.
    fn begin(&mut self, at: u32, module: &Summary, roles: Roles<'_>) {
        let entry = module.entry.filter(|_| roles.entries.contains(&(at as usize)));
        let exports = module.exports.iter().map(|(_, function)| *function);
        let exports = exports.filter(|_| roles.loaded.contains(&(at as usize)));
        let stages = models::STAGES.iter().flat_map(|name| module.exported(name));
        let stages = stages.filter(|_| roles.entries.contains(&(at as usize)));
        for function in module.roots.iter().copied().chain(entry).chain(exports).chain(stages) {
            self.take(at, Node { module: at, function }, None);
        }
        for import in &module.root_imports {
            for node in self.targets(at, Target::Import(*import)) {
                self.take(at, node, None);
            }
        }
        for stretch in &module.started {
            self.refer(at, *stretch, None);
        }
        if roles.loaded.contains(&(at as usize)) {
            for stretch in (0u8..).take(module.stretches.len()) {
                self.refer(at, stretch, None);
            }
        }
        // The loader runs a resolver when it binds to it, with arguments of its own.
        for import in &module.bound {
            for node in self.targets(at, Target::Import(*import)) {
                if self.graph.modules[node.module as usize].resolvers.contains(&node.function) {
                    self.visit(node, Vec::new(), None);
                }
            }
        }
    }

    fn targets(&self, module: u32, target: Target) -> Vec<Node> {
        self.graph.targets(module, target).collect()
    }

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

    /// Goes on with what was found to run besides; whether there was any.
    fn resume(&mut self) -> bool {
        let (functions, data) = self.lookups.found(&self.graph);
        for node in functions {
            self.take(node.module, node, None);
        }
        for (module, stretch) in data {
            self.refer(module, stretch, None);
        }
        let (graph, seen) = (&self.graph, &self.seen);
        let released = self.rare.released(|node| !seen[graph.number(node)].is_empty());
        for (number, made) in released.sites {
            self.linked.calls.entry(number).or_default().insert(made);
        }
        for (node, context, from) in released.calls {
            self.visit(node, context, from);
        }
        !self.queue.is_empty()
    }

    /// Somebody has the function's address: it may be called with any arguments.
    fn take(&mut self, by: u32, node: Node, from: Option<(Node, Known)>) {
        self.lookups.taken(by, node);
        self.visit(node, Vec::new(), from);
    }

    fn visit(&mut self, node: Node, context: Context, from: Option<(Node, Known)>) {
        let seen = &mut self.seen[self.graph.number(node)];
        let mut context = context;
        if seen.len() >= CONTEXTS_MAX || seen.contains(&Vec::new()) {
            // What was visited with any arguments was visited with these, but for a name or a number: of those any is not
            // all.
            context.retain(|(place, _)| self.graph.is_particular(node, *place));
        }
        self.linked.from.entry((node, known(&context))).or_insert(from);
        if seen.insert(context.clone()) {
            self.queue.push((node, context));
        }
    }

    /// Code refers to a stretch of data: what that points to can be called.
    fn refer(&mut self, module: u32, stretch: u8, from: Option<(Node, Known)>) {
        let known = self.referred[module as usize].get_mut(usize::from(stretch));
        if known.is_none_or(|known| std::mem::replace(known, true)) {
            return;
        }
        let modules = self.graph.modules;
        let Some(stretch) = modules[module as usize].stretches.get(usize::from(stretch)) else { return };
        for function in &stretch.roots {
            self.take(module, Node { module, function: *function }, from);
        }
        for import in &stretch.imports {
            for node in self.targets(module, Target::Import(*import)) {
                self.take(module, node, from);
            }
        }
        for next in &stretch.stretches {
            self.refer(module, *next, from);
        }
    }

    /// Numbers of the changes of ids: those of the functions that can run.
    fn set_ids(&mut self) {
        for made in std::mem::take(&mut self.set_id) {
            let module = made.node.module;
            if self.graph.modules[module as usize].exports.is_empty() {
                let here = |made: &Made| made.node.module == module;
                for number in models::set_id_numbers() {
                    if let Some(sites) =
                        self.linked.calls.get_mut(&number).filter(|sites| sites.iter().any(here))
                    {
                        sites.insert(made.clone());
                    }
                }
                continue;
            }
            for (name, call) in models::SET_ID {
                let mut functions = self.graph.modules[module as usize].exported(name);
                let reached = functions
                    .any(|function| !self.seen[self.graph.number(Node { module, function })].is_empty());
                if let Some(number) = bulkhead_profiles::syscall_number(call).filter(|_| reached) {
                    self.linked.calls.entry(number).or_default().insert(made.clone());
                }
            }
        }
    }

    fn function(&mut self, node: Node, context: &Context) {
        let modules = self.graph.modules;
        let Some(function) = modules[node.module as usize].functions.get(node.function as usize) else {
            return;
        };
        let Function { calls, taken, sites, data, address: _, name: _ } = function;
        for stretch in data {
            self.refer(node.module, *stretch, Some((node, known(context))));
        }
        for site in sites {
            if let Some(under) = under(context, &site.when) {
                self.site(node, known(context), site, &under);
            }
        }
        for call in calls {
            if let Some(under) = under(context, &call.when) {
                self.call(node, known(context), call, &under);
            }
        }
        for (target, when) in taken {
            if under(context, when).is_some() {
                for target in self.targets(node.module, *target) {
                    self.take(node.module, target, Some((node, known(context))));
                }
            }
        }
    }

    fn site(&mut self, node: Node, known: Known, site: &Site, context: &Context) {
        let args = (0..3u8).map(|at| {
            let value = site.args.iter().find(|(place, _)| *place == at).map(|(_, value)| value)?;
            evaluate(value, context)
        });
        let made = Made { node, known, at: site.at, args: args.collect() };
        if site.number == Value::SetId {
            self.set_id.push(made);
            return;
        }
        let Some(numbers) = evaluate(&site.number, context) else {
            self.linked.unresolved.insert(made);
            return;
        };
        for number in numbers {
            let number = u32::try_from(number & 0xffff_ffff).unwrap_or(u32::MAX);
            let soname = self.graph.modules[node.module as usize].soname.as_deref();
            if soname.is_some_and(|soname| models::is_profiling(soname, number)) {
                continue;
            }
            match self.rare.site(node, number) {
                Some(waiting) => waiting.sites.push((number, made.clone())),
                None => {
                    self.linked.calls.entry(number).or_default().insert(made.clone());
                }
            }
        }
    }

    fn call(&mut self, node: Node, known: Known, call: &Call, context: &Context) {
        let module = &self.graph.modules[node.module as usize];
        let name = self.graph.import_name(node.module, call.to);
        if name.is_some_and(|name| self.ruled_out.never(node.module, name)) {
            return;
        }
        let wrapped = name.filter(|name| *name == "syscall").and(module.soname.as_deref());
        let wrapped = wrapped.and_then(models::wrapped);
        let asked = self.asked.iter().filter(|(at, _)| *at == node.module as usize).map(|(_, asked)| asked);
        let no_number =
            name == Some("syscall") && asked.clone().any(|asked| matches!(asked, Asked::NoNumber));
        let names = asked.clone().find_map(|asked| match asked {
            Asked::Names(names) => Some(&**names),
            Asked::NoNumber => None,
        });
        for target in self.targets(node.module, call.to) {
            if !self.graph.leads(target) || self.ruled_out.never_runs(target) {
                continue;
            }
            self.lookups.called(&self.graph, node, call, target, context, names);
            let passed = call.args.iter().filter(|(place, _)| self.graph.is_relevant(target, *place));
            let passed = passed.filter_map(|(place, value)| Some((*place, evaluate(value, context)?)));
            let mut passed: Context = passed.collect();
            if let Some(numbers) = &wrapped
                && self.graph.is_relevant(target, RDI)
                && !passed.iter().any(|(place, _)| *place == RDI)
            {
                passed.push((RDI, numbers.clone()));
                passed.sort_unstable();
            }
            if no_number && !passed.iter().any(|(place, _)| *place == RDI) {
                continue;
            }
            let from = Some((node, known));
            match self.rare.call(node.module, target) {
                Some(waiting) => waiting.calls.push((target, passed, from)),
                None => self.visit(target, passed, from),
            }
        }
    }
}

/// The context where these conditions hold, if they can.
fn under<'c>(context: &'c Context, when: &[Guard]) -> Option<Cow<'c, Context>> {
    let mut under = Cow::Borrowed(context);
    for guard in when {
        let Some(at) = under.iter().position(|(place, _)| *place == guard.place) else { continue };
        if under[at].1.iter().all(|value| guard.passes(*value)) {
            continue;
        }
        let values = &mut under.to_mut()[at].1;
        values.retain(|value| guard.passes(*value));
        if values.is_empty() {
            return None;
        }
    }
    Some(under)
}

fn evaluate(value: &Value, context: &Context) -> Option<Vec<u64>> {
    match value {
        Value::Any | Value::SetId => None,
        Value::One(value) => Some(vec![*value]),
        Value::OneOf(values) => Some(values.clone()),
        Value::Entry { place, low, plus } => {
            let (_, values) = context.iter().find(|(at, _)| at == place)?;
            let all = values.iter().flat_map(|value| handed_on(*value, *low, *plus));
            Some(all.collect::<BTreeSet<u64>>().into_iter().collect())
        }
    }
}
