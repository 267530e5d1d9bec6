//! What one instruction does to what is known. Control flow is the caller's.
//!
//! Invariant: an instruction that is not treated by name makes everything that it writes unknown.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use super::{
    arithmetic::same,
    operand::{Memory, bits, cut, number},
    state::{Flags, RSP, State},
    value::Val,
};

pub(crate) struct Stepper<'m, M> {
    pub(crate) memory: &'m M,
    pub(super) info: InstructionInfoFactory,
}

impl<'m, M: Memory> Stepper<'m, M> {
    pub(crate) fn new(memory: &'m M) -> Self {
        Self { memory, info: InstructionInfoFactory::new() }
    }

    /// What is known after `instruction`.
    pub(crate) fn step(&mut self, state: &mut State, instruction: &Instruction) {
        let to_register = instruction.op0_kind() == OpKind::Register && instruction.op_count() > 0;
        match instruction.mnemonic() {
            Mnemonic::Nop | Mnemonic::Endbr64 | Mnemonic::Pause => {}
            Mnemonic::Mov if to_register && number(instruction.op0_register()).is_some() => {
                let value = self.operand(state, instruction, 1);
                // A frame pointer hands nothing on: what is copied from it does.
                if instruction.op0_register() != Register::RBP {
                    Self::pointed_to(state, instruction, &value);
                }
                Self::set(state, instruction.op0_register(), value);
            }
            Mnemonic::Mov if instruction.op0_kind() == OpKind::Memory => {
                let value = self.operand(state, instruction, 1);
                Self::pointed_to(state, instruction, &value);
                self.store(state, instruction, value);
            }
            Mnemonic::Movzx => {
                let value = self.operand(state, instruction, 1);
                let width = match instruction.op1_kind() {
                    OpKind::Register => bits(instruction.op1_register()),
                    _ => u32::try_from(instruction.memory_size().size()).unwrap_or(0) * 8,
                };
                Self::set(state, instruction.op0_register(), cut(&value, width));
            }
            Mnemonic::Movsxd => self.sign_extend(state, instruction),
            Mnemonic::Cdqe => {
                let value = match Self::register(state, Register::EAX) {
                    value @ (Val::One(_) | Val::OneOf(_)) => {
                        value.map(|value| i64::from(value as i32).cast_unsigned())
                    }
                    Val::Entry { place, low: _, plus } => Val::Entry { place, low: true, plus },
                    Val::AtMost(most) if most <= 0x7fff_ffff => Val::AtMost(most),
                    _ => Val::Any,
                };
                Self::set(state, Register::RAX, value);
            }
            Mnemonic::Lea => {
                let value = self.address(state, instruction);
                if value == Val::Any && Self::within_stack(state, instruction) {
                    // An element of an array: what is written through it may be any.
                    state.escape(i32::MIN);
                }
                if !Self::is_frame_pointer(state, instruction, &value) {
                    Self::pointed_to(state, instruction, &value);
                }
                Self::set(state, instruction.op0_register(), value);
            }
            Mnemonic::Push => {
                let value = self.operand(state, instruction, 0);
                Self::pointed_to(state, instruction, &value);
                state.registers[RSP] = state.registers[RSP].plus(-8);
                if let Val::Stack(at) = state.registers[RSP] {
                    state.set_slot(at, 8, value);
                }
            }
            Mnemonic::Pop => {
                let value = match state.registers[RSP] {
                    Val::Stack(at) => state.slot(at),
                    _ => Val::Any,
                };
                state.registers[RSP] = state.registers[RSP].plus(8);
                if to_register {
                    Self::set(state, instruction.op0_register(), value);
                }
            }
            Mnemonic::Leave => {
                let frame = state.registers[5].clone();
                let saved = if let Val::Stack(at) = frame { state.slot(at) } else { Val::Any };
                state.registers[RSP] = frame.plus(8);
                state.registers[5] = saved;
            }
            Mnemonic::Cmp => state.flags = self.compare(state, instruction),
            Mnemonic::Test => state.flags = self.test(state, instruction),
            Mnemonic::Xor | Mnemonic::Sub if to_register && same(instruction) => {
                Self::set(state, instruction.op0_register(), Val::One(0));
                state.flags = Flags::Unknown;
            }
            Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Xor
            | Mnemonic::Shl
            | Mnemonic::Shr
                if to_register && number(instruction.op0_register()).is_some() =>
            {
                self.arithmetic(state, instruction);
            }
            Mnemonic::Cmove
            | Mnemonic::Cmovne
            | Mnemonic::Cmova
            | Mnemonic::Cmovae
            | Mnemonic::Cmovb
            | Mnemonic::Cmovbe
            | Mnemonic::Cmovg
            | Mnemonic::Cmovge
            | Mnemonic::Cmovl
            | Mnemonic::Cmovle
            | Mnemonic::Cmovs
            | Mnemonic::Cmovns => {
                Self::handed_on(state, instruction);
                let (kept, moved) =
                    (self.operand(state, instruction, 0), self.operand(state, instruction, 1));
                Self::set(state, instruction.op0_register(), kept.either(&moved));
            }
            _ => self.other(state, instruction),
        }
    }
}
