//! What is known of a register or a stack slot.

use std::{collections::BTreeSet, rc::Rc};

use super::summary::{Place, Value};

/// Most values that a set holds.
pub(super) const SET_MAX: usize = 12;

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
    /// What a variable has from the start: the number of a call, and nothing to be compared.
    Variable(u64),
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
            Self::Variable(value) => Self::Variable(*value),
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

    pub(super) fn join(&self, other: &Self, widen: bool) -> Self {
        if self == other {
            return self.clone();
        }
        match (self.constants(), other.constants()) {
            // What is within is nothing new.
            (Some(ours), Some(theirs)) if theirs.iter().all(|value| ours.contains(value)) => self.clone(),
            (Some(ours), Some(theirs)) if !widen => Self::of(ours.iter().chain(theirs).copied().collect()),
            _ => match (self.most(), other.most()) {
                (Some(ours), Some(theirs)) if !widen => Self::AtMost(ours.max(theirs)),
                _ => Self::Any,
            },
        }
    }

    /// Whether [`Val::value`] says something.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, Self::One(_) | Self::OneOf(_) | Self::Entry { .. })
    }

    pub(crate) fn value(&self) -> Value {
        match self {
            Self::One(value) | Self::Variable(value) => Value::One(*value),
            Self::OneOf(values) => Value::OneOf(values.to_vec()),
            Self::Entry { place, low, plus } => Value::Entry { place: *place, low: *low, plus: *plus },
            _ => Value::Any,
        }
    }
}
