//! Calls of other files, and functions, that a library has and, as its source says, does not come to in this program.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    super::{
        models,
        summary::{Function, Summary, Target},
    },
    Node,
};

pub(super) struct RuledOut {
    /// By module: the imports that it does not call.
    imports: Vec<(u32, &'static [&'static str])>,
    functions: BTreeSet<Node>,
}

impl RuledOut {
    /// `loaded`: modules of which any export may be looked up.
    pub(super) fn of(modules: &[Rc<Summary>], loaded: &[usize]) -> Self {
        let (mut imports, mut functions) = (Vec::new(), BTreeSet::new());
        for (at, module) in (0u32..).zip(modules) {
            let Some(soname) = module.soname.as_deref() else { continue };
            for (number, function) in (0u32..).zip(&module.functions) {
                if models::not_run(soname, called(module, function)) {
                    functions.insert(Node { module: at, function: number });
                }
            }
            let Some(rule) = models::not_called(soname) else { continue };
            let others = || modules.iter().filter(|other| !Rc::ptr_eq(other, module));
            let asks = |other: &Rc<Summary>| {
                other.imports.iter().chain(&other.names).any(|name| rule.causes.contains(&name.as_str()))
            };
            let is_loaded = loaded.contains(&(at as usize));
            let is_that_version =
                rule.has.iter().all(|name| module.imports.iter().any(|import| import == name));
            if is_that_version && (rule.causes.is_empty() || !is_loaded && !others().any(asks)) {
                imports.push((at, rule.imports));
            }
        }
        Self { imports, functions }
    }

    /// Whether a module's call of this import never happens.
    pub(super) fn never(&self, module: u32, import: &str) -> bool {
        self.imports.iter().any(|(at, imports)| *at == module && imports.contains(&import))
    }

    /// Whether a function is never called by its own file.
    pub(super) fn never_runs(&self, node: Node) -> bool {
        self.functions.contains(&node)
    }
}

/// The imports that a function calls.
fn called<'m>(module: &'m Summary, function: &'m Function) -> impl Iterator<Item = &'m str> + Clone {
    function.calls.iter().filter_map(|call| match call.to {
        Target::Import(import) => module.imports.get(import as usize).map(String::as_str),
        Target::Own(_) => None,
    })
}
