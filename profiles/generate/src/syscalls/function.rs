//! One function: which calls and system calls it makes, with which constants, under which conditions on its arguments.
//!
//! ```text
//! entry ─► block ─► block ...   state at each block's head, joined over all ways there, until nothing changes
//!             └─► jump table, part split off (.cold): followed as if they stood here
//! ```
//! Invariant: code that only a way that was not understood reaches (a jump through an unknown table, a landing pad)
//! is looked at as well, with nothing known. What a block makes is what its last run found: a block is run again
//! whenever less is known at its head.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

use super::{
    dead::is_dead,
    object::Object,
    order::{Order, Turn},
    state::State,
    step::Stepper,
    summary::{Call, Guard, Place, Site, Target, Value},
    value::Val,
};

/// Most instructions looked at for one function, repetitions included.
const STEPS_MAX: u64 = 4_000_000;
/// Joins that changed one block's head after which a value that still changes is given up.
const JOINS_MAX: u32 = 4;

/// What was found out about a function.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) calls: Vec<(Callee, Call)>,
    pub(crate) taken: Vec<(Callee, Vec<Guard>)>,
    pub(crate) sites: Vec<Site>,
    /// Stretches of data that it refers to.
    pub(crate) data: BTreeSet<u8>,
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

struct Block {
    /// At its head.
    state: State,
    joins: u32,
    made: Made,
    within: Within,
}

/// Where a block ends at the latest, as far as the file tells.
#[derive(Clone, Copy)]
struct Within {
    next_jump: u64,
    next_start: u64,
    frame_end: u64,
}

impl Within {
    fn of(object: &Object<'_>, head: u64) -> Self {
        Self {
            next_jump: object.next_jump(head + 1),
            next_start: object.next_start(head + 1),
            frame_end: object.frame_of(head).map_or(u64::MAX, |frame| frame.end),
        }
    }
}

/// Who is called, with which arguments, under which conditions.
type Handed = (Callee, Vec<(Place, Value)>, Rc<Vec<Guard>>);

/// What one run over a block found.
#[derive(Default)]
pub(super) struct Made {
    pub(super) calls: Vec<Handed>,
    pub(super) taken: Vec<(Callee, Rc<Vec<Guard>>)>,
    pub(super) sites: Vec<Site>,
    carried: Vec<Carried>,
}

/// An address of a function that a register holds on the way to another block.
struct Carried {
    to: u64,
    register: usize,
    value: Val,
    when: Rc<Vec<Guard>>,
}

pub(crate) struct Walk<'o, 'd> {
    pub(super) object: &'o Object<'d>,
    pub(super) stepper: Stepper<'o, Object<'d>>,
    pub(super) entry: u64,
    blocks: Vec<Block>,
    /// By address: the number of the block.
    heads: BTreeMap<u64, usize>,
    /// Where a run from each head ended.
    ran: BTreeMap<u64, u64>,
    pub(super) order: Order<'o, 'd>,
    queue: BTreeSet<Turn>,
    /// There was a jump that was not understood.
    pub(super) unresolved: bool,
    /// Head of the block that is being run.
    pub(super) head: u64,
    /// What that has found so far.
    pub(super) made: Made,
    steps: u64,
    data: BTreeSet<u8>,
    gave_up: bool,
}

impl<'o, 'd> Walk<'o, 'd> {
    pub(crate) fn function(object: &'o Object<'d>, entry: u64) -> Found {
        if object.is_plain(entry) {
            return Found { heads: vec![entry], ..Found::default() };
        }
        if let Some(found) = object.outlined(entry) {
            return found;
        }
        let mut walk = Self {
            object,
            stepper: Stepper::new(object),
            entry,
            blocks: Vec::new(),
            heads: BTreeMap::new(),
            ran: BTreeMap::new(),
            order: Order::of(object, entry),
            queue: BTreeSet::new(),
            unresolved: false,
            head: entry,
            made: Made::default(),
            steps: 0,
            data: BTreeSet::new(),
            gave_up: false,
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
        walk.found()
    }

    fn settle(&mut self) {
        while let Some((_, _, head)) = self.queue.pop_first() {
            if self.steps > STEPS_MAX {
                self.gave_up = true;
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
    pub(super) fn reach(&mut self, at: u64, state: &State) {
        if !self.object.is_code(at) {
            return;
        }
        for (register, value) in state.registers.iter().enumerate() {
            if self.names_a_function(value) {
                let (value, when) = (value.clone(), Rc::clone(&state.guards));
                self.made.carried.push(Carried { to: at, register, value, when });
            }
        }
        if let Some(number) = self.heads.get(&at) {
            let block = &mut self.blocks[*number];
            if block.state.join(state, block.joins >= JOINS_MAX) {
                block.joins += 1;
                self.queue.insert(self.order.turn(at));
            }
            return;
        }
        self.heads.insert(at, self.blocks.len());
        let within = Within::of(self.object, at);
        self.blocks.push(Block { state: state.clone(), joins: 0, made: Made::default(), within });
        self.order.add(self.head, &[at]);
        self.queue.insert(self.order.turn(at));
        // A run that went over this address must end here from now on.
        if let Some((before, end)) = self.ran.range(..at).next_back()
            && *end > at
        {
            self.queue.insert(self.order.turn(*before));
        }
    }

    fn run(&mut self, head: u64) {
        let Some(number) = self.heads.get(&head).copied() else { return };
        let Some(bytes) = self.object.elf.from(head) else { return };
        let mut state = self.blocks[number].state.clone();
        self.head = head;
        self.made = std::mem::take(&mut self.blocks[number].made);
        self.made.clear();
        let mut decoder = Decoder::with_ip(64, bytes, head, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let next_head = self.heads.range(head + 1..).next().map_or(u64::MAX, |(at, _)| *at);
        let Within { next_jump, next_start, frame_end } = self.blocks[number].within;
        let next_head = next_head.min(next_jump);
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
                    self.continued(Callee::Address(at), &state);
                }
                break;
            }
            if after_call && at == frame_end {
                break;
            }
            decoder.decode_out(&mut instruction);
            self.steps += 1;
            self.data.extend(self.object.referred(&instruction));
            if instruction.code() == Code::INVALID {
                break;
            }
            after_call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
            if !self.instruction(&mut state, &instruction) {
                break;
            }
        }
        self.ran.insert(head, decoder.ip());
        self.blocks[number].made = std::mem::take(&mut self.made);
    }

    /// What all blocks made, each thing once.
    fn found(mut self) -> Found {
        let mut lost = Vec::new();
        for block in &self.blocks {
            for Carried { to, register, value, when } in &block.made.carried {
                // What this way knows and the block's head does not.
                if let Some(number) = self.heads.get(to)
                    && !kept(value, &self.blocks[*number].state.registers[*register])
                    && !is_dead(self.object, *register, *to)
                {
                    lost.push((value.clone(), Rc::clone(when)));
                }
            }
        }
        self.made = Made::default();
        for (value, when) in lost {
            self.lose(&value, &when);
        }
        let last = std::mem::take(&mut self.made);
        let mut found = Found {
            heads: self.heads.into_keys().collect(),
            steps: self.steps + u64::from(self.order.looked_at),
            data: self.data,
            gave_up: self.gave_up,
            ..Found::default()
        };
        let mut calls = Vec::new();
        for made in self.blocks.into_iter().map(|block| block.made).chain([last]) {
            calls.extend(made.calls);
            found.sites.extend(made.sites);
            found.taken.extend(made.taken.into_iter().map(|(callee, when)| (callee, when.to_vec())));
        }
        calls.sort_unstable();
        calls.dedup();
        // The target's number is filled in once all functions have one.
        let calls = calls.into_iter();
        let calls = calls.map(|(to, mut args, when)| {
            args.shrink_to_fit();
            (to, Call { to: Target::Own(0), args, when: when.to_vec() })
        });
        found.calls = calls.collect();
        tidy(&mut found);
        found
    }
}

impl Made {
    fn clear(&mut self) {
        let Self { calls, taken, sites, carried } = self;
        calls.clear();
        taken.clear();
        sites.clear();
        carried.clear();
    }
}

/// Whether a join kept all that a value can be.
fn kept(ours: &Val, joined: &Val) -> bool {
    match (ours, joined) {
        (Val::Import(ours), Val::Import(joined)) => ours == joined,
        (Val::Import(_), _) => false,
        (ours, joined) => match (ours.constants(), joined.constants()) {
            (Some(ours), Some(joined)) => ours.iter().all(|value| joined.contains(value)),
            (Some(_), None) => false,
            (None, _) => true,
        },
    }
}

fn tidy(found: &mut Found) {
    found.taken.sort_unstable();
    found.taken.dedup();
    found.sites.sort_unstable();
    found.sites.dedup();
    // An unconditional one says it all.
    let unconditional: BTreeSet<Callee> =
        found.taken.iter().filter(|(_, when)| when.is_empty()).map(|(callee, _)| *callee).collect();
    found.taken.retain(|(callee, when)| when.is_empty() || !unconditional.contains(callee));
}
