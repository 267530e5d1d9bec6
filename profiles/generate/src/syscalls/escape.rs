//! Addresses of functions that a function hands on to where they can no longer be followed: from then on anybody may
//! call them, with any arguments.

use std::rc::Rc;

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};

use super::{
    function::{Callee, Walk},
    operand::{Memory as _, number},
    state::State,
    summary::Guard,
    value::Val,
};

impl Walk<'_, '_> {
    /// Addresses of functions that this instruction hands on to where they are lost sight of.
    pub(super) fn addresses(&mut self, state: &State, instruction: &Instruction) {
        let count = instruction.op_count();
        if !matches!(instruction.flow_control(), FlowControl::Next) || count == 0 {
            return;
        }
        let mnemonic = instruction.mnemonic();
        if instruction.is_ip_rel_memory_operand()
            && !(mnemonic == Mnemonic::Mov && instruction.op0_kind() == OpKind::Register)
            && let Some(import) = self.object.import_at(instruction.ip_rel_memory_address())
        {
            self.take(Callee::Import(import), &state.guards);
        }
        if instruction.is_ip_rel_memory_operand()
            && !(mnemonic == Mnemonic::Mov && instruction.op0_kind() == OpKind::Register)
            && let Some(function) = self.object.own_slot(instruction.ip_rel_memory_address())
        {
            self.take(self.object.callee(function), &state.guards);
        }
        if matches!(mnemonic, Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Nop | Mnemonic::Pop) {
            return;
        }
        let moves = mnemonic == Mnemonic::Mov;
        let to_register = instruction.op0_kind() == OpKind::Register;
        if moves && to_register {
            return;
        }
        let first = u32::from(moves || (mnemonic == Mnemonic::Lea) || count > 2);
        for at in first..count {
            match instruction.op_kind(at) {
                OpKind::Register => {
                    if let Some(register) = number(instruction.op_register(at)) {
                        self.lose(&state.registers[register], &state.guards);
                    }
                }
                OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64
                    if moves || mnemonic == Mnemonic::Push =>
                {
                    self.lose(&Val::One(instruction.immediate(at)), &state.guards);
                }
                _ => {}
            }
        }
        if mnemonic == Mnemonic::Lea
            && let Some(base) = number(instruction.memory_base())
        {
            self.lose(&state.registers[base], &state.guards);
        }
    }

    /// A value is no longer followed: if it is a function's address, anybody may call it.
    pub(super) fn lose(&mut self, value: &Val, when: &Rc<Vec<Guard>>) {
        if let Val::Import(import) = value {
            self.take(Callee::Import(*import), when);
        }
        for address in value.constants().unwrap_or_default() {
            if self.object.is_function_address(*address) {
                self.take(self.object.callee(*address), when);
            }
        }
    }

    fn take(&mut self, callee: Callee, when: &Rc<Vec<Guard>>) {
        self.made.taken.push((callee, Rc::clone(when)));
    }

    /// Everything that a callee, or whoever comes after, may read.
    pub(super) fn lose_registers(&mut self, state: &State, registers: &[usize]) {
        for register in registers {
            self.lose(&state.registers[*register], &state.guards);
        }
    }

    /// Whether a value is, or may be, a function's address.
    pub(super) fn names_a_function(&self, value: &Val) -> bool {
        let is_function = |address: &u64| self.object.is_function_address(*address);
        matches!(value, Val::Import(_)) || value.constants().is_some_and(|all| all.iter().any(is_function))
    }
}
