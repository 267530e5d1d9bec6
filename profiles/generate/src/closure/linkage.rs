//! What the loader reads of one file: kept, since the libraries of an image are those of many of its programs.

use std::{cell::OnceCell, rc::Rc};

use super::texts;
use crate::elf::{Elf, dynamic::Dynamic};

#[derive(Debug, Default)]
pub(super) struct Linkage {
    pub(super) needed: Vec<String>,
    pub(super) soname: Option<String>,
    pub(super) rpath: Option<String>,
    pub(super) runpath: Option<String>,
    pub(super) interpreter: bool,
    /// It imports a function that loads libraries by name.
    pub(super) loads: bool,
    bytes: Rc<Vec<u8>>,
    texts: OnceCell<Rc<Vec<Text>>>,
}

/// A text in the data of a file that may name what it loads.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    /// It names a shared library.
    pub(super) library: bool,
    /// Only the loader reads it: it is the file's own name, or one that it needs.
    pub(super) of_the_loader_alone: bool,
}

impl Linkage {
    /// Nothing for what is no ELF file of this machine.
    pub(super) fn of(bytes: &Rc<Vec<u8>>) -> Option<Self> {
        let elf = Elf::parse(bytes).ok()?;
        let Dynamic { needed, soname, rpath, runpath, symbols, .. } = Dynamic::of(&elf);
        let loads = symbols.iter().any(|symbol| !symbol.defined && is_loading(&symbol.name));
        let interpreter = elf.interpreter.is_some();
        let bytes = Rc::clone(bytes);
        Some(Self { needed, soname, rpath, runpath, interpreter, loads, bytes, texts: OnceCell::new() })
    }

    pub(super) fn is_c_library(&self) -> bool {
        self.soname.as_deref() == Some("libc.so.6")
    }

    /// Names of libraries, and absolute paths.
    pub(super) fn texts(&self) -> Rc<Vec<Text>> {
        let found = self.texts.get_or_init(|| {
            let Ok(elf) = Elf::parse(&self.bytes) else { return Rc::default() };
            let all = texts::texts(&elf).into_iter().map(|text| {
                let library = texts::is_library(&text);
                let of_the_loader_alone =
                    library && texts::is_of_the_loader_alone(&elf, &self.needed, &self.soname, &text);
                Text { text, library, of_the_loader_alone }
            });
            Rc::new(all.collect())
        });
        Rc::clone(found)
    }
}

fn is_loading(name: &str) -> bool {
    matches!(name, "dlopen" | "dlmopen" | "__libc_dlopen_mode" | "g_module_open" | "lt_dlopen")
}
