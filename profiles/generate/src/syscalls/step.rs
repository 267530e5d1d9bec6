//! What one instruction does to what is known. Control flow is the caller's.
//!
//! Invariant: an instruction that is not treated by name makes everything that it writes unknown.

use std::rc::Rc;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use super::state::{Chosen, Flags, Index, RSP, State, Val};

/// What the file says about its memory.
pub(crate) trait Memory {
    /// The import whose address the loader writes at `address`.
    fn import_at(&self, address: u64) -> Option<u32>;
    /// A word that no one writes to.
    fn constant_at(&self, address: u64, bytes: usize) -> Option<u64>;
}

/// The number of the register that `register` is part of.
pub(crate) fn number(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

fn bits(register: Register) -> u32 {
    u32::try_from(register.size()).unwrap_or(0) * 8
}

/// A value cut to so many bits, as reading a part of a register does.
fn cut(value: &Val, bits: u32) -> Val {
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

fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
}

pub(crate) struct Stepper<'m, M> {
    pub(crate) memory: &'m M,
    info: InstructionInfoFactory,
}

impl<'m, M: Memory> Stepper<'m, M> {
    pub(crate) fn new(memory: &'m M) -> Self {
        Self { memory, info: InstructionInfoFactory::new() }
    }

    pub(crate) fn register(state: &State, register: Register) -> Val {
        match number(register) {
            Some(at) if !is_high_byte(register) => cut(&state.registers[at], bits(register)),
            _ => Val::Any,
        }
    }

    fn set(state: &mut State, register: Register, value: Val) {
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
    fn pointed_to(state: &mut State, instruction: &Instruction, value: &Val) {
        let to_stack_pointer =
            instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP;
        if let Val::Stack(at) = value
            && !to_stack_pointer
        {
            state.escape(*at);
        }
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

    fn load(&self, state: &State, instruction: &Instruction, bytes: usize) -> Val {
        match self.address(state, instruction) {
            Val::Stack(at) if bytes == 8 => state.slot(at),
            Val::Stack(at) => cut(&state.slot(at), u32::try_from(bytes * 8).unwrap_or(0)),
            Val::One(at) => {
                if let Some(import) = self.memory.import_at(at) {
                    return Val::Import(import);
                }
                self.memory.constant_at(at, bytes).map_or(Val::Any, Val::One)
            }
            _ => Val::Any,
        }
    }

    fn store(&self, state: &mut State, instruction: &Instruction, value: Val) {
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
    fn somewhere(state: &mut State, instruction: &Instruction) {
        if Self::within_stack(state, instruction) {
            // An element of an array of the frame's own, whichever.
            state.forget_slots(i32::MIN, i32::MAX);
        } else {
            state.forget_escaped();
        }
    }

    /// Whether the memory operand is based on an address within the stack.
    fn within_stack(state: &State, instruction: &Instruction) -> bool {
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
    fn width(instruction: &Instruction) -> u32 {
        match instruction.op0_kind() {
            OpKind::Register => bits(instruction.op0_register()),
            OpKind::Memory => u32::try_from(instruction.memory_size().size()).unwrap_or(0) * 8,
            _ => 0,
        }
    }

    /// A code address in a register that is compared, stored or computed with.
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
                Self::pointed_to(state, instruction, &value);
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
                let (kept, moved) =
                    (self.operand(state, instruction, 0), self.operand(state, instruction, 1));
                Self::set(state, instruction.op0_register(), kept.either(&moved));
            }
            _ => self.other(state, instruction),
        }
    }

    fn sign_extend(&self, state: &mut State, instruction: &Instruction) {
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

    fn arithmetic(&self, state: &mut State, instruction: &Instruction) {
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

    fn compare(&self, state: &State, instruction: &Instruction) -> Flags {
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

    fn test(&self, state: &State, instruction: &Instruction) -> Flags {
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

    /// All that it writes is unknown.
    fn other(&mut self, state: &mut State, instruction: &Instruction) {
        if self.vector(state, instruction) || Self::plain(state, instruction) {
            return;
        }
        for at in 0..instruction.op_count() {
            if instruction.op_kind(at) == OpKind::Register {
                let value = Self::register(state, instruction.op_register(at));
                Self::pointed_to(state, instruction, &value);
            }
        }
        let info = self.info.info(instruction);
        for used in info.used_registers() {
            if !matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess
            ) {
                Self::set(state, used.register().full_register(), Val::Any);
            }
        }
        let writes = info.used_memory().iter().any(|used| {
            !matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess
            )
        });
        if writes {
            self.write(state, instruction);
        }
        if instruction.rflags_modified() != 0 {
            state.flags = Flags::Unknown;
        }
    }

    /// Something that is not known is written to the memory operand.
    fn write(&self, state: &mut State, instruction: &Instruction) {
        match self.address(state, instruction) {
            Val::Stack(at) => {
                let bytes = i32::try_from(instruction.memory_size().size()).unwrap_or(64).max(1);
                state.forget_slots(at.saturating_sub(7), at.saturating_add(bytes));
            }
            _ => Self::somewhere(state, instruction),
        }
    }

    /// Vector instructions that write to a vector register or to the memory operand alone; whether this is one.
    fn vector(&self, state: &mut State, instruction: &Instruction) -> bool {
        let is_vector = |at: u32| {
            let register = instruction.op_register(at);
            instruction.op_kind(at) == OpKind::Register && (register.is_vector_register() || register.is_mm())
        };
        // These write to a register, or to memory, that is no operand.
        if matches!(
            instruction.mnemonic(),
            Mnemonic::Pcmpestri
                | Mnemonic::Pcmpestri64
                | Mnemonic::Pcmpestrm
                | Mnemonic::Pcmpestrm64
                | Mnemonic::Pcmpistri
                | Mnemonic::Pcmpistrm
                | Mnemonic::Vpcmpestri
                | Mnemonic::Vpcmpestri64
                | Mnemonic::Vpcmpestrm
                | Mnemonic::Vpcmpestrm64
                | Mnemonic::Vpcmpistri
                | Mnemonic::Vpcmpistrm
                | Mnemonic::Maskmovdqu
                | Mnemonic::Maskmovq
                | Mnemonic::Vmaskmovdqu
        ) {
            return false;
        }
        match (instruction.op_count(), instruction.op0_kind()) {
            (2.., OpKind::Memory) if is_vector(1) => self.write(state, instruction),
            (1.., OpKind::Register) if is_vector(0) => {}
            _ => return false,
        }
        if instruction.rflags_modified() != 0 {
            state.flags = Flags::Unknown;
        }
        true
    }

    /// Arithmetic that writes to its first operand, a register, and to no other; whether this is some.
    fn plain(state: &mut State, instruction: &Instruction) -> bool {
        let plain = matches!(
            instruction.mnemonic(),
            Mnemonic::Inc
                | Mnemonic::Dec
                | Mnemonic::Neg
                | Mnemonic::Not
                | Mnemonic::Sar
                | Mnemonic::Rol
                | Mnemonic::Ror
                | Mnemonic::Adc
                | Mnemonic::Sbb
                | Mnemonic::Bswap
                | Mnemonic::Sete
                | Mnemonic::Setne
                | Mnemonic::Seta
                | Mnemonic::Setae
                | Mnemonic::Setb
                | Mnemonic::Setbe
                | Mnemonic::Setg
                | Mnemonic::Setge
                | Mnemonic::Setl
                | Mnemonic::Setle
        ) || instruction.mnemonic() == Mnemonic::Imul && instruction.op_count() > 1;
        if !plain || instruction.op0_kind() != OpKind::Register {
            return false;
        }
        for at in 0..instruction.op_count() {
            if instruction.op_kind(at) == OpKind::Register {
                let value = Self::register(state, instruction.op_register(at));
                Self::pointed_to(state, instruction, &value);
            }
        }
        Self::set(state, instruction.op0_register().full_register(), Val::Any);
        if instruction.rflags_modified() != 0 {
            state.flags = Flags::Unknown;
        }
        true
    }
}

pub(crate) fn index_of(value: &Val) -> Index {
    match value {
        Val::Entry { place, low, plus } => Index { most: None, entry: Some((*place, *low, *plus)) },
        value => Index { most: value.most().filter(|most| *most < 0x1_0000), entry: None },
    }
}

fn same(instruction: &Instruction) -> bool {
    instruction.op1_kind() == OpKind::Register && instruction.op0_register() == instruction.op1_register()
}

pub(crate) fn mask(value: u64, bits: u32) -> u64 {
    if bits >= 64 { value } else { value & ((1 << bits) - 1) }
}
