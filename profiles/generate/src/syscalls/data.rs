//! Functions whose address lies in data: nobody can call one before code refers to the stretch of data that it lies in.
//!
//! Position-independent code has one way to name data: an operand relative to the instruction pointer, which may be the
//! address of a table of 32-bit offsets that lead on from there. A stretch is a
//! whole section, so that how an object of it is reached, and where it ends, does not matter. What the data of one
//! stretch points to can be reached from there, and from the start what is pointed to from elsewhere: from code, and from
//! what every thread has a copy of. What other files name, and what dlsym(3) is asked for, is in
//! [`DataExport`]s.
//!
//! Limits: a file that is not relocatable, has no section headers, has code that only exceptions reach (they are found
//! by tables that name data as well), has data of the larger code models, is relocated in ways that are not known or computes
//! with the address of its global offset table, or with that of the code itself, has no stretches: all its
//! functions in data can be called from the start.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::address::{AddressMap, AddressSet};
use crate::elf::{
    Elf,
    dynamic::{Dynamic, Written},
    sections::Data,
};

/// An address that begins or ends a stretch, or that a compiler computed with, may lie beside the object that it is for.
const BESIDE: u64 = 1024;

/// Most 32-bit offsets of a table that are looked at: its length is nowhere said.
const OFFSETS_MAX: u64 = 4096;

/// A pointer that the loader writes into a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pointer {
    Own(u64),
    Import(u32),
}

/// The stretches of a file, and what of them the loader writes.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    data: Data,
    /// By place.
    pointers: BTreeMap<u64, Pointer>,
    /// Data that the global offset table has the address of, by place there.
    behind: AddressMap<u64>,
    /// Stretches that are pointed to from elsewhere.
    started: BTreeSet<u8>,
    /// DT_PLTGOT: the address of the table itself, which code may compute with.
    table: Option<u64>,
    /// Places of it that say which thread-local data is meant: their address leads to nothing else.
    thread_local: AddressSet,
    /// Where tables of offsets may lead, by their address.
    led: RefCell<AddressMap<Vec<u8>>>,
}

impl Stretches {
    pub(super) fn of(elf: &Elf<'_>, dynamic: &Dynamic, has_landing_pads: bool) -> Self {
        let mut found = Self::default();
        if !elf.relocatable || has_landing_pads || dynamic.unknown {
            return found;
        }
        let Some(data) = elf.data_sections() else { return found };
        found.data = data;
        found.table = dynamic.offset_table;
        let places = dynamic.thread_local.iter().copied();
        found.thread_local = places.filter(|place| Some(*place) != found.table).collect();
        for relocation in &dynamic.relocations {
            let at = relocation.at;
            let data = |number: u32| {
                let symbol = dynamic.symbols.get(number as usize)?;
                (symbol.defined && !elf.is_code(symbol.address)).then_some(symbol.address)
            };
            let target = match relocation.written {
                Written::Own(address) => Some(address).filter(|address| !elf.is_code(*address)),
                Written::Symbol(symbol) | Written::Slot(symbol) => data(symbol),
                Written::Resolved(_) => None,
            };
            if target.is_some_and(|address| found.is_table(address)) {
                return Self::default();
            }
            let is_slot = matches!(relocation.written, Written::Slot(_));
            let in_table = found.is_in_table(at);
            if let Some(address) = target.filter(|_| is_slot || in_table) {
                found.behind.insert(at, address);
            }
            if found.at(at).is_none() {
                // A place of the table is read where an instruction names it.
                if let Some(address) = target.filter(|_| !in_table) {
                    let reached = found.reached(elf, address);
                    found.started.extend(reached);
                }
                continue;
            }
            match relocation.written {
                Written::Own(address) => found.pointers.insert(at, Pointer::Own(address)),
                // Of another file's data of that name whoever has it asks by that name.
                Written::Symbol(symbol) | Written::Slot(symbol) => {
                    let pointer = data(symbol).map_or(Pointer::Import(symbol), Pointer::Own);
                    found.pointers.insert(at, pointer)
                }
                Written::Resolved(_) => None,
            };
        }
        found
    }

    fn is_in_table(&self, address: u64) -> bool {
        self.data.tables.iter().any(|table| table.contains(&address))
    }

    /// Whether this is an address of the global offset table, from which all data can be reached.
    fn is_table(&self, address: u64) -> bool {
        Some(address) == self.table || self.is_in_table(address)
    }

    /// Stretches that somebody refers to who is not asked.
    pub(super) fn started(&self) -> impl Iterator<Item = u8> + '_ {
        self.started.iter().copied()
    }

    fn all(&self) -> impl Iterator<Item = u8> + use<> {
        (0u8..).take(self.data.stretches.len())
    }

    pub(super) fn len(&self) -> usize {
        self.data.stretches.len()
    }

    /// No stretch: all can be called from the start.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The stretch that has this place.
    pub(super) fn at(&self, place: u64) -> Option<u8> {
        let at = self.data.stretches.partition_point(|range| range.start <= place).checked_sub(1)?;
        self.data.stretches.get(at).filter(|range| range.contains(&place))?;
        u8::try_from(at).ok()
    }

    /// Stretches that can be reached with an address: its own, and where the offsets lead that are there.
    pub(super) fn reached(&self, elf: &Elf<'_>, address: u64) -> BTreeSet<u8> {
        let mut reached: BTreeSet<u8> = self.near(address).collect();
        if !self.data.stretches.is_empty() && self.is_constant(address) {
            let mut led = self.led.borrow_mut();
            reached.extend(led.entry(address).or_insert_with(|| self.led(elf, address)).iter());
        }
        reached
    }

    fn is_constant(&self, address: u64) -> bool {
        self.data.constants.iter().any(|range| range.contains(&address))
    }

    /// Where a table of 32-bit offsets leads, if there is one: from its start (clang's tables of pointers), or each from its
    /// own place. It ends where both lead out of the file.
    fn led(&self, elf: &Elf<'_>, table: u64) -> Vec<u8> {
        let least = elf.segments.first().map_or(0, |segment| segment.start);
        let most = elf.segments.last().map_or(0, |segment| segment.start.saturating_add(segment.memory));
        let mut found = BTreeSet::new();
        for at in 0..OFFSETS_MAX {
            let place = table.wrapping_add(at * 4);
            let Some(offset) = elf.i32(place) else { break };
            let targets = [table, place].map(|from| from.wrapping_add_signed(i64::from(offset)));
            if !targets.iter().any(|target| (least..=most).contains(target)) {
                break;
            }
            found.extend(targets.iter().flat_map(|target| self.near(*target)));
        }
        found.into_iter().collect()
    }

    /// Stretches that an object may be of whose address was made from this one.
    pub(super) fn near(&self, address: u64) -> impl Iterator<Item = u8> + '_ {
        let (least, most) = (address.saturating_sub(BESIDE), address.saturating_add(BESIDE));
        let near = move |range: &Range<u64>| range.start <= most && least <= range.end;
        (0u8..).zip(&self.data.stretches).filter(move |(_, range)| near(range)).map(|(at, _)| at)
    }

    /// Pointers that lie in a stretch.
    pub(super) fn pointers(&self, stretch: u8) -> impl Iterator<Item = Pointer> + '_ {
        let range = self.data.stretches.get(usize::from(stretch)).cloned().unwrap_or_default();
        self.pointers.range(range).map(|(_, pointer)| *pointer)
    }

    /// Whether the instruction takes an address from which all data can be reached: of the global offset table, or its own.
    pub(super) fn computes(&self, instruction: &Instruction) -> bool {
        let own = instruction.ip()..=instruction.next_ip();
        match instruction.mnemonic() {
            Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => {
                let address = instruction.ip_rel_memory_address();
                let is_table = self.is_table(address) && !self.thread_local.contains(&address);
                own.contains(&address) || is_table
            }
            Mnemonic::Call if instruction.op0_kind() == OpKind::NearBranch64 => {
                instruction.near_branch_target() == instruction.next_ip()
            }
            _ => false,
        }
    }

    /// Stretches that an instruction refers to. `is_code`: whether an address is one that code may have for its own sake.
    pub(super) fn referred(
        &self,
        elf: &Elf<'_>,
        instruction: &Instruction,
        is_code: impl Fn(u64) -> bool,
    ) -> BTreeSet<u8> {
        if self.data.stretches.is_empty() || !instruction.is_ip_rel_memory_operand() {
            return BTreeSet::new();
        }
        let address = instruction.ip_rel_memory_address();
        if instruction.mnemonic() == Mnemonic::Lea {
            if self.thread_local.contains(&address) {
                return BTreeSet::new();
            }
            // An index that does not begin with nothing has a compiler name a place far before the table.
            let is_writable = elf.segments.iter().any(|segment| {
                segment.writable
                    && (segment.start..=segment.start.saturating_add(segment.memory)).contains(&address)
            });
            if !is_writable && !self.is_constant(address) && !is_code(address) {
                return self.all().collect();
            }
            return self.reached(elf, address);
        }
        if let Some(data) = self.behind.get(&address) {
            return self.reached(elf, *data);
        }
        // What is read or written there and nowhere else hands on no address but those that lie there.
        let words = address.saturating_sub(7)..address.saturating_add(64);
        let has_pointer = self.pointers.range(words).next().is_some();
        self.at(address).filter(|_| has_pointer).into_iter().collect()
    }
}
