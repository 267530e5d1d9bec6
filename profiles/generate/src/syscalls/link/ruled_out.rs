//! Calls of other files that a library has and, as its source says, does not make in this program.

use std::rc::Rc;

use super::super::{models, summary::Summary};

/// By module: the imports that it does not call.
pub(super) struct RuledOut(Vec<(u32, &'static [&'static str])>);

impl RuledOut {
    /// `loaded`: modules of which any export may be looked up.
    pub(super) fn of(modules: &[Rc<Summary>], loaded: &[usize]) -> Self {
        let mut found = Vec::new();
        for (at, module) in (0u32..).zip(modules) {
            let Some((imports, causes)) = module.soname.as_deref().and_then(models::ruled_out) else {
                continue;
            };
            let others = || modules.iter().filter(|other| !Rc::ptr_eq(other, module));
            let asks = |other: &Rc<Summary>| {
                other.imports.iter().chain(&other.names).any(|name| causes.contains(&name.as_str()))
            };
            let is_loaded = loaded.contains(&(at as usize));
            if causes.is_empty() || !is_loaded && !others().any(asks) {
                found.push((at, imports));
            }
        }
        Self(found)
    }

    /// Whether a module's call of this import never happens.
    pub(super) fn never(&self, module: u32, import: &str) -> bool {
        self.0.iter().any(|(at, imports)| *at == module && imports.contains(&import))
    }
}
