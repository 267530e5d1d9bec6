//! Whether what a register holds at some place is ever read: a register that is written first holds what nobody asks for.
//!
//! Invariant: `true` only where every way from there writes the register before it reads it.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind};

use super::{address::AddressSet, object::Object, operand::number};

/// Most instructions that are looked at for one question.
const INSTRUCTIONS_MAX: u32 = 2000;
/// Registers that a C function leaves as they were: rbx, rbp, r12 to r15.
const KEPT: &[usize] = &[3, 5, 12, 13, 14, 15];
/// What a C function answers in: rax and rdx.
const ANSWERS: &[usize] = &[0, 2];

pub(super) fn is_dead(object: &Object<'_>, register: usize, at: u64) -> bool {
    !object.go && Scan::new(object, register).all_from(at)
}

struct Scan<'o, 'd> {
    object: &'o Object<'d>,
    register: usize,
    left: u32,
    info: InstructionInfoFactory,
    /// Where jumps lead: each is looked at once.
    seen: AddressSet,
    waiting: Vec<u64>,
}

enum Use {
    Reads,
    Writes,
    Neither,
}

impl<'o, 'd> Scan<'o, 'd> {
    fn new(object: &'o Object<'d>, register: usize) -> Self {
        Self {
            object,
            register,
            left: INSTRUCTIONS_MAX,
            info: InstructionInfoFactory::new(),
            seen: AddressSet::default(),
            waiting: Vec::new(),
        }
    }

    fn all_from(&mut self, at: u64) -> bool {
        self.jump(at);
        while let Some(at) = self.waiting.pop() {
            if !self.from(at) {
                return false;
            }
        }
        true
    }

    fn jump(&mut self, to: u64) {
        if self.seen.insert(to) {
            self.waiting.push(to);
        }
    }

    /// Whether nothing is read until the register is written or a jump leads elsewhere.
    fn from(&mut self, at: u64) -> bool {
        let Some(bytes) = self.object.elf.from(at).filter(|_| self.object.is_code(at)) else {
            return false;
        };
        let mut decoder = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() && self.left > 0 {
            self.left -= 1;
            decoder.decode_out(&mut instruction);
            match self.uses(&instruction) {
                Use::Reads => return false,
                Use::Writes => return true,
                Use::Neither => {}
            }
            match instruction.flow_control() {
                FlowControl::Next => {}
                FlowControl::Call if self.never_returns(&instruction) => return self.is_kept(),
                FlowControl::Call | FlowControl::IndirectCall if self.is_kept() => {}
                FlowControl::ConditionalBranch => self.jump(instruction.near_branch_target()),
                FlowControl::UnconditionalBranch => {
                    self.jump(instruction.near_branch_target());
                    return true;
                }
                FlowControl::Return => {
                    return !self.is_kept() && !ANSWERS.contains(&self.register);
                }
                // A trap.
                FlowControl::Exception => return !instruction.is_invalid(),
                _ => return false,
            }
        }
        false
    }

    fn is_kept(&self) -> bool {
        KEPT.contains(&self.register)
    }

    fn never_returns(&self, call: &Instruction) -> bool {
        call.op0_kind() == OpKind::NearBranch64 && self.object.never_returns(call.near_branch_target())
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
