//! Functions that are found by their name while the program runs: dlsym(3).
//!
//! A name that is a constant, there or in who calls the function that asks, is that one. Otherwise it may be any text in
//! the data of any file.

use std::collections::{BTreeSet, HashSet};

use super::{
    super::{
        models,
        summary::{Call, Summary, Value},
    },
    Context, Node, RSI, evaluate,
    graph::Graph,
};

pub(super) struct Lookups {
    /// Functions that find others by name.
    finders: HashSet<Node>,
    names: BTreeSet<String>,
    /// Some name is not known.
    any: bool,
    /// How much was handed out: names, and whether all texts were.
    handed_out: (BTreeSet<String>, bool),
    /// Modules that ask for a name that is not known.
    pub(super) unknown: BTreeSet<u32>,
}

impl Lookups {
    pub(super) fn of(graph: &Graph<'_>) -> Self {
        let finders = models::LOOKUPS.iter().flat_map(|name| graph.exported(name)).copied().collect();
        Self {
            finders,
            names: BTreeSet::new(),
            any: false,
            handed_out: (BTreeSet::new(), false),
            unknown: BTreeSet::new(),
        }
    }

    /// `target` may be called by whoever has its address, with any name.
    pub(super) fn taken(&mut self, by: u32, target: Node) {
        if self.finders.contains(&target) {
            self.any = true;
            self.unknown.insert(by);
        }
    }

    /// `asked`: the names that scripts can have the module ask for, besides its own constants.
    pub(super) fn called(
        &mut self,
        graph: &Graph<'_>,
        by: Node,
        call: &Call,
        target: Node,
        context: &Context,
        asked: Option<&BTreeSet<String>>,
    ) {
        if !self.finders.contains(&target) {
            return;
        }
        let own = &graph.modules[by.module as usize];
        let name = call.args.iter().find(|(place, _)| *place == RSI).map(|(_, value)| value);
        let addresses = name.and_then(|value| evaluate(value, context));
        let mut is_known = addresses.is_some();
        // Nothing is found by no name.
        for address in addresses.into_iter().flatten().filter(|address| *address != 0) {
            let texts: Vec<&str> = match name.and_then(Value::constants) {
                Some(_) => own.literal(address).into_iter().collect(),
                // It came from a caller: in whichever file that was.
                None => graph.modules.iter().filter_map(|module| module.literal(address)).collect(),
            };
            is_known &= !texts.is_empty();
            self.names.extend(texts.into_iter().map(str::to_owned));
        }
        if is_known {
            return;
        }
        let known = own.soname.as_deref().and_then(models::looked_up);
        match (known.filter(|(_, wrappers)| !imports_any(graph, wrappers)), asked) {
            (Some((names, _)), _) => self.names.extend(names.iter().map(|name| (*name).to_owned())),
            (None, Some(asked)) => self.names.extend(asked.iter().cloned()),
            (None, None) => self.taken(by.module, target),
        }
    }

    /// Functions, and stretches of data by their module, that were asked for since this was asked last.
    pub(super) fn found(&mut self, graph: &Graph<'_>) -> (Vec<Node>, Vec<(u32, u8)>) {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        if self.any && !std::mem::replace(&mut self.handed_out.1, true) {
            let tells = |module: &Summary| {
                let exports = module.soname.as_deref().and_then(models::tells);
                exports.is_none_or(|exports| looks_up(module) || imports_any(graph, exports))
            };
            let told = graph.modules.iter().filter(|module| tells(module));
            names.extend(told.flat_map(|module| &module.names).map(String::as_str));
        }
        names.extend(self.names.difference(&self.handed_out.0).map(String::as_str));
        let data = super::data::named(graph.modules, |name| names.contains(name));
        let found = names.into_iter().flat_map(|name| graph.exported(name)).copied().collect();
        self.handed_out.0.clone_from(&self.names);
        (found, data)
    }
}

fn looks_up(module: &Summary) -> bool {
    module.imports.iter().any(|import| models::LOOKUPS.contains(&import.as_str()))
}

fn imports_any(graph: &Graph<'_>, names: &[&str]) -> bool {
    graph.modules.iter().any(|module| {
        module.imports.iter().any(|import| {
            names.contains(&import.as_str()) && module.exports.iter().all(|(export, _)| export != import)
        })
    })
}
