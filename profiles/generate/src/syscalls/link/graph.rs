//! All functions of a program, whom each may call, and which of their arguments decide anything.

use std::{collections::HashMap, rc::Rc};

use super::{
    super::{
        models,
        summary::{Call, Place, Summary, Target, Value},
    },
    Node,
};

pub(super) struct Graph<'p> {
    pub(super) modules: &'p [Rc<Summary>],
    /// Number of each module's first function.
    first: Vec<usize>,
    /// By name: all functions that are exported so.
    exports: HashMap<&'p str, Vec<Node>>,
    /// For each import of each module, the functions that it may be: all of that name.
    imports: Vec<Vec<Vec<Node>>>,
    /// By number of function: places that decide something, there or further on.
    relevant: Vec<u32>,
    /// By number of function: places that are a name to look up or a number of a call, of which any is not all.
    particular: Vec<u32>,
    /// By number of function: whether anything is to be found there, or further on.
    leads: Vec<bool>,
}

fn bit(place: Place) -> u32 {
    1 << place
}

impl<'p> Graph<'p> {
    pub(super) fn of(modules: &'p [Rc<Summary>]) -> Self {
        let mut exports: HashMap<&str, Vec<Node>> = HashMap::new();
        let (mut first, mut count) = (Vec::new(), 0);
        for (module, summary) in (0u32..).zip(modules) {
            first.push(count);
            count += summary.functions.len();
            for (name, function) in &summary.exports {
                let nodes = exports.entry(name).or_default();
                let node = Node { module, function: *function };
                if !nodes.contains(&node) {
                    nodes.push(node);
                }
            }
        }
        let of = |name: &String| exports.get(name.as_str()).cloned().unwrap_or_default();
        let imports = modules.iter().map(|summary| summary.imports.iter().map(of).collect()).collect();
        let (relevant, particular, leads) = (vec![0; count], vec![0; count], vec![false; count]);
        let mut graph = Self { modules, first, exports, imports, relevant, particular, leads };
        graph.lead();
        graph.relevance();
        graph
    }

    pub(super) fn number(&self, node: Node) -> usize {
        self.first[node.module as usize] + node.function as usize
    }

    pub(super) fn functions(&self) -> usize {
        self.relevant.len()
    }

    pub(super) fn is_relevant(&self, node: Node, place: Place) -> bool {
        self.relevant[self.number(node)] & bit(place) != 0
    }

    pub(super) fn is_particular(&self, node: Node, place: Place) -> bool {
        self.particular[self.number(node)] & bit(place) != 0
    }

    pub(super) fn leads(&self, node: Node) -> bool {
        self.leads[self.number(node)]
    }

    pub(super) fn exported(&self, name: &str) -> &[Node] {
        self.exports.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn targets(&self, module: u32, target: Target) -> impl Iterator<Item = Node> + '_ {
        let (own, imported) = match target {
            Target::Own(function) => (Some(Node { module, function }), None),
            Target::Import(import) => (None, self.imports[module as usize].get(import as usize)),
        };
        own.into_iter().chain(imported.into_iter().flatten().copied())
    }

    pub(super) fn import_name(&self, module: u32, target: Target) -> Option<&str> {
        match target {
            Target::Own(_) => None,
            Target::Import(import) => {
                self.modules[module as usize].imports.get(import as usize).map(String::as_str)
            }
        }
    }

    fn nodes(&self) -> impl Iterator<Item = Node> + 'p {
        (0u32..).zip(self.modules).flat_map(|(module, summary)| {
            (0u32..).zip(&summary.functions).map(move |(function, _)| Node { module, function })
        })
    }

    fn calls(&self, node: Node) -> &'p [Call] {
        &self.modules[node.module as usize].functions[node.function as usize].calls
    }

    /// What leads to a system call, to an address that is taken, to data, or to a function that is asked for by its name.
    fn lead(&mut self) {
        let mut callers: Vec<Vec<Node>> = vec![Vec::new(); self.functions()];
        let mut queue: Vec<Node> =
            models::asked_for().flat_map(|name| self.exported(name).to_vec()).collect();
        for node in self.nodes() {
            let function = &self.modules[node.module as usize].functions[node.function as usize];
            if !function.sites.is_empty() || !function.taken.is_empty() || !function.data.is_empty() {
                queue.push(node);
            }
            for call in self.calls(node) {
                for target in self.targets(node.module, call.to) {
                    callers[self.number(target)].push(node);
                }
            }
        }
        while let Some(node) = queue.pop() {
            let number = self.number(node);
            if !std::mem::replace(&mut self.leads[number], true) {
                queue.append(&mut callers[number]);
            }
        }
    }

    fn relevance(&mut self) {
        // By number of callee: who hands an argument of its own on to it.
        let mut passes: Vec<Vec<(Node, &Call)>> = vec![Vec::new(); self.functions()];
        let mut queue = Vec::new();
        for node in self.nodes() {
            let function = &self.modules[node.module as usize].functions[node.function as usize];
            let mut places = 0;
            for call in &function.calls {
                let leads = self.targets(node.module, call.to).any(|target| self.leads(target));
                if !leads {
                    continue;
                }
                places |= call.when.iter().fold(0, |places, guard| places | bit(guard.place));
                if call.args.iter().any(|(_, value)| matches!(value, Value::Entry { .. })) {
                    for target in self.targets(node.module, call.to) {
                        passes[self.number(target)].push((node, call));
                    }
                }
            }
            let conditions = function.sites.iter().flat_map(|site| &site.when);
            let conditions = conditions.chain(function.taken.iter().flat_map(|(_, when)| when));
            places |= conditions.fold(0, |places, guard| places | bit(guard.place));
            for site in &function.sites {
                for value in std::iter::once(&site.number).chain(site.args.iter().map(|(_, value)| value)) {
                    if let Value::Entry { place, .. } = value {
                        places |= bit(*place);
                    }
                }
            }
            self.add(node, places, &mut queue);
        }
        for name in models::LOOKUPS {
            for node in self.exported(name).to_vec() {
                self.add(node, bit(super::RSI), &mut queue);
            }
        }
        while let Some(node) = queue.pop() {
            let theirs = self.relevant[self.number(node)];
            for (caller, call) in &passes[self.number(node)] {
                self.add(*caller, handed(call, theirs), &mut queue);
            }
        }
        for name in models::LOOKUPS {
            for node in self.exported(name).to_vec() {
                let number = self.number(node);
                self.particular[number] |= bit(super::RSI);
                queue.push(node);
            }
        }
        for node in self.nodes() {
            let sites = &self.modules[node.module as usize].functions[node.function as usize].sites;
            let numbers = sites.iter().filter_map(|site| match site.number {
                Value::Entry { place, .. } => Some(bit(place)),
                _ => None,
            });
            let places = numbers.fold(0, |places, place| places | place);
            if places != 0 {
                let number = self.number(node);
                self.particular[number] |= places;
                queue.push(node);
            }
        }
        while let Some(node) = queue.pop() {
            let theirs = self.particular[self.number(node)];
            for (caller, call) in &passes[self.number(node)] {
                let (number, places) = (self.number(*caller), handed(call, theirs));
                if self.particular[number] | places != self.particular[number] {
                    self.particular[number] |= places;
                    queue.push(*caller);
                }
            }
        }
    }

    fn add(&mut self, node: Node, places: u32, queue: &mut Vec<Node>) {
        let number = self.number(node);
        if self.relevant[number] | places != self.relevant[number] {
            self.relevant[number] |= places;
            queue.push(node);
        }
    }
}

/// The caller's own places that a call hands on in any of `places`.
fn handed(call: &Call, places: u32) -> u32 {
    let passed = call.args.iter().filter(|(to, _)| places & bit(*to) != 0);
    passed.fold(0, |places, (_, value)| match value {
        Value::Entry { place, .. } => places | bit(*place),
        _ => places,
    })
}
