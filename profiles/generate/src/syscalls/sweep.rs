//! One pass over all code of a file: who is called, whose address is taken, where jumps lead, and which functions do
//! nothing that anybody asks about.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::{
    address::{AddressMap, AddressSet},
    function::Callee,
    leads::{Ends, Links},
    object::Object,
    operand::Memory as _,
    outline::{Outline, goes_by_arguments},
    tables,
};

/// What the pass found besides where functions begin.
#[derive(Default)]
pub(super) struct Swept {
    /// Addresses inside of functions that operands hold.
    labels: BTreeSet<u64>,
    jumps: Vec<u64>,
    no_way_out: AddressSet,
    plain: AddressSet,
    referred: AddressSet,
    stored: AddressSet,
    instructions: u64,
    tables: tables::Read,
    /// Some code computes with the address of the global offset table.
    computes: bool,
    links: Links,
}

/// What a range of code does, as far as its instructions tell one by one.
struct Range {
    start: u64,
    end: u64,
    /// It returns, or jumps elsewhere.
    way_out: bool,
    /// It calls nobody, enters no kernel, takes no address of a function and jumps only within itself.
    plain: bool,
    /// Its last instruction may be followed by the next range.
    falls_through: bool,
    /// The same, and that is not a call, which may not come back.
    ends_open: bool,
    /// Whom it calls, where that is told by its instructions one by one.
    outline: Option<Outline>,
    /// Where its instructions begin, and where its jumps lead that stay within.
    instructions: Vec<u64>,
    inner_jumps: Vec<u64>,
    /// Where tables may lie that it jumps through.
    tables: Vec<u64>,
    ends: Ends,
    /// Where it calls and jumps to beyond itself.
    leads_to: Vec<u64>,
}

impl Object<'_> {
    /// Goes over all code; the functions that are called, or whose address is taken, are added to `starts`.
    /// Answers whom frames call.
    pub(super) fn sweep(&mut self, starts: &mut BTreeSet<u64>) -> AddressMap<Outline> {
        let mut swept = Swept::default();
        let mut outlines = AddressMap::default();
        let huge = self.is_huge();
        for (start, end) in self.ranges() {
            let is_frame = self.frame_of(start).is_some_and(|frame| (frame.start, frame.end) == (start, end));
            let mut range = Range {
                start,
                end,
                way_out: !is_frame,
                plain: is_frame,
                falls_through: true,
                ends_open: true,
                outline: (is_frame && !self.go).then(Outline::default),
                instructions: Vec::new(),
                inner_jumps: Vec::new(),
                tables: Vec::new(),
                ends: Ends::Neither,
                leads_to: Vec::new(),
            };
            self.sweep_range(&mut range, starts, &mut swept);
            if !self.go {
                if range.falls_through {
                    range.leads_to.push(end);
                }
                swept.links.add(start, range.ends, &mut range.leads_to);
            }
            self.read_tables(&mut range, &mut swept.tables);
            if let Some(outline) = range.outline.take().filter(|_| range.is_read_right()) {
                outlines.insert(start, outline);
            }
            if !range.way_out && !range.ends_open {
                swept.no_way_out.insert(start);
            }
            if range.plain && !range.falls_through {
                swept.plain.insert(start);
            }
        }
        let Swept {
            labels,
            mut jumps,
            no_way_out,
            plain,
            referred,
            stored,
            instructions,
            links,
            computes,
            tables,
        } = swept;
        if computes {
            self.stretches.clear();
        }
        jumps.sort_unstable();
        jumps.dedup();
        self.jumps = jumps;
        self.labels.extend(labels);
        self.referred.extend(referred);
        self.stored = stored;
        self.no_way_out = no_way_out;
        self.swept += instructions + tables.entries;
        // A jump to where another function begins is a call of that one.
        self.plain = plain;
        self.plain.retain(|start| {
            let end = frame_end(&self.frames, *start);
            starts.range(start + 1..end.max(start + 1)).next().is_none()
        });
        // There, what is handed to a function of its own may be the number of a call.
        for start in links.worth_following(&self.dull(), !huge) {
            outlines.remove(&start);
        }
        outlines
    }

    fn sweep_range(&self, range: &mut Range, starts: &mut BTreeSet<u64>, swept: &mut Swept) {
        let length = usize::try_from(range.end - range.start).unwrap_or(0);
        let Some(bytes) = self.elf.from(range.start) else { return };
        let bytes = &bytes[..bytes.len().min(length)];
        let mut decoder = Decoder::with_ip(64, bytes, range.start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            swept.instructions += 1;
            swept.computes |= self.stretches.computes(&instruction);
            if self.go && instruction.op0_kind() == OpKind::Memory && instruction.is_ip_rel_memory_operand() {
                let at = instruction.ip_rel_memory_address();
                let bytes = instruction.memory_size().size().max(1) as u64;
                swept.stored.extend(at / 8..=at.saturating_add(bytes - 1) / 8);
            }
            let data = self.referred(&instruction);
            range.plain &= data.is_empty();
            if instruction.mnemonic() == Mnemonic::Syscall {
                range.ends = Ends::Kernel;
            }
            if range.outline.is_some() {
                range.instructions.push(instruction.ip());
                if let Some(outline) = &mut range.outline {
                    outline.data.extend(data);
                }
                self.outline(range, &instruction);
            }
            let flow = instruction.flow_control();
            range.falls_through = !matches!(
                flow,
                FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::Exception
            );
            range.ends_open = range.falls_through
                && !matches!(
                    flow,
                    FlowControl::Call | FlowControl::IndirectCall | FlowControl::IndirectBranch
                );
            let address = match flow {
                FlowControl::Call if instruction.op0_kind() == OpKind::NearBranch64 => {
                    range.plain = false;
                    let to = instruction.near_branch_target();
                    if self.is_code(to) {
                        match self.callee(to) {
                            Callee::Address(_) => {
                                starts.insert(to);
                                range.leads_to.push(to);
                            }
                            Callee::Import(import) => self.calls_import(range, import),
                        }
                    }
                    continue;
                }
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                    let to = instruction.near_branch_target();
                    let within = (range.start..range.end).contains(&to);
                    range.way_out |= !within;
                    range.plain &= within;
                    if within {
                        range.inner_jumps.push(to);
                    } else {
                        range.leads_to.push(to);
                    }
                    swept.jumps.push(to);
                    continue;
                }
                FlowControl::Next => self.operand_address(&instruction),
                FlowControl::Return => {
                    range.way_out = true;
                    continue;
                }
                flow => {
                    if instruction.is_ip_rel_memory_operand() {
                        let slot = instruction.ip_rel_memory_address();
                        range.leads_to.extend(self.own_slot(slot));
                        if let Some(import) = self.import_at(slot) {
                            self.calls_import(range, import);
                        }
                    }
                    range.way_out |= flow == FlowControl::IndirectBranch || instruction.is_invalid();
                    range.plain = false;
                    continue;
                }
            };
            range.way_out |= instruction.is_invalid();
            range.plain &= !instruction.is_invalid();
            range.plain &= !(instruction.is_ip_rel_memory_operand()
                && self.is_slot(instruction.ip_rel_memory_address()));
            let Some(address) = address else { continue };
            if self.is_code(address) {
                range.plain = false;
                if self.is_function_address(address) {
                    starts.insert(address);
                } else {
                    swept.labels.insert(address);
                }
            }
            if self.elf.from(address).is_some() {
                swept.referred.insert(address);
            }
        }
    }

    fn calls_import(&self, range: &mut Range, import: u32) {
        range.leads_to.extend(self.own_symbol(import));
        let name = self.imports.get(import as usize);
        if range.ends == Ends::Neither && name.is_some_and(|name| goes_by_arguments(name)) {
            range.ends = Ends::Arguments;
        }
    }

    /// Adds whom an instruction calls to the outline; takes the outline away where following tells more.
    fn outline(&self, range: &mut Range, instruction: &Instruction) {
        let Some(outline) = &mut range.outline else { return };
        let slot = instruction.is_ip_rel_memory_operand().then(|| instruction.ip_rel_memory_address());
        let in_slot = slot.and_then(|slot| {
            self.import_at(slot).map(Callee::Import).or(self.own_slot(slot).map(Callee::Address))
        });
        let told = match instruction.flow_control() {
            FlowControl::Call | FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
                if instruction.op0_kind() == OpKind::NearBranch64 =>
            {
                let to = instruction.near_branch_target();
                if !(range.start..range.end).contains(&to) {
                    outline.calls.push(Callee::Address(to));
                }
                // Into its own middle: it is where it calls itself, or asks where it is.
                !(instruction.flow_control() == FlowControl::Call
                    && (range.start + 1..range.end).contains(&to))
            }
            FlowControl::IndirectCall | FlowControl::IndirectBranch => match in_slot {
                Some(callee) => {
                    outline.calls.push(callee);
                    true
                }
                None => {
                    if instruction.flow_control() == FlowControl::IndirectBranch {
                        outline.jumps_by_table = true;
                        range.tables.extend(tables::named(instruction, None));
                    }
                    true
                }
            },
            FlowControl::Next => {
                let address = self.operand_address(instruction);
                let function = address.filter(|address| {
                    self.is_code(*address) && !(range.start + 1..range.end).contains(address)
                });
                // What it takes the address of it may call by that.
                let own = in_slot.and_then(|callee| match callee {
                    Callee::Address(own) => Some(own),
                    Callee::Import(_) => None,
                });
                range.leads_to.extend(function.into_iter().chain(own));
                outline.taken.extend(in_slot);
                outline.taken.extend(function.map(|address| self.callee(address)));
                range.tables.extend(tables::named(instruction, address));
                true
            }
            FlowControl::Return => true,
            FlowControl::Exception => !instruction.is_invalid(),
            _ => false,
        };
        if !told || instruction.is_invalid() {
            range.outline = None;
        }
    }

    /// Adds where tables lead to the outline of who jumps through one; takes it away where there is too much to read.
    fn read_tables(&self, range: &mut Range, read: &mut tables::Read) {
        let tables = std::mem::take(&mut range.tables);
        let Some(outline) = range.outline.as_mut().filter(|outline| outline.jumps_by_table) else { return };
        match self.beyond(tables, &range.instructions, read) {
            Some(beyond) => outline.by_table = beyond,
            None => range.outline = None,
        }
    }

    /// An address that an instruction has as a constant.
    fn operand_address(&self, instruction: &Instruction) -> Option<u64> {
        match instruction.mnemonic() {
            Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => {
                Some(instruction.ip_rel_memory_address())
            }
            _ if self.elf.relocatable => None,
            Mnemonic::Lea
                if instruction.memory_base() == Register::None
                    && instruction.memory_index() == Register::None =>
            {
                Some(instruction.memory_displacement64())
            }
            Mnemonic::Mov | Mnemonic::Push => {
                (0..instruction.op_count()).find_map(|at| match instruction.op_kind(at) {
                    OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64 => {
                        Some(instruction.immediate(at))
                    }
                    _ => None,
                })
            }
            _ => None,
        }
    }

    fn is_slot(&self, address: u64) -> bool {
        self.import_at(address).is_some() || self.own_slot(address).is_some()
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

    /// Whether nothing is to be found in the function at `entry`.
    pub(crate) fn is_plain(&self, entry: u64) -> bool {
        self.plain.contains(&entry)
    }

    /// Whether a call of `entry` need not be told: nothing is to be found there, and nobody asks by name whether it runs.
    pub(crate) fn is_silent(&self, entry: u64) -> bool {
        self.is_plain(entry) && !self.exported.contains(&entry)
    }
}

impl Range {
    /// Whether all jumps lead to where an instruction was read, and the end is one.
    fn is_read_right(&self) -> bool {
        !self.ends_open && self.inner_jumps.iter().all(|to| self.instructions.binary_search(to).is_ok())
    }
}

fn frame_end(frames: &[crate::elf::unwind::Frame], start: u64) -> u64 {
    let at = frames.partition_point(|frame| frame.start < start);
    frames.get(at).map_or(start, |frame| frame.end)
}
