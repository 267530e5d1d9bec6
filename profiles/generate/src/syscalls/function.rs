//! One function: which calls and system calls it makes, with which constants, under which conditions on its arguments.
//!
//! ```text
//! entry ─► block ─► block ...   state at each block's head, joined over all ways there, until nothing changes
//!             └─► jump table, part split off (.cold): followed as if they stood here
//! then once more over every block, with what is known at its head: calls, addresses taken, sites
//! ```
//! Invariant: code that only a way that was not understood reaches (a jump through an unknown table, a landing pad)
//! is looked at as well, with nothing known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use super::{
    branch::{self, Way},
    escape::kept,
    models,
    object::Object,
    state::{Flags, Index, RSP, State, Val},
    step::{Stepper, index_of},
    summary::{Call, FIRST_SLOT, Guard, Place, SLOTS, Site, Target, Value},
};

/// Most entries of a jump table whose length is not known.
const TABLE_MAX: u64 = 512;
/// Most instructions looked at for one function, repetitions included.
const STEPS_MAX: u64 = 4_000_000;
/// Joins of one block after which a value that still changes is given up.
const JOINS_MAX: u32 = 4;

/// What was found out about a function.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) calls: Vec<(Callee, Call)>,
    pub(crate) taken: Vec<(Callee, Vec<Guard>)>,
    pub(crate) sites: Vec<Site>,
    /// Heads of the blocks that were looked at.
    pub(crate) heads: Vec<u64>,
    pub(crate) steps: u64,
    pub(crate) gave_up: bool,
}

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Callee {
    Address(u64),
    Import(u32),
}

struct Head {
    state: State,
    joins: u32,
}

pub(crate) struct Walk<'o, 'd> {
    pub(super) object: &'o Object<'d>,
    stepper: Stepper<'o, Object<'d>>,
    entry: u64,
    heads: BTreeMap<u64, Head>,
    /// Where a run from each head ended.
    ran: BTreeMap<u64, u64>,
    queue: BTreeSet<u64>,
    unresolved: bool,
    pub(super) found: Found,
    pub(super) record: bool,
    /// The last instructions of this run.
    recent: VecDeque<Instruction>,
}

impl<'o, 'd> Walk<'o, 'd> {
    pub(crate) fn function(object: &'o Object<'d>, entry: u64) -> Found {
        let mut walk = Self {
            object,
            stepper: Stepper::new(object),
            entry,
            heads: BTreeMap::new(),
            ran: BTreeMap::new(),
            queue: BTreeSet::new(),
            unresolved: false,
            found: Found::default(),
            record: false,
            recent: VecDeque::new(),
        };
        walk.reach(entry, &State::entry());
        walk.settle();
        if walk.unresolved {
            for label in object.labels_within(entry) {
                walk.reach(label, &State::unknown());
            }
            walk.settle();
        }
        walk.uncovered();
        walk.record = true;
        let heads: Vec<u64> = walk.heads.keys().copied().collect();
        for head in &heads {
            walk.run(*head);
        }
        walk.found.heads = heads;
        let mut found = walk.found;
        tidy(&mut found);
        found
    }

    fn settle(&mut self) {
        while let Some(head) = self.queue.pop_first() {
            if self.found.steps > STEPS_MAX {
                self.found.gave_up = true;
                self.queue.clear();
                return;
            }
            self.run(head);
        }
    }

    /// Code within the function's range that was not reached by a way that is understood.
    fn uncovered(&mut self) {
        let Some(frame) = self.object.frame_of(self.entry).filter(|frame| frame.start == self.entry) else {
            return;
        };
        if !self.unresolved && !frame.landing_pads {
            return;
        }
        let mut at = frame.start;
        while at < frame.end {
            // The run that covers this address, if one does.
            let covering = self.ran.range(..=at).next_back().map(|(_, end)| *end).filter(|end| *end > at);
            if let Some(end) = covering {
                at = end;
                continue;
            }
            let Some(instruction) = self.object.instruction(at) else {
                at += 1;
                continue;
            };
            if matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3) {
                at = instruction.next_ip();
                continue;
            }
            self.reach(at, &State::unknown());
            self.settle();
            if !self.ran.contains_key(&at) {
                return;
            }
        }
    }

    /// Joins `state` into the head of the block at `at`.
    fn reach(&mut self, at: u64, state: &State) {
        if self.record {
            // What this way knows and the block's head does not.
            let lost: Vec<Val> = match self.heads.get(&at) {
                Some(head) => {
                    let pairs = state.registers.iter().zip(&head.state.registers);
                    pairs.filter(|(ours, theirs)| !kept(ours, theirs)).map(|(ours, _)| ours.clone()).collect()
                }
                None => Vec::new(),
            };
            for value in lost {
                self.lose(&value, state);
            }
            return;
        }
        if !self.object.is_code(at) {
            return;
        }
        match self.heads.get_mut(&at) {
            Some(head) => {
                head.joins += 1;
                if head.state.join(state, head.joins > JOINS_MAX) {
                    self.queue.insert(at);
                }
            }
            None => {
                self.heads.insert(at, Head { state: state.clone(), joins: 0 });
                self.queue.insert(at);
                // A run that went over this address must end here from now on.
                if let Some((before, end)) = self.ran.range(..at).next_back()
                    && *end > at
                {
                    self.queue.insert(*before);
                }
            }
        }
    }

    fn run(&mut self, head: u64) {
        let Some(mut state) = self.heads.get(&head).map(|head| head.state.clone()) else { return };
        let Some(bytes) = self.object.elf.from(head) else { return };
        let mut decoder = Decoder::with_ip(64, bytes, head, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let next_head = self.heads.range(head + 1..).next().map_or(u64::MAX, |(at, _)| *at);
        let next_head = next_head.min(self.object.next_jump(head + 1));
        let next_start = self.object.next_start(head + 1);
        let frame_end = self.object.frame_of(head).map_or(u64::MAX, |frame| frame.end);
        let mut after_call = false;
        while decoder.can_decode() {
            let at = decoder.ip();
            if at == next_head {
                self.reach(at, &state);
                break;
            }
            if at == next_start {
                // The compiler lets nothing fall out of a function but a call that does not come back.
                if !after_call {
                    self.call(Callee::Address(at), &state);
                }
                break;
            }
            if after_call && at == frame_end {
                break;
            }
            decoder.decode_out(&mut instruction);
            self.found.steps += 1;
            if instruction.code() == Code::INVALID {
                break;
            }
            after_call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
            if self.record {
                self.recent.truncate(models::RECENT - 1);
                self.recent.push_front(instruction);
            }
            if !self.instruction(&mut state, &instruction) {
                break;
            }
        }
        self.ran.insert(head, decoder.ip());
    }

    /// Whether the next instruction follows.
    fn instruction(&mut self, state: &mut State, instruction: &Instruction) -> bool {
        if self.record {
            self.addresses(state, instruction);
        }
        match instruction.mnemonic() {
            Mnemonic::Syscall => {
                self.site(state, instruction);
                for register in [0, 1, 11] {
                    state.registers[register] = Val::Any;
                }
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
            FlowControl::ConditionalBranch => {
                let condition = instruction.condition_code();
                match branch::taken(state, condition) {
                    Way::Never => {}
                    Way::Same => self.jump(instruction.near_branch_target(), state),
                    Way::Known(taken) => self.jump(instruction.near_branch_target(), &taken),
                }
                let mut negated = *instruction;
                negated.negate_condition_code();
                match branch::taken(state, negated.condition_code()) {
                    Way::Never => return false,
                    Way::Same => {}
                    Way::Known(not_taken) => *state = *not_taken,
                }
                true
            }
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
                    self.call(self.object.callee(to), state);
                    self.clobber(state);
                    if self.object.never_returns(to) {
                        return false;
                    }
                }
                true
            }
            FlowControl::IndirectCall => {
                match self.stepper.operand(state, instruction, 0) {
                    Val::Import(import) => self.call(Callee::Import(import), state),
                    value => {
                        for to in value.constants().unwrap_or_default() {
                            if self.object.is_code(*to) {
                                self.call(self.object.callee(*to), state);
                            }
                        }
                    }
                }
                self.lose_registers(state, ARGUMENTS);
                self.clobber(state);
                true
            }
        }
    }

    /// What a call leaves: the registers that the callee must keep. Go's keeps none.
    fn clobber(&self, state: &mut State) {
        let kept: &[usize] = if self.object.go { &[RSP] } else { &[3, RSP, 5, 12, 13, 14, 15] };
        for register in 0..16 {
            if !kept.contains(&register) {
                state.registers[register] = Val::Any;
            }
        }
        state.flags = Flags::Unknown;
        state.forget_escaped();
    }

    fn jump(&mut self, to: u64, state: &State) {
        match self.object.callee(to) {
            Callee::Address(to) if to == self.entry || !self.object.is_start(to) => self.reach(to, state),
            callee => self.call(callee, state),
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
            Val::Import(import) => self.call(Callee::Import(import), state),
            Val::Label { table, index } => {
                let object = self.object;
                self.table(state, index, |at| {
                    let offset = object.elf.i32(table.wrapping_add(at * 4))?;
                    Some(table.wrapping_add_signed(i64::from(offset)))
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
        for at in 0..bound.map_or(TABLE_MAX, |most| most + 1) {
            let Some(to) = target(at).filter(|to| self.object.is_code(*to)) else {
                self.unresolved = true;
                break;
            };
            // Without a bound the table ends where its entries lead elsewhere.
            if bound.is_none() && !self.object.same_frame(self.entry, to) {
                break;
            }
            let chosen = match index.entry {
                Some(entry) => branch::chosen(state, entry, at),
                None => Some(state.clone()),
            };
            if let Some(state) = chosen {
                self.jump(to, &state);
            }
        }
        self.unresolved |= bound.is_none();
    }

    fn call(&mut self, to: Callee, state: &State) {
        if !self.record {
            return;
        }
        self.lose_registers(state, ARGUMENTS);
        let mut args = Vec::new();
        for place in 0..16u8 {
            if usize::from(place) != RSP {
                argument(&mut args, place, &state.registers[usize::from(place)]);
            }
        }
        if let Val::Stack(top) = state.registers[RSP] {
            for slot in 0..SLOTS {
                argument(&mut args, FIRST_SLOT + slot, &state.slot(top.saturating_add(i32::from(slot) * 8)));
            }
        }
        // The target's number is filled in once all functions have one.
        let call = Call { to: Target::Own(0), args, when: state.guards.clone() };
        self.found.calls.push((to, call));
    }

    fn site(&mut self, state: &State, instruction: &Instruction) {
        if !self.record {
            return;
        }
        let mut number = state.registers[0].low().value();
        if number == Value::Any && models::is_set_id(&self.recent) {
            if self.object.is_c_library() {
                number = Value::SetId;
            } else if self.object.elf.interpreter.is_none() && self.object.exports.is_empty() {
                number = Value::OneOf(models::set_id_numbers());
            }
        }
        // rdi, rsi, rdx: what the arguments that narrow are in.
        let places = [7usize, 6, 2];
        let args = (0u8..).zip(places).filter_map(|(at, register)| {
            let value = state.registers[register].value();
            (value != Value::Any).then_some((at, value))
        });
        let args = args.collect();
        self.found.sites.push(Site { at: instruction.ip(), number, args, when: state.guards.clone() });
    }
}

/// What a callee is handed arguments in: by the C convention, and by Go's.
const ARGUMENTS: &[usize] = &[7, 6, 2, 1, 8, 9, 0, 3, 10, 11];

fn argument(args: &mut Vec<(Place, Value)>, place: Place, value: &Val) {
    match value.value() {
        Value::Any => {}
        // A register that still is what it was at entry says nothing of a call but to places that pass it on.
        value => args.push((place, value)),
    }
}

fn tidy(found: &mut Found) {
    found.calls.sort_unstable();
    found.calls.dedup();
    found.taken.sort_unstable();
    found.taken.dedup();
    found.sites.sort_unstable();
    found.sites.dedup();
    // An unconditional one says it all.
    let unconditional: Vec<Callee> =
        found.taken.iter().filter(|(_, when)| when.is_empty()).map(|(callee, _)| *callee).collect();
    found.taken.retain(|(callee, when)| when.is_empty() || !unconditional.contains(callee));
}
