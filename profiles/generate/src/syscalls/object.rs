//! One ELF file as code: where functions begin, what the loader writes where, who is imported.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use super::{function::Callee, step::Memory};
use crate::elf::{
    Elf,
    dynamic::{Dynamic, Written},
    unwind::{Frame, frames},
};

/// Functions of a C library that never come back, of which a program may have its own that do.
const UNRESERVED: &[&str] = &["err", "errx", "verr", "verrx"];

/// Functions of a C library that never come back.
const NEVER_RETURN: &[&str] = &[
    "abort",
    "exit",
    "_exit",
    "_Exit",
    "quick_exit",
    "__assert_fail",
    "__stack_chk_fail",
    "__fortify_fail",
    "__chk_fail",
    "__libc_fatal",
    "longjmp",
    "siglongjmp",
    "__longjmp_chk",
    "_longjmp",
    "pthread_exit",
    "__cxa_throw",
    "__cxa_rethrow",
    "_Unwind_Resume",
    "err",
    "errx",
    "verr",
    "verrx",
    "__libc_start_main",
    "_ZSt9terminatev",
    "__assert_perror_fail",
    "__assert",
    "thrd_exit",
    "__cxa_bad_cast",
    "__cxa_call_unexpected",
];

/// Addresses spread by themselves; a file that has them collide costs its own analysis time, which is bounded.
pub(crate) type Plain = std::hash::BuildHasherDefault<Address>;

#[derive(Default)]
pub(crate) struct Address(u64);

impl std::hash::Hasher for Address {
    fn finish(&self) -> u64 {
        // The table takes its place from the upper bits as well.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, address: u64) {
        self.0 = address;
    }
}

pub(crate) struct Object<'d> {
    pub(crate) elf: Elf<'d>,
    pub(crate) go: bool,
    frames: Vec<Frame>,
    /// Where functions are known to begin, in order.
    starts: Vec<u64>,
    /// Where jumps lead, in order.
    jumps: Vec<u64>,
    /// Addresses inside of functions that data holds.
    labels: BTreeSet<u64>,
    /// Names of imports, in the order of their numbers.
    pub(crate) imports: Vec<String>,
    pub(crate) soname: Option<String>,
    import_at: HashMap<u64, u32, Plain>,
    own_at: HashMap<u64, u64, Plain>,
    pub(crate) names: BTreeMap<u64, String>,
    pub(crate) exports: Vec<(String, u64)>,
    /// Functions whose address is in data, and those that the loader runs.
    pub(crate) roots: BTreeSet<u64>,
    pub(crate) root_imports: BTreeSet<u32>,
    /// Exports that are resolvers.
    pub(crate) resolvers: BTreeSet<u64>,
    /// What the loader alone reads.
    pub(crate) strings: std::ops::Range<u64>,
    /// Addresses, other than of functions, that code or data names.
    pub(crate) referred: HashSet<u64, Plain>,
    callees: RefCell<HashMap<u64, Callee, Plain>>,
    never_returning: BTreeSet<u32>,
    /// Starts of frames without a way out: no return, no jump elsewhere.
    no_way_out: HashSet<u64, Plain>,
    pub(crate) swept: u64,
    c_library: bool,
}

impl Memory for Object<'_> {
    fn import_at(&self, address: u64) -> Option<u32> {
        self.import_at.get(&address).copied()
    }

    fn constant_at(&self, address: u64, bytes: usize) -> Option<u64> {
        let fixed = self.elf.segments.iter().any(|segment| segment.has(address) && !segment.writable);
        if !fixed || self.own_at.contains_key(&address) {
            return None;
        }
        let bytes = self.elf.bytes(address, bytes).filter(|bytes| bytes.len() <= 8)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
}

impl<'d> Object<'d> {
    pub(crate) fn new(elf: Elf<'d>) -> Self {
        let dynamic = Dynamic::of(&elf);
        let frames = frames(&elf);
        let mut object = Self {
            go: false,
            frames,
            starts: Vec::new(),
            jumps: Vec::new(),
            labels: BTreeSet::new(),
            imports: Vec::new(),
            soname: dynamic.soname.clone(),
            import_at: HashMap::default(),
            own_at: HashMap::default(),
            names: BTreeMap::new(),
            exports: Vec::new(),
            roots: BTreeSet::new(),
            root_imports: BTreeSet::new(),
            resolvers: BTreeSet::new(),
            strings: dynamic.strings.clone(),
            referred: HashSet::default(),
            callees: RefCell::default(),
            never_returning: BTreeSet::new(),
            no_way_out: HashSet::default(),
            swept: 0,
            c_library: false,
            elf,
        };
        object.go(&dynamic);
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
        // cgo's C code has frames of the ordinary kind.
        frames.append(&mut self.frames);
        frames.sort_unstable();
        frames.dedup_by_key(|frame| frame.start);
        self.frames = frames;
    }

    fn symbols(&mut self, dynamic: &Dynamic) {
        for symbol in &dynamic.symbols {
            self.imports.push(symbol.name.clone());
            if symbol.defined && symbol.function && self.elf.is_code(symbol.address) {
                self.exports.push((symbol.name.clone(), symbol.address));
                if symbol.resolver {
                    self.resolvers.insert(symbol.address);
                }
                self.names.entry(symbol.address).or_insert_with(|| symbol.name.clone());
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
        for (at, name) in (0u32..).zip(&self.imports) {
            let own =
                UNRESERVED.contains(&name.as_str()) && self.exports.iter().any(|(export, _)| export == name);
            if NEVER_RETURN.contains(&name.as_str()) && !own {
                self.never_returning.insert(at);
            }
        }
    }

    /// Code addresses in data.
    fn relocations(&mut self, dynamic: &Dynamic) -> BTreeSet<u64> {
        let mut pointers = BTreeSet::new();
        for relocation in &dynamic.relocations {
            match relocation.written {
                Written::Own(address) | Written::Resolved(address) => {
                    self.own_at.insert(relocation.at, address);
                    self.referred.insert(address);
                    if self.elf.is_code(address) {
                        pointers.insert(address);
                    }
                }
                Written::Slot(symbol) => {
                    self.import_at.insert(relocation.at, symbol);
                }
                Written::Symbol(symbol) => {
                    let function = dynamic.symbols.get(symbol as usize);
                    if function.is_some_and(|symbol| symbol.function || !symbol.defined) {
                        self.root_imports.insert(symbol);
                    }
                }
            }
        }
        // A program that is not relocatable has its addresses in its data as they are.
        if !self.elf.relocatable || dynamic.relocations.is_empty() {
            // Linkers that keep constants apart from code are young: it has them there too.
            for segment in &self.elf.segments {
                let Some(bytes) = self.elf.data.get(segment.bytes.clone()) else { continue };
                let skip = usize::try_from(segment.start.next_multiple_of(8) - segment.start).unwrap_or(0);
                for word in bytes.get(skip..).unwrap_or_default().chunks_exact(8) {
                    let address = u64::from_le_bytes(word.try_into().unwrap_or_default());
                    if self.elf.is_code(address) {
                        pointers.insert(address);
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
        if self.elf.is_code(self.elf.entry) {
            starts.insert(self.elf.entry);
        }
        self.starts = starts.iter().copied().collect();
        for address in pointers {
            if self.is_function_address(address) {
                starts.insert(address);
                self.roots.insert(address);
            } else {
                self.labels.insert(address);
            }
        }
        self.sweep(&mut starts);
        self.starts = starts.into_iter().collect();
    }

    /// Goes over all code once: who is called, whose address is taken.
    fn sweep(&mut self, starts: &mut BTreeSet<u64>) {
        let ranges = self.ranges();
        let mut instruction = Instruction::default();
        let mut labels = Vec::new();
        let mut jumps = Vec::new();
        for (start, end) in ranges {
            let length = usize::try_from(end - start).unwrap_or(0);
            let Some(bytes) = self.elf.from(start) else { continue };
            let bytes = &bytes[..bytes.len().min(length)];
            let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
            let mut way_out =
                self.frame_of(start).is_none_or(|frame| (frame.start, frame.end) != (start, end));
            while decoder.can_decode() {
                decoder.decode_out(&mut instruction);
                self.swept += 1;
                way_out |= match instruction.flow_control() {
                    FlowControl::Return | FlowControl::IndirectBranch => true,
                    FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                        !(start..end).contains(&instruction.near_branch_target())
                    }
                    _ => instruction.is_invalid(),
                };
                let address = match instruction.flow_control() {
                    FlowControl::Call if instruction.op0_kind() == OpKind::NearBranch64 => {
                        let to = instruction.near_branch_target();
                        if self.elf.is_code(to) && matches!(self.callee(to), Callee::Address(_)) {
                            starts.insert(to);
                        }
                        continue;
                    }
                    FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                        jumps.push(instruction.near_branch_target());
                        continue;
                    }
                    FlowControl::Next if instruction.mnemonic() == Mnemonic::Lea => {
                        instruction.is_ip_rel_memory_operand().then(|| instruction.ip_rel_memory_address())
                    }
                    FlowControl::Next if !self.elf.relocatable && instruction.mnemonic() == Mnemonic::Mov => {
                        match instruction.op1_kind() {
                            OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64 => {
                                Some(instruction.immediate(1))
                            }
                            _ => None,
                        }
                    }
                    _ => None,
                };
                self.referred.extend(address.filter(|address| self.elf.from(*address).is_some()));
                if let Some(address) = address.filter(|address| self.elf.is_code(*address)) {
                    if self.is_function_address(address) {
                        starts.insert(address);
                    } else {
                        labels.push(address);
                    }
                }
            }
            if !way_out {
                self.no_way_out.insert(start);
            }
        }
        self.labels.extend(labels);
        jumps.sort_unstable();
        jumps.dedup();
        self.jumps = jumps;
    }

    /// The next address from `from` on that a jump leads to.
    pub(crate) fn next_jump(&self, from: u64) -> u64 {
        let at = self.jumps.partition_point(|jump| *jump < from);
        self.jumps.get(at).copied().unwrap_or(u64::MAX)
    }

    /// Frames, and the code between them.
    fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges = Vec::with_capacity(self.frames.len() * 2);
        for segment in self.elf.code() {
            let mut at = segment.start;
            let first = self.frames.partition_point(|frame| frame.start < segment.start);
            for frame in self.frames[first..].iter().take_while(|frame| frame.start < segment.end()) {
                if frame.start > at {
                    ranges.push((at, frame.start));
                }
                ranges.push((frame.start.max(at), frame.end.min(segment.end())));
                at = at.max(frame.end);
            }
            if at < segment.end() {
                ranges.push((at, segment.end()));
            }
        }
        ranges.retain(|(start, end)| start < end);
        ranges
    }

    /// Imports that the loader binds.
    pub(crate) fn bound(&self) -> BTreeSet<u32> {
        self.import_at.values().chain(&self.root_imports).copied().collect()
    }

    /// Addresses of code in data and in operands that no function was seen to begin at.
    pub(crate) fn labels(&self) -> impl Iterator<Item = u64> {
        self.labels.iter().copied()
    }

    pub(crate) fn is_code(&self, address: u64) -> bool {
        self.elf.is_code(address)
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
        self.elf.is_code(address)
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

    pub(crate) fn never_returns(&self, to: u64) -> bool {
        match self.callee(to) {
            Callee::Import(import) => self.never_returning.contains(&import),
            Callee::Address(to) => {
                self.no_way_out.contains(&to)
                    || self
                        .names
                        .get(&to)
                        .map(String::as_str)
                        .is_some_and(|name| NEVER_RETURN.contains(&name) && !UNRESERVED.contains(&name))
            }
        }
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

    /// Who is behind an address: a stub of the procedure linkage table stands for its import.
    pub(crate) fn callee(&self, to: u64) -> Callee {
        if let Some(known) = self.callees.borrow().get(&to) {
            return *known;
        }
        let callee = self.stub(to).unwrap_or(Callee::Address(to));
        self.callees.borrow_mut().insert(to, callee);
        callee
    }

    /// Whether a frame is that of the procedure linkage table: stubs are followed where they are called.
    pub(crate) fn is_linkage_table(&self, frame: &Frame) -> bool {
        if matches!(self.callee(frame.start), Callee::Import(_)) {
            return true;
        }
        let Some(first) = self.instruction(frame.start) else { return false };
        let pushes = first.mnemonic() == Mnemonic::Push && first.is_ip_rel_memory_operand();
        pushes
            && self
                .instruction(first.next_ip())
                .is_some_and(|next| next.mnemonic() == Mnemonic::Jmp && next.is_ip_rel_memory_operand())
    }

    fn stub(&self, to: u64) -> Option<Callee> {
        let mut instruction = self.instruction(to)?;
        if instruction.mnemonic() == Mnemonic::Endbr64 {
            instruction = self.instruction(instruction.next_ip())?;
        }
        if instruction.mnemonic() != Mnemonic::Jmp {
            return None;
        }
        if instruction.op0_kind() == OpKind::Memory && instruction.is_ip_rel_memory_operand() {
            let slot = instruction.ip_rel_memory_address();
            return self.import_at(slot).map(Callee::Import);
        }
        None
    }
}
