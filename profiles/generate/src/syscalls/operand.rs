//! What an instruction's operands hold, and what is known once they are written: registers, and words of memory.

use iced_x86::{Instruction, OpKind, Register};

use super::{
    state::{Flags, State},
    step::Stepper,
    value::Val,
};

/// What the file says about its memory.
pub(crate) trait Memory {
    /// The import whose address the loader writes at `address`.
    fn import_at(&self, address: u64) -> Option<u32>;
    /// A word that no one writes to.
    fn constant_at(&self, address: u64, bytes: usize) -> Option<u64>;
    /// The number of a call that a variable of Go's has there from the start, as the instruction at `reader` reads it.
    fn variable_at(&self, _address: u64, _reader: u64) -> Option<u64> {
        None
    }
}

/// The number of the register that `register` is part of.
pub(crate) fn number(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

pub(super) fn bits(register: Register) -> u32 {
    u32::try_from(register.size()).unwrap_or(0) * 8
}

/// A value cut to so many bits, as reading a part of a register does.
pub(super) fn cut(value: &Val, bits: u32) -> Val {
    match (bits, value) {
        (8 | 16, Val::Part(known, part)) if u32::from(*known) >= bits => cut(part, bits),
        _ => cut_whole(value, bits),
    }
}

fn cut_whole(value: &Val, bits: u32) -> Val {
    match bits {
        64 => value.clone(),
        32 => value.low(),
        16 | 8 => {
            let mask = (1u64 << bits) - 1;
            match value {
                Val::One(_) | Val::OneOf(_) => value.map(|value| value & mask),
                Val::AtMost(most) => Val::AtMost((*most).min(mask)),
                _ => Val::AtMost(mask),
            }
        }
        _ => Val::Any,
    }
}

pub(super) fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
}

impl<M: Memory> Stepper<'_, M> {
    pub(crate) fn register(state: &State, register: Register) -> Val {
        match number(register) {
            Some(at) if !is_high_byte(register) => cut(&state.registers[at], bits(register)),
            _ => Val::Any,
        }
    }

    pub(super) fn set(state: &mut State, register: Register, value: Val) {
        let Some(at) = number(register) else { return };
        if let Flags::Compared { register: compared, .. } | Flags::Tested { register: compared, .. } =
            &mut state.flags
            && *compared == Some(at as u8)
        {
            *compared = None;
        }
        state.registers[at] = match bits(register) {
            64 => value,
            32 => value.low(),
            _ => Val::Any,
        };
    }

    /// An address within the stack that is now elsewhere than in the stack pointer: others may write there.
    pub(super) fn pointed_to(state: &mut State, instruction: &Instruction, value: &Val) {
        let to_stack_pointer =
            instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP;
        if let Val::Stack(at) = value
            && !to_stack_pointer
        {
            state.escape(*at);
        }
    }

    /// Whether this makes rbp a frame pointer, as Go's functions do: it leads to where the caller's lies.
    pub(super) fn is_frame_pointer(state: &State, instruction: &Instruction, value: &Val) -> bool {
        let callers = Val::Entry { place: 5, low: false, plus: 0 };
        instruction.op0_register() == Register::RBP
            && matches!(value, Val::Stack(at) if state.slot(*at) == callers)
    }

    /// The address of the memory operand, if it is known.
    pub(crate) fn address(&self, state: &State, instruction: &Instruction) -> Val {
        if instruction.segment_prefix() != Register::None {
            return Val::Any;
        }
        if instruction.is_ip_rel_memory_operand() {
            return Val::One(instruction.ip_rel_memory_address());
        }
        let displacement = instruction.memory_displacement64().cast_signed();
        let base = match instruction.memory_base() {
            Register::None => Val::One(0),
            base => Self::register(state, base),
        };
        let scale = u64::from(instruction.memory_index_scale());
        match instruction.memory_index() {
            Register::None => base.plus(displacement),
            index => match (&base, Self::register(state, index).constant()) {
                (base, Some(index)) => base.plus(index.wrapping_mul(scale).cast_signed()).plus(displacement),
                _ => Val::Any,
            },
        }
    }

    pub(super) fn load(&self, state: &State, instruction: &Instruction, bytes: usize) -> Val {
        match self.address(state, instruction) {
            Val::Stack(at) if bytes == 8 => state.slot(at),
            Val::Stack(at) => cut(&state.slot(at), u32::try_from(bytes * 8).unwrap_or(0)),
            Val::One(at) => {
                if let Some(import) = self.memory.import_at(at) {
                    return Val::Import(import);
                }
                let variable = || self.memory.variable_at(at, instruction.ip()).filter(|_| bytes == 8);
                let constant = self.memory.constant_at(at, bytes).map(Val::One);
                constant.or_else(|| variable().map(Val::Variable)).unwrap_or(Val::Any)
            }
            _ => Val::Any,
        }
    }

    pub(super) fn store(&self, state: &mut State, instruction: &Instruction, value: Val) {
        let bytes = i32::try_from(instruction.memory_size().size()).unwrap_or(64);
        match self.address(state, instruction) {
            // Half a word is no word; and the 32 bits of a number are what an int is.
            Val::Stack(at) if bytes == 8 || bytes == 4 => state.set_slot(at, bytes, value),
            Val::Stack(at) => state.forget_slots(at.saturating_sub(7), at.saturating_add(bytes.max(1))),
            Val::One(_) => {}
            _ => Self::somewhere(state, instruction),
        }
    }

    /// Something is written to the memory operand, of which the address is not known.
    pub(super) fn somewhere(state: &mut State, instruction: &Instruction) {
        if Self::within_stack(state, instruction) {
            // An element of an array of the frame's own, whichever.
            state.forget_slots(i32::MIN, i32::MAX);
        } else {
            state.forget_escaped();
        }
    }

    /// Whether the memory operand is based on an address within the stack.
    pub(super) fn within_stack(state: &State, instruction: &Instruction) -> bool {
        [instruction.memory_base(), instruction.memory_index()]
            .into_iter()
            .any(|register| matches!(Self::register(state, register), Val::Stack(_)))
    }

    /// An operand that is read.
    pub(crate) fn operand(&self, state: &State, instruction: &Instruction, at: u32) -> Val {
        match instruction.op_kind(at) {
            OpKind::Register => Self::register(state, instruction.op_register(at)),
            OpKind::Memory => self.load(state, instruction, instruction.memory_size().size()),
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => Val::One(instruction.immediate(at)),
            _ => Val::Any,
        }
    }

    /// Width of the first operand in bits.
    pub(super) fn width(instruction: &Instruction) -> u32 {
        match instruction.op0_kind() {
            OpKind::Register => bits(instruction.op0_register()),
            OpKind::Memory => u32::try_from(instruction.memory_size().size()).unwrap_or(0) * 8,
            _ => 0,
        }
    }
}
