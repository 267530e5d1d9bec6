//! One ELF file as code: where functions begin, what the loader writes where, who is imported.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::{
    address::{AddressMap, AddressSet},
    data::Stretches,
    function::Callee,
    models,
    operand::Memory,
    outline::Outline,
};
use crate::elf::{
    Elf,
    dynamic::{Dynamic, Written},
    unwind::{Frame, Frames, frames},
};

pub(crate) struct Object<'d> {
    pub(crate) elf: Elf<'d>,
    pub(crate) go: bool,
    pub(crate) swift: bool,
    pub(super) frames: Vec<Frame>,
    /// All code lies within.
    code: Range<u64>,
    /// The code that Go's own table of functions lists.
    go_code: Range<u64>,
    /// Where functions are known to begin, in order.
    starts: Vec<u64>,
    /// Where jumps lead, in order.
    pub(super) jumps: Vec<u64>,
    /// Addresses inside of functions that data holds.
    pub(super) labels: BTreeSet<u64>,
    /// Names of imports, in the order of their numbers.
    pub(crate) imports: Vec<String>,
    /// By number of import: the function of this file that has that symbol.
    own_symbols: Vec<Option<u64>>,
    pub(crate) soname: Option<String>,
    import_at: AddressMap<u32>,
    own_at: AddressMap<u64>,
    /// Functions of this file by the place in the global offset table that has their address.
    own_slots: AddressMap<u64>,
    pub(crate) names: BTreeMap<u64, String>,
    pub(crate) exports: Vec<(String, u64)>,
    pub(super) exported: AddressSet,
    /// Functions whose address is in data, and those that the loader runs.
    pub(crate) roots: BTreeSet<u64>,
    pub(crate) root_imports: BTreeSet<u32>,
    /// Those of both that can be called from the start, whoever refers to data.
    pub(crate) always: BTreeSet<u64>,
    pub(crate) always_imports: BTreeSet<u32>,
    pub(super) stretches: Stretches,
    /// Symbols of data: name and address.
    pub(super) data_exports: Vec<(String, u64)>,
    /// Exports that are resolvers.
    pub(crate) resolvers: BTreeSet<u64>,
    /// What the loader alone reads.
    pub(crate) strings: std::ops::Range<u64>,
    /// Addresses, other than of functions, that code or data names.
    pub(crate) referred: AddressSet,
    /// Words of 8 bytes, by their number, that an instruction names and may write to, where Go's linker made the file.
    pub(super) stored: AddressSet,
    pub(super) callees: RefCell<AddressMap<Callee>>,
    pub(super) never_returning: BTreeSet<u32>,
    /// By address: whether a call of it comes back twice.
    pub(super) twice: RefCell<AddressMap<bool>>,
    /// Starts of frames without a way out: no return, no jump elsewhere.
    pub(super) no_way_out: AddressSet,
    /// Starts of frames of which nothing is to be found out.
    pub(super) plain: AddressSet,
    /// By start: whom those frames call of which that is all that is asked.
    pub(super) outlines: AddressMap<Outline>,
    pub(crate) swept: u64,
    c_library: bool,
}

impl Memory for Object<'_> {
    fn import_at(&self, address: u64) -> Option<u32> {
        self.import_at.get(&address).copied()
    }

    fn constant_at(&self, address: u64, bytes: usize) -> Option<u64> {
        if let Some(function) = self.own_slot(address).filter(|_| bytes == 8) {
            return Some(function);
        }
        let fixed = self.elf.segments.iter().any(|segment| segment.has(address) && !segment.writable);
        if !fixed || self.own_at.contains_key(&address) {
            return None;
        }
        let bytes = self.elf.bytes(address, bytes).filter(|bytes| bytes.len() <= 8)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn variable_at(&self, address: u64, reader: u64) -> Option<u64> {
        let value = self.elf.u64(address).filter(|value| self.go && models::VARIABLES.contains(value))?;
        // Of a field it is where the structure begins that is named and written through: who reads it says which it is.
        let name = self.names.get(&self.frame_of(reader)?.start)?;
        if !models::reads_variable(name) {
            return None;
        }
        let is_named = (address..address + 8).any(|at| self.referred.contains(&at));
        let is_stored = [address, address + 7].iter().any(|at| self.stored.contains(&(at / 8)));
        (!is_named && !is_stored && !self.own_at.contains_key(&address)).then_some(value)
    }
}

impl<'d> Object<'d> {
    pub(crate) fn new(elf: Elf<'d>) -> Self {
        let dynamic = Dynamic::of(&elf);
        let Frames { frames, whole } = frames(&elf);
        let mut object = Self {
            go: false,
            swift: elf.is_swift(),
            frames,
            code: code_of(&elf),
            go_code: 0..0,
            starts: Vec::new(),
            jumps: Vec::new(),
            labels: BTreeSet::new(),
            imports: Vec::new(),
            own_symbols: Vec::new(),
            soname: dynamic.soname.clone(),
            import_at: AddressMap::default(),
            own_at: AddressMap::default(),
            own_slots: AddressMap::default(),
            names: BTreeMap::new(),
            exports: Vec::new(),
            exported: AddressSet::default(),
            roots: BTreeSet::new(),
            root_imports: BTreeSet::new(),
            always: BTreeSet::new(),
            always_imports: BTreeSet::new(),
            stretches: Stretches::default(),
            data_exports: Vec::new(),
            resolvers: BTreeSet::new(),
            strings: dynamic.strings.clone(),
            referred: AddressSet::default(),
            stored: AddressSet::default(),
            callees: RefCell::default(),
            never_returning: BTreeSet::new(),
            twice: RefCell::default(),
            no_way_out: AddressSet::default(),
            plain: AddressSet::default(),
            outlines: AddressMap::default(),
            swept: 0,
            c_library: false,
            elf,
        };
        object.go(&dynamic);
        let has_landing_pads = !whole || object.frames.iter().any(|frame| frame.landing_pads);
        if !object.go {
            object.stretches = Stretches::of(&object.elf, &dynamic, has_landing_pads);
        }
        object.symbols(&dynamic);
        let pointers = object.relocations(&dynamic);
        object.begin(&dynamic, pointers);
        object
    }

    fn go(&mut self, _dynamic: &Dynamic) {
        let functions = crate::elf::go::functions(&self.elf);
        if functions.is_empty() {
            return;
        }
        self.go = true;
        let mut frames: Vec<Frame> = Vec::with_capacity(functions.len());
        for (start, end, name) in functions {
            frames.push(Frame { start, end, landing_pads: false });
            self.names.insert(start, name);
        }
        self.go_code = frames.iter().map(|frame| frame.start).min().unwrap_or(0)
            ..frames.iter().map(|frame| frame.end).max().unwrap_or(0);
        // cgo's C code has frames of the ordinary kind.
        frames.append(&mut self.frames);
        frames.sort_unstable();
        frames.dedup_by_key(|frame| frame.start);
        self.frames = frames;
    }

    fn symbols(&mut self, dynamic: &Dynamic) {
        for symbol in &dynamic.symbols {
            self.imports.push(symbol.name.clone());
            let is_own = symbol.defined && symbol.function && self.elf.is_code(symbol.address);
            self.own_symbols.push(is_own.then_some(symbol.address));
            if is_own {
                self.exports.push((symbol.name.clone(), symbol.address));
                self.exported.insert(symbol.address);
                if symbol.resolver {
                    self.resolvers.insert(symbol.address);
                }
                self.names.entry(symbol.address).or_insert_with(|| symbol.name.clone());
            } else if symbol.defined && self.stretches.at(symbol.address).is_some() {
                self.data_exports.push((symbol.name.clone(), symbol.address));
            }
        }
        for (address, _, name) in self.elf.debug_names() {
            if self.elf.is_code(address) && !name.is_empty() {
                self.names.entry(address).or_insert(name);
            }
        }
        let has = |wanted: &str| {
            self.exports.iter().any(|(name, _)| name == wanted)
                || self.names.values().any(|name| name == wanted)
        };
        self.c_library = has("setresuid") && has("pthread_create") && has("fopen");
        self.never_returning = self.imports_that_never_return();
    }

    /// Code addresses in data.
    fn relocations(&mut self, dynamic: &Dynamic) -> BTreeSet<u64> {
        let mut pointers = BTreeSet::new();
        let table = self.elf.global_offset_table();
        for relocation in &dynamic.relocations {
            match relocation.written {
                Written::Own(address) if table.contains(&relocation.at) && self.elf.is_code(address) => {
                    self.own_at.insert(relocation.at, address);
                    self.own_slots.insert(relocation.at, address);
                }
                Written::Own(address) | Written::Resolved(address) => {
                    self.own_at.insert(relocation.at, address);
                    self.referred.insert(address);
                    if self.elf.is_code(address) {
                        pointers.insert(address);
                        let resolved = matches!(relocation.written, Written::Resolved(_));
                        if resolved || self.stretches.at(relocation.at).is_none() {
                            self.always.insert(address);
                        }
                    }
                }
                Written::Slot(symbol) => {
                    self.import_at.insert(relocation.at, symbol);
                }
                Written::Symbol(symbol) => {
                    let function = dynamic.symbols.get(symbol as usize);
                    if function.is_some_and(|symbol| symbol.function || !symbol.defined) {
                        self.root_imports.insert(symbol);
                        if self.stretches.at(relocation.at).is_none() {
                            self.always_imports.insert(symbol);
                        }
                    }
                }
            }
        }
        // A program that is not relocatable has its addresses in its data as they are.
        if !self.elf.relocatable || dynamic.relocations.is_empty() {
            // Linkers that keep constants apart from code are young: it has them there too.
            for segment in &self.elf.segments {
                let Some(bytes) = self.elf.data.get(segment.bytes.clone()) else { continue };
                let first = segment.start.next_multiple_of(8);
                let skip = usize::try_from(first - segment.start).unwrap_or(0);
                for (at, word) in
                    (first..).step_by(8).zip(bytes.get(skip..).unwrap_or_default().chunks_exact(8))
                {
                    // Who asks the loader for a symbol of an address gets that: there is no other reader.
                    if dynamic.symbol_table.contains(&at) {
                        continue;
                    }
                    let address = u64::from_le_bytes(word.try_into().unwrap_or_default());
                    if self.elf.is_code(address) {
                        pointers.insert(address);
                        self.always.insert(address);
                    }
                    if self.elf.from(address).is_some() {
                        self.referred.insert(address);
                    }
                }
            }
        }
        pointers
    }

    fn begin(&mut self, dynamic: &Dynamic, pointers: BTreeSet<u64>) {
        let mut starts: BTreeSet<u64> = self.names.keys().copied().collect();
        starts.extend(dynamic.init.iter().copied().filter(|at| self.elf.is_code(*at)));
        self.roots.extend(dynamic.init.iter().copied().filter(|at| self.elf.is_code(*at)));
        self.always.extend(&self.roots);
        if self.elf.is_code(self.elf.entry) {
            starts.insert(self.elf.entry);
        }
        starts.extend(self.own_slots.values().copied());
        self.starts = starts.iter().copied().collect();
        for address in pointers {
            if self.is_function_address(address) {
                starts.insert(address);
                self.roots.insert(address);
            } else {
                self.labels.insert(address);
            }
        }
        let outlines = self.sweep(&mut starts);
        if self.stretches.len() == 0 {
            self.always.clone_from(&self.roots);
            self.always_imports.clone_from(&self.root_imports);
        }
        self.always.retain(|address| self.roots.contains(address));
        self.starts = starts.into_iter().collect();
        self.keep_outlines(outlines);
    }

    /// Stretches of data that an instruction refers to.
    pub(super) fn referred(&self, instruction: &Instruction) -> BTreeSet<u8> {
        // Of code that no table lists any address may be one that somebody jumps to.
        let is_code = |address| {
            self.is_code(address) && self.frame_of(address).is_none_or(|frame| frame.start == address)
        };
        self.stretches.referred(&self.elf, instruction, is_code)
    }

    /// Stretches that can be reached with an address.
    pub(super) fn reached(&self, address: u64) -> BTreeSet<u8> {
        self.stretches.reached(&self.elf, address)
    }

    /// The function of this file whose address the loader writes at `address`, for code alone.
    pub(crate) fn own_slot(&self, address: u64) -> Option<u64> {
        self.own_slots.get(&address).copied()
    }

    /// The function of this file that an import is where no other file has its name.
    pub(super) fn own_symbol(&self, import: u32) -> Option<u64> {
        self.own_symbols.get(import as usize).copied().flatten()
    }

    /// The next address from `from` on that a jump leads to.
    pub(crate) fn next_jump(&self, from: u64) -> u64 {
        let at = self.jumps.partition_point(|jump| *jump < from);
        self.jumps.get(at).copied().unwrap_or(u64::MAX)
    }

    /// Imports that the loader binds.
    pub(crate) fn bound(&self) -> BTreeSet<u32> {
        self.import_at.values().chain(&self.root_imports).copied().collect()
    }

    /// Addresses of code in data and in operands that no function was seen to begin at, and that may be called.
    ///
    /// In Go's own code none is: a function value has where a function begins, and the address of a block is in a table
    /// that its own function jumps through. Other numbers only look like one, as that of a few milliseconds does.
    pub(crate) fn labels(&self) -> impl Iterator<Item = u64> {
        self.labels.iter().copied().filter(|label| !self.go_code.contains(label))
    }

    pub(crate) fn is_code(&self, address: u64) -> bool {
        self.code.contains(&address) && self.elf.is_code(address)
    }

    /// Whether this is a C library: it exports what only that does.
    pub(crate) fn is_c_library(&self) -> bool {
        self.c_library
    }

    pub(crate) fn is_start(&self, address: u64) -> bool {
        self.starts.binary_search(&address).is_ok()
    }

    pub(crate) fn next_start(&self, from: u64) -> u64 {
        let at = self.starts.partition_point(|start| *start < from);
        self.starts.get(at).copied().unwrap_or(u64::MAX)
    }

    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    pub(crate) fn frame_of(&self, address: u64) -> Option<Frame> {
        let at = self.frames.partition_point(|frame| frame.start <= address).checked_sub(1)?;
        self.frames.get(at).copied().filter(|frame| address < frame.end)
    }

    /// Whether code at `to` may belong to the same function as `entry`: to its range, or to a part that was split off.
    pub(crate) fn same_frame(&self, entry: u64, to: u64) -> bool {
        match (self.frame_of(entry), self.frame_of(to)) {
            (Some(own), Some(other)) => own == other || !self.is_start(other.start),
            (None, None) => true,
            _ => false,
        }
    }

    /// An address that is in data or in an operand: of a function, or a number that looks like one?
    pub(crate) fn is_function_address(&self, address: u64) -> bool {
        self.is_code(address)
            && match self.frame_of(address) {
                Some(frame) => frame.start == address || self.is_start(address),
                None => true,
            }
    }

    /// Addresses in data that lie within the function at `entry`.
    pub(crate) fn labels_within(&self, entry: u64) -> Vec<u64> {
        let end = match self.frame_of(entry) {
            Some(frame) => frame.end,
            None => self.next_start(entry + 1),
        };
        self.labels.range(entry..end.max(entry)).copied().collect()
    }

    pub(crate) fn instruction(&self, at: u64) -> Option<Instruction> {
        let bytes = self.elf.from(at)?;
        let mut decoder = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE);
        let instruction = decoder.decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// A word of data, as the loader leaves it.
    pub(crate) fn pointer(&self, at: u64) -> Option<u64> {
        self.own_at.get(&at).copied().or_else(|| self.elf.u64(at))
    }
}

fn code_of(elf: &Elf<'_>) -> Range<u64> {
    let start = elf.code().map(|segment| segment.start).min().unwrap_or(0);
    start..elf.code().map(crate::elf::Segment::end).max().unwrap_or(0)
}
