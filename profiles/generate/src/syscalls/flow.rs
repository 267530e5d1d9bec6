//! What one instruction does to control: calls, jumps, jump tables, and where the kernel is entered.

use std::{collections::VecDeque, rc::Rc};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use super::{
    arithmetic::index_of,
    branch::{self, Way},
    function::{Callee, Walk},
    models,
    object::Object,
    state::{Flags, RSP, State},
    step::Stepper,
    summary::{FIRST_SLOT, Place, SLOTS, Site, Value},
    twice,
    value::{Index, Val},
};

/// Most entries of a jump table whose length is not known.
const TABLE_MAX: u64 = 512;

/// What a callee is handed arguments in: by the C convention, and by Go's.
const ARGUMENTS: &[usize] = &[7, 6, 2, 1, 8, 9, 0, 3, 10, 11];
/// What a function that is called by the C convention may read: its arguments, how many of them are vectors, and what
/// nobody keeps.
const READ_BY_C: &[u8] = &[0, 1, 2, 6, 7, 8, 9, 10, 11];
/// Every register but the stack pointer: a jump leaves them all as they are.
const ALL: &[u8] = &[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// What a callee leaves in whatever state, by the C convention.
const NOT_KEPT: &[usize] = &[0, 1, 2, 6, 7, 8, 9, 10, 11];
/// The same by Swift's, in which an error comes back in r12 and a task goes on with r13 and r14.
///
/// Source: LLVM's X86CallingConv.td, `CSR_64_SwiftError` and `CSR_64_SwiftTail`.
const NOT_KEPT_BY_SWIFT: &[usize] = &[0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14];
/// The same by Go's.
const NOT_KEPT_BY_GO: &[usize] = &[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

impl Walk<'_, '_> {
    /// Whether the next instruction follows.
    pub(super) fn instruction(&mut self, state: &mut State, instruction: &Instruction) -> bool {
        self.addresses(state, instruction);
        match instruction.mnemonic() {
            Mnemonic::Syscall => {
                self.site(state, instruction);
                if twice::shares_stack(state) {
                    twice::again(state);
                }
                for register in [0, 1, 11] {
                    state.registers[register] = Val::Any;
                }
                state.flags = Flags::Unknown;
                // The kernel writes through the pointers that it is handed.
                state.forget_escaped();
                return true;
            }
            Mnemonic::Int3 | Mnemonic::Hlt => return false,
            _ => {}
        }
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::XbeginXabortXend | FlowControl::Interrupt => {
                self.stepper.step(state, instruction);
                true
            }
            FlowControl::Return => {
                self.lose_registers(state, &[0, 2]);
                false
            }
            FlowControl::Exception => false,
            FlowControl::ConditionalBranch => self.branch(state, instruction),
            FlowControl::UnconditionalBranch => {
                self.jump(instruction.near_branch_target(), state);
                false
            }
            FlowControl::IndirectBranch => {
                self.indirect(state, instruction);
                false
            }
            FlowControl::Call => {
                let to = instruction.near_branch_target();
                // How position-independent code asks where it is.
                if to != instruction.next_ip() {
                    let callee = self.object.callee(to);
                    self.call(callee, state);
                    self.clobber(state);
                    if self.object.returns_twice(callee) {
                        twice::again(state);
                    }
                    if self.object.never_returns(to) {
                        return false;
                    }
                }
                true
            }
            FlowControl::IndirectCall => {
                let callees: Vec<Callee> = match self.stepper.operand(state, instruction, 0) {
                    Val::Import(import) => vec![Callee::Import(import)],
                    value => {
                        let to = value.constants().unwrap_or_default().iter().copied();
                        to.filter(|to| self.object.is_code(*to)).map(|to| self.object.callee(to)).collect()
                    }
                };
                for callee in &callees {
                    self.call(*callee, state);
                }
                self.lose_registers(state, ARGUMENTS);
                self.clobber(state);
                if callees.iter().any(|callee| self.object.returns_twice(*callee)) {
                    twice::again(state);
                }
                true
            }
        }
    }

    fn branch(&mut self, state: &mut State, instruction: &Instruction) -> bool {
        let condition = instruction.condition_code();
        match branch::taken(state, condition) {
            Way::Never => {}
            Way::Same => self.jump(instruction.near_branch_target(), state),
            way => {
                let before = way.kept_by(state);
                if way.learn(state) {
                    self.jump(instruction.near_branch_target(), state);
                }
                before.put_back(state);
            }
        }
        let mut negated = *instruction;
        negated.negate_condition_code();
        branch::taken(state, negated.condition_code()).learn(state)
    }

    /// What a call leaves: the registers that the callee must keep. Go's keeps none.
    fn clobber(&self, state: &mut State) {
        let not_kept = match self.object {
            Object { go: true, .. } => NOT_KEPT_BY_GO,
            Object { swift: true, .. } => NOT_KEPT_BY_SWIFT,
            _ => NOT_KEPT,
        };
        for register in not_kept {
            state.registers[*register] = Val::Any;
        }
        state.flags = Flags::Unknown;
        state.forget_escaped();
    }

    fn jump(&mut self, to: u64, state: &State) {
        match self.object.callee(to) {
            Callee::Address(to) if to == self.entry || !self.object.is_start(to) => self.reach(to, state),
            callee => self.continued(callee, state),
        }
    }

    fn indirect(&mut self, state: &State, instruction: &Instruction) {
        if instruction.op0_kind() == OpKind::Memory && instruction.memory_index_scale() == 8 {
            let index = Stepper::<Object<'_>>::register(state, instruction.memory_index());
            let base = Stepper::<Object<'_>>::register(state, instruction.memory_base()).constant();
            let displacement = instruction.memory_displacement64();
            let no_base = instruction.memory_base() == iced_x86::Register::None;
            if let Some(table) =
                base.map(|base| base.wrapping_add(displacement)).or(no_base.then_some(displacement))
            {
                let object = self.object;
                self.table(state, index_of(&index), |at| object.pointer(table.wrapping_add(at * 8)));
                return;
            }
        }
        match self.stepper.operand(state, instruction, 0) {
            Val::Import(import) => self.continued(Callee::Import(import), state),
            Val::Label(chosen) => {
                let object = self.object;
                self.table(state, chosen.index, |at| {
                    let offset = object.elf.i32(chosen.table.wrapping_add(at * 4))?;
                    Some(chosen.table.wrapping_add_signed(i64::from(offset)))
                });
            }
            value => match value.constants() {
                Some(targets) => {
                    for to in targets {
                        self.jump(*to, state);
                    }
                }
                None => {
                    self.unresolved = true;
                    self.lose_registers(state, ARGUMENTS);
                }
            },
        }
    }

    /// A jump through a table.
    fn table(&mut self, state: &State, index: Index, target: impl Fn(u64) -> Option<u64>) {
        let bound = index.most.or_else(|| branch::most_chosen(state, index.entry?));
        let most = bound.map_or(TABLE_MAX, |most| most + 1).min(TABLE_MAX);
        let heads: Vec<u64> = (0..most)
            .map_while(&target)
            .take_while(|to| self.object.same_frame(self.entry, *to) && !self.object.is_start(*to))
            .collect();
        self.order.add(self.head, &heads);
        for at in 0..bound.map_or(TABLE_MAX, |most| most + 1) {
            let Some(to) = target(at).filter(|to| self.object.is_code(*to)) else {
                self.unresolved = true;
                break;
            };
            // Without a bound the table ends where its entries lead elsewhere. What a register of that width holds at most
            // bounds no table: the compiler knew better.
            if bound.is_none_or(is_width) && !self.object.same_frame(self.entry, to) {
                self.unresolved = true;
                break;
            }
            match index.entry {
                Some(entry) => {
                    if let Some(state) = branch::chosen(state, entry, at) {
                        self.jump(to, &state);
                    }
                }
                None => self.jump(to, state),
            }
        }
        self.unresolved |= bound.is_none();
    }

    /// A call that leaves a return address on the stack.
    fn call(&mut self, to: Callee, state: &State) {
        let read = if self.object.go { ALL } else { READ_BY_C };
        self.enter(to, state, read, 0);
    }

    /// A jump into another function, which returns to our caller.
    pub(super) fn continued(&mut self, to: Callee, state: &State) {
        self.enter(to, state, ALL, 8);
    }

    /// `below`: how much of the stack lies between its top and the callee's arguments.
    fn enter(&mut self, to: Callee, state: &State, read: &[u8], below: i32) {
        self.lose_registers(state, ARGUMENTS);
        if matches!(to, Callee::Address(to) if self.object.is_silent(to)) {
            return;
        }
        let is_told = |place: &&u8| state.registers[usize::from(**place)].is_told();
        let mut args = Vec::with_capacity(read.iter().filter(is_told).count());
        for place in read {
            let value = &state.registers[usize::from(*place)];
            if *place == 0 || !matches!(value, Val::Variable(_)) {
                argument(&mut args, *place, value);
            }
        }
        if let Val::Stack(top) = state.registers[RSP] {
            for slot in 0..SLOTS {
                let at = top.saturating_add(below).saturating_add(i32::from(slot) * 8);
                argument(&mut args, FIRST_SLOT + slot, &state.slot(at));
            }
        }
        self.made.calls.push((to, args, Rc::clone(&state.guards)));
    }

    fn site(&mut self, state: &State, instruction: &Instruction) {
        let mut number = state.registers[0].low().value();
        if number == Value::Any && models::is_set_id(&self.recent(instruction)) {
            let is_static = self.object.elf.interpreter.is_none() && self.object.exports.is_empty();
            if is_static || self.object.is_c_library() {
                number = Value::SetId;
            }
        }
        // rdi, rsi, rdx: what the arguments that narrow are in.
        let places = [7usize, 6, 2];
        let args = (0u8..).zip(places).filter_map(|(at, register)| {
            let value = match &state.registers[register] {
                // The number of a call, and nothing to be compared.
                Val::Variable(_) => Value::Any,
                value => value.value(),
            };
            (value != Value::Any).then_some((at, value))
        });
        let args = args.collect();
        self.made.sites.push(Site { at: instruction.ip(), number, args, when: state.guards.to_vec() });
    }

    /// The last instructions of this run, the newest first, `last` among them.
    fn recent(&self, last: &Instruction) -> VecDeque<Instruction> {
        let mut recent = VecDeque::new();
        let Some(bytes) = self.object.elf.from(self.head) else { return recent };
        let mut decoder = Decoder::with_ip(64, bytes, self.head, DecoderOptions::NONE);
        while decoder.can_decode() && decoder.ip() <= last.ip() {
            recent.truncate(models::RECENT - 1);
            recent.push_front(decoder.decode());
        }
        recent
    }
}

/// Whether this is all that so many whole bytes can hold.
fn is_width(most: u64) -> bool {
    matches!(most, 0xff | 0xffff | 0xffff_ffff)
}

fn argument(args: &mut Vec<(Place, Value)>, place: Place, value: &Val) {
    match value.value() {
        Value::Any => {}
        // A register that still is what it was at entry says nothing of a call but to places that pass it on.
        value => args.push((place, value)),
    }
}
