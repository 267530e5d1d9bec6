//! Data of a file that others name: by import, or through dlsym(3).

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::super::summary::Summary;

/// Stretches with a symbol of data of which `wanted` says that somebody asks for it.
pub(super) fn named(modules: &[Rc<Summary>], wanted: impl Fn(&str) -> bool) -> Vec<(u32, u8)> {
    let mut found = Vec::new();
    for (at, module) in (0u32..).zip(modules) {
        for (_, stretches) in module.data_exports.iter().filter(|(name, _)| wanted(name)) {
            found.extend(stretches.iter().map(|stretch| (at, *stretch)));
        }
    }
    found
}

/// Those of which two files of the program have a symbol of the same name: one has the data, the other asks for it.
pub(super) fn imported(modules: &[Rc<Summary>]) -> Vec<(u32, u8)> {
    let exports = modules.iter().flat_map(|module| &module.data_exports);
    let exported: HashSet<&str> = exports.map(|(name, _)| name.as_str()).collect();
    let mut files: HashMap<&str, HashSet<u32>> = HashMap::new();
    for (at, module) in (0u32..).zip(modules) {
        // All symbols of a file, its own among them.
        for name in module.imports.iter().map(String::as_str).filter(|name| exported.contains(name)) {
            files.entry(name).or_default().insert(at);
        }
    }
    named(modules, |name| files.get(name).is_some_and(|files| files.len() > 1))
}
