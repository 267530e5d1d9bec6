//! What is known of registers and stack at one instruction.
//!
//! Invariant: [`State::join`] knows at most what both states know. A value that is not sure is [`Val::Any`].
//!
//! A state is copied at each block's head and for each way out of it: a value is two words, and what needs more is shared
//! until it is written to.

use std::rc::Rc;

use super::{
    conditions::weaker,
    summary::{FIRST_SLOT, Guard, SLOTS},
    value::Val,
};

/// The words above the return address, by offset from the stack pointer at entry.
const ARGUMENTS: std::ops::Range<i32> = 8..8 + 8 * SLOTS as i32;

/// What the last comparison was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flags {
    Unknown,
    /// `left - right`, of so many bits; `register` still holds `left`.
    Compared {
        left: Val,
        right: u64,
        bits: u32,
        register: Option<u8>,
    },
    /// `left & mask`; all bits: `left` itself, and `register` still holds it.
    Tested {
        left: Val,
        mask: u64,
        bits: u32,
        register: Option<u8>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) registers: [Val; 16],
    /// By offset from the stack pointer at entry, in order.
    slots: Rc<Vec<(i32, Val)>>,
    /// Slots from here on may be written through pointers.
    pub(crate) escaped_from: i32,
    pub(crate) flags: Flags,
    pub(crate) guards: Rc<Vec<Guard>>,
}

pub(crate) const RSP: usize = 4;

impl State {
    /// At a function's entry: each register is what it was at entry.
    pub(crate) fn entry() -> Self {
        let mut registers = std::array::from_fn(|at| Val::Entry { place: at as u8, low: false, plus: 0 });
        registers[RSP] = Val::Stack(0);
        Self {
            registers,
            slots: Rc::default(),
            escaped_from: i32::MAX,
            flags: Flags::Unknown,
            guards: Rc::default(),
        }
    }

    /// Somewhere in a function, by a way that was not seen.
    pub(crate) fn unknown() -> Self {
        let registers = std::array::from_fn(|_| Val::Any);
        Self {
            registers,
            slots: Rc::default(),
            escaped_from: i32::MIN,
            flags: Flags::Unknown,
            guards: Rc::default(),
        }
    }

    pub(crate) fn slot(&self, at: i32) -> Val {
        match self.slots.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(found) => self.slots[found].1.clone(),
            Err(_) => self.not_listed(at),
        }
    }

    /// A slot that nothing is listed of.
    fn not_listed(&self, at: i32) -> Val {
        // Above the return address lies what the caller pushed, as long as nobody wrote there.
        if ARGUMENTS.contains(&at) && at % 8 == 0 && at < self.escaped_from {
            Val::Entry { place: FIRST_SLOT + ((at - 8) / 8) as u8, low: false, plus: 0 }
        } else {
            Val::Any
        }
    }

    pub(crate) fn set_slot(&mut self, at: i32, bytes: i32, value: Val) {
        self.forget_slots(at.saturating_sub(7), at.saturating_add(bytes));
        self.put(at, value);
    }

    fn put(&mut self, at: i32, value: Val) {
        match self.slots.binary_search_by_key(&at, |(other, _)| *other) {
            Ok(found) if self.slots[found].1 == value => {}
            Ok(found) => Rc::make_mut(&mut self.slots)[found].1 = value,
            // What is not listed is not known.
            Err(_) if value == Val::Any && !ARGUMENTS.contains(&at) => {}
            Err(found) => Rc::make_mut(&mut self.slots).insert(found, (at, value)),
        }
    }

    /// Something was written there.
    pub(crate) fn forget_slots(&mut self, from: i32, to: i32) {
        let first = self.slots.partition_point(|(at, _)| *at < from);
        let end = self.slots.partition_point(|(at, _)| *at < to);
        if first < end {
            Rc::make_mut(&mut self.slots).drain(first..end);
        }
        if to > ARGUMENTS.start && from < ARGUMENTS.end {
            // What was handed on is not known without being listed.
            let end = to.min(self.escaped_from);
            for at in ARGUMENTS.step_by(8).filter(|at| (from..end).contains(at)) {
                self.put(at, Val::Any);
            }
        }
    }

    /// Something was written through a pointer that is not known.
    pub(crate) fn forget_escaped(&mut self) {
        if self.escaped_from < i32::MAX {
            self.forget_slots(self.escaped_from, i32::MAX);
        }
    }

    pub(crate) fn escape(&mut self, at: i32) {
        self.escaped_from = self.escaped_from.min(at);
    }

    /// Becomes what both know. Whether that is less than it was.
    pub(crate) fn join(&mut self, other: &Self, widen: bool) -> bool {
        let mut changed = false;
        for (ours, theirs) in self.registers.iter_mut().zip(&other.registers) {
            if ours != theirs {
                let joined = ours.join(theirs, widen);
                changed |= joined != *ours;
                *ours = joined;
            }
        }
        if self.slots != other.slots || self.escaped_from != other.escaped_from {
            changed |= self.join_slots(other, widen);
        }
        if self.flags != other.flags && self.flags != Flags::Unknown {
            self.flags = Flags::Unknown;
            changed = true;
        }
        if self.guards != other.guards && !self.guards.iter().all(|guard| other.guards.contains(guard)) {
            let joined: Vec<Guard> =
                self.guards.iter().filter_map(|guard| weaker(guard, &other.guards)).collect();
            if joined != *self.guards {
                changed = true;
                self.guards = Rc::new(joined);
            }
        }
        changed
    }

    fn join_slots(&mut self, other: &Self, widen: bool) -> bool {
        let (mut changed, mut joined) = (false, Vec::with_capacity(self.slots.len()));
        let (mut ours, mut theirs) = (self.slots.iter().peekable(), other.slots.iter().peekable());
        loop {
            let at = match (ours.peek(), theirs.peek()) {
                (Some((ours, _)), Some((theirs, _))) => *ours.min(theirs),
                (Some((at, _)), None) | (None, Some((at, _))) => *at,
                (None, None) => break,
            };
            let listed = ours.next_if(|(ours, _)| *ours == at);
            let before = listed.map_or_else(|| self.not_listed(at), |(_, value)| value.clone());
            let theirs = theirs.next_if(|(theirs, _)| *theirs == at);
            let after = match theirs {
                Some((_, theirs)) => before.join(theirs, widen),
                None => before.join(&other.not_listed(at), widen),
            };
            let same = after == before;
            changed |= !same;
            // What is not listed is not known, but for what the caller pushed.
            if if same { listed.is_some() } else { after != Val::Any || ARGUMENTS.contains(&at) } {
                joined.push((at, after));
            }
        }
        if changed {
            self.slots = Rc::new(joined);
        }
        changed |= other.escaped_from < self.escaped_from;
        self.escaped_from = self.escaped_from.min(other.escaped_from);
        changed
    }
}
