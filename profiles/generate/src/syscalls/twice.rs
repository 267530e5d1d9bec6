//! Which calls come back twice: what follows them runs again with a stack that was written to in between.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::{function::Callee, object::Object, state::State};

/// Functions of a C library that come back twice.
const TWICE: &[&str] = &[
    "setjmp",
    "_setjmp",
    "__setjmp",
    "sigsetjmp",
    "__sigsetjmp",
    "_sigsetjmp",
    "vfork",
    "__vfork",
    "__libc_vfork",
    "getcontext",
    "__getcontext",
    "swapcontext",
    "__swapcontext",
];
/// What every function that comes back later must have put where its first argument points, but for rbp.
const KEPT: &[Register] = &[Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];
/// Most instructions that such a function's shape is looked for in.
const INSTRUCTIONS_MAX: u32 = 32;
/// vfork(2), and what may be told to do the same: clone(2) and clone3(2).
const SHARING: &[u64] = &[58, 56, 435];

/// What a second return finds of what was in the frame at the first: nothing that is known.
pub(super) fn again(state: &mut State) {
    state.forget_slots(i32::MIN, i32::MAX);
}

/// Whether the kernel is entered to be left by two tasks on one stack.
pub(super) fn shares_stack(state: &State) -> bool {
    let number = state.registers[0].low();
    number.constants().is_some_and(|numbers| numbers.iter().any(|number| SHARING.contains(number)))
}

impl Object<'_> {
    pub(super) fn returns_twice(&self, callee: Callee) -> bool {
        match callee {
            Callee::Import(import) => {
                self.imports.get(import as usize).is_some_and(|name| TWICE.contains(&name.as_str()))
            }
            Callee::Address(to) => {
                if let Some(known) = self.twice.borrow().get(&to) {
                    return *known;
                }
                let named = self.names.get(&to).is_some_and(|name| TWICE.contains(&name.as_str()));
                let twice = named || self.is_shaped_to_return_twice(to);
                self.twice.borrow_mut().insert(to, twice);
                twice
            }
        }
    }

    /// What a file that names nothing has: all registers that a callee keeps are stored by its first argument, or vfork(2)
    /// is called by a leaf.
    fn is_shaped_to_return_twice(&self, mut at: u64) -> bool {
        let (mut stored, mut number, mut left) = (Vec::new(), None, INSTRUCTIONS_MAX);
        let mut instruction = Instruction::default();
        while left > 0 {
            let Some(bytes) = self.elf.from(at).filter(|_| self.is_code(at)) else { return false };
            left -= 1;
            let mut decoder = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE);
            decoder.decode_out(&mut instruction);
            at = instruction.next_ip();
            let to_first = instruction.op0_kind() == OpKind::Memory
                && instruction.memory_base() == Register::RDI
                && instruction.memory_index() == Register::None;
            match (instruction.mnemonic(), instruction.flow_control()) {
                // Its return address.
                (Mnemonic::Pop, _) if to_first => return true,
                (Mnemonic::Mov, _) if to_first && instruction.op1_kind() == OpKind::Register => {
                    let register = instruction.op1_register();
                    if KEPT.contains(&register) && !stored.contains(&register) {
                        stored.push(register);
                    }
                    if stored.len() == KEPT.len() {
                        return true;
                    }
                }
                (Mnemonic::Mov, _)
                    if instruction.op0_register() == Register::EAX
                        && instruction.op1_kind() == OpKind::Immediate32 =>
                {
                    number = Some(u64::from(instruction.immediate32()));
                }
                (Mnemonic::Syscall, _) if number == SHARING.first().copied() => return true,
                (_, FlowControl::UnconditionalBranch) => at = instruction.near_branch_target(),
                (_, FlowControl::Next | FlowControl::ConditionalBranch) => {}
                // The kernel.
                (Mnemonic::Syscall, _) => {}
                _ => return false,
            }
        }
        false
    }
}
