//! Whether what a register holds at some place is ever read: a register that is written first holds what nobody asks for.
//!
//! Invariant: `true` only where every way from there writes the register before it reads it.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess};

use super::{object::Object, operand::number};

/// Most instructions that are looked at for one question.
const INSTRUCTIONS_MAX: u32 = 200;
/// Registers that a C function leaves as they were: rbx, rbp, r12 to r15.
const KEPT: &[usize] = &[3, 5, 12, 13, 14, 15];
/// What a C function answers in: rax and rdx.
const ANSWERS: &[usize] = &[0, 2];

pub(super) fn is_dead(object: &Object<'_>, register: usize, at: u64) -> bool {
    !object.go
        && Scan { object, register, left: INSTRUCTIONS_MAX, info: InstructionInfoFactory::new() }.from(at)
}

struct Scan<'o, 'd> {
    object: &'o Object<'d>,
    register: usize,
    left: u32,
    info: InstructionInfoFactory,
}

enum Use {
    Reads,
    Writes,
    Neither,
}

impl Scan<'_, '_> {
    fn from(&mut self, mut at: u64) -> bool {
        let mut instruction = Instruction::default();
        loop {
            let Some(bytes) = self.object.elf.from(at).filter(|_| self.object.is_code(at)) else {
                return false;
            };
            let mut decoder = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE);
            at = loop {
                if !decoder.can_decode() || self.left == 0 {
                    return false;
                }
                self.left -= 1;
                decoder.decode_out(&mut instruction);
                match self.uses(&instruction) {
                    Use::Reads => return false,
                    Use::Writes => return true,
                    Use::Neither => {}
                }
                match instruction.flow_control() {
                    FlowControl::Next => {}
                    FlowControl::Call | FlowControl::IndirectCall if KEPT.contains(&self.register) => {}
                    FlowControl::ConditionalBranch => {
                        if !self.from(instruction.near_branch_target()) {
                            return false;
                        }
                    }
                    FlowControl::UnconditionalBranch => break instruction.near_branch_target(),
                    FlowControl::Return => {
                        return !KEPT.contains(&self.register) && !ANSWERS.contains(&self.register);
                    }
                    _ => return false,
                }
            };
        }
    }

    fn uses(&mut self, instruction: &Instruction) -> Use {
        let mut writes = false;
        for used in self.info.info(instruction).used_registers() {
            if number(used.register()) != Some(self.register) {
                continue;
            }
            // Of less than 32 bits the rest stays.
            match used.access() {
                OpAccess::Write if used.register().size() >= 4 => writes = true,
                OpAccess::None | OpAccess::NoMemAccess => {}
                _ => return Use::Reads,
            }
        }
        if writes { Use::Writes } else { Use::Neither }
    }
}
