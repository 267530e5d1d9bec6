//! Where a jump through a table may lead, read from the data alone: every address that a function has as a constant may
//! be a table, of offsets from its own start or of addresses, and where it ends is nowhere said.

use std::collections::BTreeMap;

use iced_x86::{Instruction, Register};

use super::object::Object;

/// Most entries of a table that are looked at.
const ENTRIES_MAX: u64 = 512;

/// Most entries of one file's tables that are looked at: a function with more is followed.
const READ_MAX: u64 = 1 << 24;

/// Most entries of one file that lead beyond their function and are kept: a function with more is followed.
const BEYOND_MAX: usize = 1 << 20;

/// An entry that leads to no instruction of the function whose table it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beyond {
    pub(super) table: u64,
    /// Where it lies.
    pub(super) place: u64,
    /// Nowhere: the table goes on, and is not read further.
    pub(super) to: Option<u64>,
}

/// How much was read of a file's tables so far.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) entries: u64,
    kept: usize,
}

/// Addresses that an instruction may have of a table.
pub(super) fn named(instruction: &Instruction, constant: Option<u64>) -> impl Iterator<Item = u64> {
    let indexed = instruction.memory_index() != Register::None && instruction.memory_base() == Register::None;
    let displacement = indexed.then(|| instruction.memory_displacement64());
    constant.into_iter().chain(displacement)
}

/// How long an entry is, and where each leads.
type Kind<'k> = (u64, &'k dyn Fn(u64) -> Option<u64>);

impl Object<'_> {
    /// Reads each of `tables` as one of a function whose instructions begin at `instructions`, in order. None where
    /// there is too much to read.
    pub(super) fn beyond(
        &self,
        mut tables: Vec<u64>,
        instructions: &[u64],
        read: &mut Read,
    ) -> Option<Vec<Beyond>> {
        tables.sort_unstable();
        tables.dedup();
        let mut beyond = Vec::new();
        for (number, table) in tables.iter().copied().enumerate() {
            // Where the next one begins this one has ended.
            let bytes = tables.get(number + 1).map_or(u64::MAX, |next| next - table);
            let offset = |at: u64| {
                let offset = self.elf.i32(table.wrapping_add(at * 4))?;
                Some(table.wrapping_add_signed(i64::from(offset)))
            };
            let address = |at: u64| self.pointer(table.wrapping_add(at * 8));
            let kinds: [Kind<'_>; 2] = [(4, &offset), (8, &address)];
            // By where they lead: the first that leads there.
            let mut found: BTreeMap<Option<u64>, u64> = BTreeMap::new();
            for (width, target) in kinds {
                let most = bytes / width;
                for at in 0..=ENTRIES_MAX.min(most) {
                    let Some(to) = target(at).filter(|to| at < most && self.is_code(*to)) else { break };
                    read.entries += 1;
                    let place = table.wrapping_add(at * width);
                    if at == ENTRIES_MAX {
                        found.entry(None).or_insert(place);
                    } else if instructions.binary_search(&to).is_err() {
                        found.entry(Some(to)).or_insert(place);
                    }
                }
            }
            read.kept += found.len();
            if read.entries > READ_MAX || read.kept > BEYOND_MAX {
                return None;
            }
            beyond.extend(found.into_iter().map(|(to, place)| Beyond { table, place, to }));
        }
        Some(beyond)
    }
}
