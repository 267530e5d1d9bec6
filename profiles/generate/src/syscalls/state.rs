//! What is known of registers and stack at one instruction.
//!
//! Invariant: [`State::join`] knows at most what both states know. A value that is not sure is [`Val::Any`].
//!
//! A state is copied at each block's head and for each way out of it: a value is two words, and what needs more is shared
//! until it is written to.

use std::{collections::BTreeSet, rc::Rc};

use super::summary::{FIRST_SLOT, Guard, Place, SLOTS, Test, Value};

/// The words above the return address, by offset from the stack pointer at entry.
const ARGUMENTS: std::ops::Range<i32> = 8..8 + 8 * SLOTS as i32;
/// Most values that a set holds.
const SET_MAX: usize = 12;
/// Most conditions that a path carries.
const GUARDS_MAX: usize = 6;

/// A register or a stack slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Val {
    Any,
    One(u64),
    /// One of these, two at least.
    OneOf(Rc<Vec<u64>>),
    /// Unknown, at most this.
    AtMost(u64),
    /// Unknown, but for so many of its lowest bits, which are this.
    Part(u8, Rc<Val>),
    Entry {
        place: Place,
        low: bool,
        plus: i32,
    },
    /// The stack pointer at entry, plus this.
    Stack(i32),
    /// The address of an import.
    Import(u32),
    /// A word of a table of offsets.
    Offset(Rc<Chosen>),
    /// An entry of a table of offsets, made an address.
    Label(Rc<Chosen>),
}

/// An entry of a jump table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) table: u64,
    pub(crate) index: Index,
}

/// What chooses an entry of a jump table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) most: Option<u64>,
    pub(crate) entry: Option<(Place, bool, i32)>,
}

impl Val {
    fn of(values: BTreeSet<u64>) -> Self {
        match values.first() {
            Some(one) if values.len() == 1 => Self::One(*one),
            Some(_) if values.len() <= SET_MAX => Self::OneOf(Rc::new(values.into_iter().collect())),
            _ => Self::Any,
        }
    }

    /// All that it can be, where that is known.
    pub(crate) fn constants(&self) -> Option<&[u64]> {
        match self {
            Self::One(value) => Some(std::slice::from_ref(value)),
            Self::OneOf(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn constant(&self) -> Option<u64> {
        match self {
            Self::One(value) => Some(*value),
            _ => None,
        }
    }

    /// Applies `f` to each constant; anything else is not known.
    pub(crate) fn map(&self, f: impl Fn(u64) -> u64) -> Self {
        match self {
            Self::One(value) => Self::One(f(*value)),
            Self::OneOf(values) => Self::of(values.iter().map(|value| f(*value)).collect()),
            _ => Self::Any,
        }
    }

    /// As 32 bits, the upper half zero.
    pub(crate) fn low(&self) -> Self {
        match self {
            Self::One(_) | Self::OneOf(_) => self.map(|value| value & 0xffff_ffff),
            Self::Entry { place, low: _, plus } => Self::Entry { place: *place, low: true, plus: *plus },
            Self::AtMost(most) => Self::AtMost((*most).min(0xffff_ffff)),
            Self::Part(32.., part) => part.low(),
            Self::Any
            | Self::Part(..)
            | Self::Stack(_)
            | Self::Import(_)
            | Self::Offset(_)
            | Self::Label(_) => Self::AtMost(0xffff_ffff),
        }
    }

    pub(crate) fn plus(&self, number: i64) -> Self {
        match self {
            Self::One(_) | Self::OneOf(_) => self.map(|value| value.wrapping_add_signed(number)),
            Self::Stack(at) => i32::try_from(number)
                .ok()
                .and_then(|number| at.checked_add(number))
                .map_or(Self::Any, Self::Stack),
            Self::Entry { place, low, plus } => i32::try_from(number)
                .ok()
                .and_then(|number| plus.checked_add(number))
                .map_or(Self::Any, |plus| Self::Entry { place: *place, low: *low, plus }),
            _ => Self::Any,
        }
    }

    /// The most it can be, unsigned.
    pub(crate) fn most(&self) -> Option<u64> {
        match self {
            Self::AtMost(most) => Some(*most),
            _ => self.constants()?.iter().copied().max(),
        }
    }

    /// One of the two.
    pub(crate) fn either(&self, other: &Self) -> Self {
        self.join(other, false)
    }

    fn join(&self, other: &Self, widen: bool) -> Self {
        if self == other {
            return self.clone();
        }
        match (self.constants(), other.constants()) {
            (Some(ours), Some(theirs)) if !widen => Self::of(ours.iter().chain(theirs).copied().collect()),
            _ => match (self.most(), other.most()) {
                (Some(ours), Some(theirs)) if !widen => Self::AtMost(ours.max(theirs)),
                _ => Self::Any,
            },
        }
    }

    pub(crate) fn value(&self) -> Value {
        match self {
            Self::One(value) => Value::One(*value),
            Self::OneOf(values) => Value::OneOf(values.to_vec()),
            Self::Entry { place, low, plus } => Value::Entry { place: *place, low: *low, plus: *plus },
            _ => Value::Any,
        }
    }
}

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

    /// Adds a condition; false if it cannot hold together with the others.
    pub(crate) fn assume(&mut self, guard: Guard) -> bool {
        let same =
            |known: &Guard| (known.place, known.low, known.plus) == (guard.place, guard.low, guard.plus);
        if self.guards.iter().any(same) {
            return self.assume_too(guard);
        }
        self.add(guard);
        true
    }

    fn add(&mut self, guard: Guard) {
        if self.guards.len() < GUARDS_MAX {
            let guards = Rc::make_mut(&mut self.guards);
            guards.push(guard);
            guards.sort_unstable();
        }
    }

    /// Adds a condition on a value that has one already.
    fn assume_too(&mut self, guard: Guard) -> bool {
        for known in Rc::make_mut(&mut self.guards) {
            if (known.place, known.low, known.plus) != (guard.place, guard.low, guard.plus) {
                continue;
            }
            match (&mut known.test, &guard.test) {
                (Test::In(set), test) => {
                    set.retain(|value| test.passes(*value, guard.low));
                    return !set.is_empty();
                }
                (Test::NotIn(set), Test::NotIn(more)) if set.len() + more.len() <= SET_MAX => {
                    set.extend(more);
                    set.sort_unstable();
                    set.dedup();
                    return true;
                }
                (Test::NotIn(set), Test::In(these)) => {
                    let left: Vec<u64> = these.iter().copied().filter(|value| !set.contains(value)).collect();
                    let possible = !left.is_empty();
                    known.test = Test::In(left);
                    return possible;
                }
                (Test::Range(least, most), Test::Range(other_least, other_most)) => {
                    *least = (*least).max(*other_least);
                    *most = (*most).min(*other_most);
                    return least <= most;
                }
                (known, new) if *known == *new => return true,
                _ => {}
            }
        }
        self.add(guard);
        true
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

/// A condition that follows from `guard` and also from `others`, if one can be told.
fn weaker(guard: &Guard, others: &[Guard]) -> Option<Guard> {
    if others.contains(guard) {
        return Some(guard.clone());
    }
    let same = |other: &&Guard| (other.place, other.low, other.plus) == (guard.place, guard.low, guard.plus);
    others.iter().filter(same).find_map(|other| {
        let test = match (&guard.test, &other.test) {
            (Test::In(ours), Test::In(theirs)) => {
                let both: BTreeSet<u64> = ours.iter().chain(theirs).copied().collect();
                (both.len() <= 64).then(|| Test::In(both.into_iter().collect()))
            }
            (Test::NotIn(ours), Test::NotIn(theirs)) => {
                let both: Vec<u64> = ours.iter().copied().filter(|value| theirs.contains(value)).collect();
                (!both.is_empty()).then_some(Test::NotIn(both))
            }
            (Test::Range(least, most), Test::Range(other_least, other_most)) => {
                Some(Test::Range(*least.min(other_least), *most.max(other_most)))
            }
            (Test::In(set), test) | (test, Test::In(set)) => {
                set.iter().all(|value| test.passes(*value, guard.low)).then(|| test.clone())
            }
            _ => None,
        }?;
        Some(Guard { test, ..guard.clone() })
    })
}
