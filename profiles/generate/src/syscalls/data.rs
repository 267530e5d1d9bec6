//! Functions whose address lies in data: nobody can call one before code refers to the stretch of data that it lies in.
//!
//! Position-independent code has one way to name data: an operand relative to the instruction pointer. A stretch is a
//! whole section, so that how an object of it is reached, and where it ends, does not matter. What the data of one
//! stretch points to can be reached from there. What other files name, and what dlsym(3) is asked for, is in
//! [`DataExport`]s.
//!
//! Limits: a file that is not relocatable, has no section headers, has code that only exceptions reach (they are found
//! by tables that name data as well) or computes with the address of its global offset table has no stretches: all its
//! functions in data can be called from the start.

use std::{collections::BTreeMap, ops::Range};

use iced_x86::{Instruction, Mnemonic};

use super::address::AddressMap;
use crate::elf::{
    Elf,
    dynamic::{Dynamic, Written},
};

/// An address that begins or ends a stretch, or that a compiler computed with, may lie beside the object that it is for.
const BESIDE: u64 = 1024;

/// A pointer that the loader writes into a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pointer {
    Own(u64),
    Import(u32),
}

/// The stretches of a file, and what of them the loader writes.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    ranges: Vec<Range<u64>>,
    /// By place.
    pointers: BTreeMap<u64, Pointer>,
    /// Data that the global offset table has the address of, by place there.
    behind: AddressMap<u64>,
    /// The address of the table itself, which code may compute with.
    table: Option<u64>,
}

impl Stretches {
    pub(super) fn of(elf: &Elf<'_>, dynamic: &Dynamic, has_landing_pads: bool) -> Self {
        let mut found = Self::default();
        if !elf.relocatable || has_landing_pads {
            return found;
        }
        found.ranges = elf.data_sections();
        let table = elf.global_offset_table();
        found.table = Some(table.start).filter(|start| *start != 0);
        for relocation in &dynamic.relocations {
            let at = relocation.at;
            let data = |number: u32| {
                let symbol = dynamic.symbols.get(number as usize)?;
                (symbol.defined && !elf.is_code(symbol.address)).then_some(symbol.address)
            };
            let behind = match relocation.written {
                Written::Own(address) if table.contains(&at) && !elf.is_code(address) => Some(address),
                Written::Slot(symbol) => data(symbol),
                _ => None,
            };
            if let Some(address) = behind {
                found.behind.insert(at, address);
            }
            if found.at(at).is_none() {
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

    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// No stretch: all can be called from the start.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The stretch that has this place.
    pub(super) fn at(&self, place: u64) -> Option<u8> {
        let at = self.ranges.partition_point(|range| range.start <= place).checked_sub(1)?;
        self.ranges.get(at).filter(|range| range.contains(&place))?;
        u8::try_from(at).ok()
    }

    /// Stretches that an object may be of whose address was made from this one.
    pub(super) fn near(&self, address: u64) -> impl Iterator<Item = u8> + '_ {
        let (least, most) = (address.saturating_sub(BESIDE), address.saturating_add(BESIDE));
        let near = move |range: &Range<u64>| range.start <= most && least <= range.end;
        (0u8..).zip(&self.ranges).filter(move |(_, range)| near(range)).map(|(at, _)| at)
    }

    /// Pointers that lie in a stretch.
    pub(super) fn pointers(&self, stretch: u8) -> impl Iterator<Item = Pointer> + '_ {
        let range = self.ranges.get(usize::from(stretch)).cloned().unwrap_or_default();
        self.pointers.range(range).map(|(_, pointer)| *pointer)
    }

    /// Whether the instruction takes the address of the global offset table, from which all data can be reached.
    pub(super) fn computes(&self, instruction: &Instruction) -> bool {
        instruction.mnemonic() == Mnemonic::Lea
            && instruction.is_ip_rel_memory_operand()
            && Some(instruction.ip_rel_memory_address()) == self.table
    }

    /// Stretches that an instruction refers to.
    pub(super) fn referred(&self, instruction: &Instruction) -> Vec<u8> {
        if self.ranges.is_empty() || !instruction.is_ip_rel_memory_operand() {
            return Vec::new();
        }
        let address = instruction.ip_rel_memory_address();
        if instruction.mnemonic() == Mnemonic::Lea {
            return self.near(address).collect();
        }
        if let Some(data) = self.behind.get(&address) {
            return self.near(*data).collect();
        }
        // What is read or written there and nowhere else hands on no address but those that lie there.
        let words = address.saturating_sub(7)..address.saturating_add(64);
        let has_pointer = self.pointers.range(words).next().is_some();
        self.at(address).filter(|_| has_pointer).into_iter().collect()
    }
}
