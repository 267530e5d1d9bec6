//! Arithmetic, and what a comparison leaves in the flags.

use std::rc::Rc;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::{
    operand::{Memory, cut, is_high_byte, number},
    state::{Flags, State},
    step::Stepper,
    value::{Chosen, Index, Val},
};

impl<M: Memory> Stepper<'_, M> {
    pub(super) fn sign_extend(&self, state: &mut State, instruction: &Instruction) {
        let value = if instruction.op1_kind() == OpKind::Memory {
            let base = Self::register(state, instruction.memory_base());
            match (base.constant(), instruction.memory_index()) {
                (Some(table), index) if index != Register::None && instruction.memory_index_scale() == 4 => {
                    let table = table.wrapping_add(instruction.memory_displacement64());
                    Val::Offset(Rc::new(Chosen { table, index: index_of(&Self::register(state, index)) }))
                }
                _ => self.load(state, instruction, 4).map(|value| i64::from(value as i32).cast_unsigned()),
            }
        } else {
            match Self::register(state, instruction.op1_register()) {
                value @ (Val::One(_) | Val::OneOf(_)) => {
                    value.map(|value| i64::from(value as i32).cast_unsigned())
                }
                // Comparisons of what follows are of an int all the same.
                Val::Entry { place, low: _, plus } => Val::Entry { place, low: true, plus },
                Val::AtMost(most) if most <= 0x7fff_ffff => Val::AtMost(most),
                _ => Val::Any,
            }
        };
        Self::set(state, instruction.op0_register(), value);
    }

    pub(super) fn arithmetic(&self, state: &mut State, instruction: &Instruction) {
        let left = Self::register(state, instruction.op0_register());
        let right = self.operand(state, instruction, 1);
        let width = Self::width(instruction);
        let mut flags = Flags::Unknown;
        let value = match (instruction.mnemonic(), &left, right.constant()) {
            (Mnemonic::Add, Val::Offset(chosen), Some(base)) if chosen.table == base => {
                Val::Label(Rc::clone(chosen))
            }
            (Mnemonic::Add, _, None) => match (left.constant(), &right) {
                (Some(base), Val::Offset(chosen)) if chosen.table == base => Val::Label(Rc::clone(chosen)),
                (Some(left), right) => right.plus(left.cast_signed()),
                _ => Val::Any,
            },
            (Mnemonic::Add, left, Some(right)) => left.plus(right.cast_signed()),
            (Mnemonic::Sub, left, Some(right)) => {
                flags = Flags::Compared {
                    left: left.clone(),
                    right: mask(right, width),
                    bits: width,
                    register: None,
                };
                left.plus(right.cast_signed().wrapping_neg())
            }
            (Mnemonic::And, Val::Stack(at), Some(_)) => Val::Stack(at.saturating_sub(0x10_0000)),
            (Mnemonic::And, left, Some(mask)) => {
                flags = Flags::Tested { left: left.clone(), mask, bits: width, register: None };
                match left {
                    Val::One(_) | Val::OneOf(_) => left.map(|value| value & mask),
                    _ if mask.cast_signed() >= 0 => Val::AtMost(mask),
                    _ => Val::Any,
                }
            }
            (Mnemonic::Or, _, Some(u64::MAX)) => Val::One(u64::MAX),
            (Mnemonic::Or, left, Some(right)) => left.map(|value| value | right),
            (Mnemonic::Xor, left, Some(right)) => left.map(|value| value ^ right),
            (Mnemonic::Shl, left, Some(right)) => left.map(|value| value.wrapping_shl(right as u32)),
            (Mnemonic::Shr, left, Some(right)) => match left {
                Val::AtMost(most) => Val::AtMost(most.wrapping_shr(right as u32)),
                left => left.map(|value| value.wrapping_shr(right as u32)),
            },
            _ => Val::Any,
        };
        if value == Val::Any
            && instruction.op0_register() != Register::RSP
            && matches!((&left, &right), (Val::Stack(_), _) | (_, Val::Stack(_)))
        {
            // A part of the address of an element of an array.
            state.escape(i32::MIN);
        }
        Self::pointed_to(state, instruction, &value);
        Self::set(state, instruction.op0_register(), cut(&value, width.max(32)));
        state.flags = flags;
    }

    pub(super) fn compare(&self, state: &State, instruction: &Instruction) -> Flags {
        let (left, right) = (self.operand(state, instruction, 0), self.operand(state, instruction, 1));
        let bits = Self::width(instruction);
        let register = (instruction.op0_kind() == OpKind::Register)
            .then(|| instruction.op0_register())
            .filter(|register| !is_high_byte(*register))
            .and_then(number)
            .map(|at| at as u8);
        match right.constant() {
            Some(right) => Flags::Compared { left, right: mask(right, bits), bits, register },
            None => Flags::Unknown,
        }
    }

    pub(super) fn test(&self, state: &State, instruction: &Instruction) -> Flags {
        let bits = Self::width(instruction);
        let left = self.operand(state, instruction, 0);
        if instruction.op1_kind() == OpKind::Register && same(instruction) {
            let register = number(instruction.op0_register()).map(|at| at as u8).filter(|_| bits == 64);
            return Flags::Tested { left, mask: u64::MAX, bits, register };
        }
        match self.operand(state, instruction, 1).constant() {
            Some(by) => Flags::Tested { left, mask: mask(by, bits), bits, register: None },
            None => Flags::Unknown,
        }
    }
}

pub(crate) fn index_of(value: &Val) -> Index {
    match value {
        Val::Entry { place, low, plus } => Index { most: None, entry: Some((*place, *low, *plus)) },
        value => Index { most: value.most().filter(|most| *most < 0x1_0000), entry: None },
    }
}

pub(super) fn same(instruction: &Instruction) -> bool {
    instruction.op1_kind() == OpKind::Register && instruction.op0_register() == instruction.op1_register()
}

pub(crate) fn mask(value: u64, bits: u32) -> u64 {
    if bits >= 64 { value } else { value & ((1 << bits) - 1) }
}
