//! What an instruction leaves that is not treated by name: all that it writes is unknown.

use iced_x86::{Instruction, Mnemonic, OpAccess, OpKind};

use super::{
    operand::Memory,
    state::{Flags, State},
    step::Stepper,
    value::Val,
};

impl<M: Memory> Stepper<'_, M> {
    /// All that it writes is unknown.
    pub(super) fn other(&mut self, state: &mut State, instruction: &Instruction) {
        Self::handed_on(state, instruction);
        if self.vector(state, instruction) || Self::plain(state, instruction) {
            return;
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

    /// An address within the stack may be anywhere after this, whatever the instruction makes of it: two of them in one vector
    /// register are how a compiler stores a structure of pointers.
    pub(super) fn handed_on(state: &mut State, instruction: &Instruction) {
        for at in 0..instruction.op_count() {
            if instruction.op_kind(at) == OpKind::Register {
                let value = Self::register(state, instruction.op_register(at));
                Self::pointed_to(state, instruction, &value);
            }
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
        Self::set(state, instruction.op0_register().full_register(), Val::Any);
        if instruction.rflags_modified() != 0 {
            state.flags = Flags::Unknown;
        }
        true
    }
}
