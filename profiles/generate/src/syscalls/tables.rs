//! Where a jump through a table may lead, read from the data alone: every address that a function has as a constant may
//! be a table, of offsets from its own start or of addresses, and where it ends is nowhere said.

use iced_x86::{Instruction, Register};

use super::object::Object;

/// Most entries of a table that are looked at. Source: `TABLE_MAX` in flow.rs, which bounds the same.
const ENTRIES_MAX: u64 = 512;

/// Most entries of one file that lead beyond their function and are kept: what has more is followed.
pub(super) const BEYOND_MAX: usize = 1 << 20;

/// Addresses that an instruction may have of a table.
pub(super) fn named(instruction: &Instruction, constant: Option<u64>) -> impl Iterator<Item = u64> {
    let indexed = instruction.memory_index() != Register::None && instruction.memory_base() == Register::None;
    let displacement = indexed.then(|| instruction.memory_displacement64());
    constant.into_iter().chain(displacement)
}

/// How long an entry is, and where each leads.
type Kind<'k> = (u64, &'k dyn Fn(u64) -> Option<u64>);

impl Object<'_> {
    /// Reads each of `tables` as one of a function whose instructions begin at `instructions`, in order. Where they lead beyond
    /// it: to parts that were split off, and to other functions. None where the first entry of one leads into the middle of
    /// an instruction: what is there was not read right.
    pub(super) fn beyond(&self, mut tables: Vec<u64>, instructions: &[u64]) -> Option<Vec<u64>> {
        tables.sort_unstable();
        tables.dedup();
        let own = *instructions.first()?..=*instructions.last()?;
        let mut beyond = Vec::new();
        for (number, table) in tables.iter().enumerate() {
            // Where the next one begins this one has ended.
            let bytes = tables.get(number + 1).map_or(u64::MAX, |next| next - table);
            let offset = |at: u64| {
                let offset = self.elf.i32(table.wrapping_add(at * 4))?;
                Some(table.wrapping_add_signed(i64::from(offset)))
            };
            let address = |at: u64| self.pointer(table.wrapping_add(at * 8));
            let kinds: [Kind<'_>; 2] = [(4, &offset), (8, &address)];
            for (width, target) in kinds {
                for at in 0..ENTRIES_MAX.min(bytes / width) {
                    let Some(to) = target(at).filter(|to| self.is_code(*to)) else { break };
                    if !own.contains(&to) {
                        beyond.push(to);
                    } else if instructions.binary_search(&to).is_err() {
                        if at == 0 {
                            return None;
                        }
                        break;
                    }
                }
            }
        }
        beyond.sort_unstable();
        beyond.dedup();
        Some(beyond)
    }
}
