//! The procedure linkage table: stubs that stand for the imports that they jump to.

use iced_x86::{Mnemonic, OpKind};

use super::{function::Callee, object::Object, operand::Memory as _};
use crate::elf::unwind::Frame;

impl Object<'_> {
    /// Who is behind an address: a stub of the procedure linkage table stands for its import.
    pub(crate) fn callee(&self, to: u64) -> Callee {
        if let Some(known) = self.callees.borrow().get(&to) {
            return *known;
        }
        let callee = self.stub(to).unwrap_or(Callee::Address(to));
        self.callees.borrow_mut().insert(to, callee);
        callee
    }

    /// Whether a frame is that of the procedure linkage table: stubs are followed where they are called.
    pub(crate) fn is_linkage_table(&self, frame: &Frame) -> bool {
        if matches!(self.callee(frame.start), Callee::Import(_)) {
            return true;
        }
        let Some(first) = self.instruction(frame.start) else { return false };
        let pushes = first.mnemonic() == Mnemonic::Push && first.is_ip_rel_memory_operand();
        pushes
            && self
                .instruction(first.next_ip())
                .is_some_and(|next| next.mnemonic() == Mnemonic::Jmp && next.is_ip_rel_memory_operand())
    }

    fn stub(&self, to: u64) -> Option<Callee> {
        let mut instruction = self.instruction(to)?;
        if instruction.mnemonic() == Mnemonic::Endbr64 {
            instruction = self.instruction(instruction.next_ip())?;
        }
        if instruction.mnemonic() != Mnemonic::Jmp {
            return None;
        }
        if instruction.op0_kind() == OpKind::Memory && instruction.is_ip_rel_memory_operand() {
            let slot = instruction.ip_rel_memory_address();
            return self.import_at(slot).map(Callee::Import);
        }
        None
    }
}
