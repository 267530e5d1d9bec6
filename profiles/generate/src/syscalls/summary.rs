//! What is known of one ELF file, whatever it is linked with: the part that is cached by the hash of its content.

use serde::{Deserialize, Serialize};

/// Argument registers and stack slots share one numbering: 0–15 as the processor numbers its registers (rax is 0,
/// rdi 7), from 16 on the words above the return address.
pub(crate) type Place = u8;

/// First stack slot among [`Place`]s.
pub(crate) const FIRST_SLOT: Place = 16;
/// How many stack slots are followed into a callee.
pub(crate) const SLOTS: u8 = 4;

/// One ELF file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) functions: Vec<Function>,
    /// Its name as a library.
    pub(crate) soname: Option<String>,
    /// Names of other files' functions, by number.
    pub(crate) imports: Vec<String>,
    /// Name and function.
    pub(crate) exports: Vec<(String, u32)>,
    /// Functions that run or can be called as soon as the file is loaded: its initialisers, and those whose address
    /// is in data of no [`Stretch`].
    pub(crate) roots: Vec<u32>,
    /// Imports whose address is in such data.
    pub(crate) root_imports: Vec<u32>,
    /// Data that says nothing before code refers to it.
    pub(crate) stretches: Vec<Stretch>,
    /// Those that somebody refers to as soon as the file is loaded: by the number in it.
    pub(crate) started: Vec<u8>,
    /// Symbols of data, and the stretches that they are of.
    pub(crate) data_exports: Vec<(String, Vec<u8>)>,
    /// Imports that the loader binds when it relocates the file, whether they are called or not.
    pub(crate) bound: Vec<u32>,
    /// Exports that the loader calls when somebody binds to them.
    pub(crate) resolvers: Vec<u32>,
    /// Texts in its data that may be the name of a function: what dlsym(3) may be asked for.
    pub(crate) names: Vec<String>,
    /// Texts of that kind whose address some call hands on, by address.
    pub(crate) literals: Vec<(u64, String)>,
    /// It is a C library, and names its functions.
    pub(crate) c_library: bool,
    /// The entry point of a program.
    pub(crate) entry: Option<u32>,
    /// Why the file could not be looked at to the end: it may then make any call.
    pub(crate) gave_up: Option<String>,
    /// Texts in its data that look like the name of a shared library or of a program.
    pub(crate) texts: Vec<String>,
    /// Go's linker made it.
    pub(crate) go: bool,
    /// Instructions that were looked at.
    pub(crate) instructions: u64,
}

impl Summary {
    /// The functions that it exports by this name.
    pub(crate) fn exported<'s>(&'s self, name: &'s str) -> impl Iterator<Item = u32> + 's {
        self.exports.iter().filter(move |(export, _)| export == name).map(|(_, function)| *function)
    }

    /// The text that a call hands on at this address.
    pub(crate) fn literal(&self, address: u64) -> Option<&str> {
        let at = self.literals.binary_search_by_key(&address, |(at, _)| *at).ok()?;
        self.literals.get(at).map(|(_, text)| text.as_str())
    }
}

/// A section of data: what can be called, or referred to, from then on that code refers to it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stretch {
    pub(crate) roots: Vec<u32>,
    pub(crate) imports: Vec<u32>,
    pub(crate) stretches: Vec<u8>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Function {
    pub(crate) address: u64,
    pub(crate) name: Option<String>,
    pub(crate) calls: Vec<Call>,
    /// Functions whose address it takes: anybody may call them, with any arguments.
    pub(crate) taken: Vec<(Target, Vec<Guard>)>,
    pub(crate) sites: Vec<Site>,
    /// Stretches of its file's data that it refers to.
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Target {
    Own(u32),
    Import(u32),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) to: Target,
    pub(crate) args: Vec<(Place, Value)>,
    pub(crate) when: Vec<Guard>,
}

/// An instruction that enters the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Site {
    pub(crate) at: u64,
    pub(crate) number: Value,
    /// The arguments that narrow, by their number in the call.
    pub(crate) args: Vec<(u8, Value)>,
    pub(crate) when: Vec<Guard>,
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Value {
    One(u64),
    OneOf(Vec<u64>),
    /// What was in that place when the function was entered, plus a number; `low`: 32 bits of it.
    Entry {
        place: Place,
        low: bool,
        plus: i32,
    },
    /// The number of a change of ids that a C library has every thread make; see `models`.
    SetId,
    Any,
}

impl Value {
    /// All that it can be, where that does not depend on arguments.
    pub(crate) fn constants(&self) -> Option<&[u64]> {
        match self {
            Self::One(value) => Some(std::slice::from_ref(value)),
            Self::OneOf(values) => Some(values),
            Self::Entry { .. } | Self::SetId | Self::Any => None,
        }
    }
}

/// What must hold of an argument at entry for a call or site to be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Guard {
    pub(crate) place: Place,
    pub(crate) low: bool,
    pub(crate) plus: i32,
    pub(crate) test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Test {
    In(Vec<u64>),
    NotIn(Vec<u64>),
    /// Unsigned, both ends included.
    Range(u64, u64),
    /// Signed, both ends included.
    Signed(i64, i64),
    /// Some bit of the mask is set.
    Some(u64),
    /// No bit of the mask is set.
    None(u64),
}

/// `value` plus `plus`, in the width that was compared.
pub(crate) fn shifted(value: u64, low: bool, plus: i32) -> u64 {
    let sum = value.wrapping_add_signed(i64::from(plus));
    if low { sum & 0xffff_ffff } else { sum }
}

/// All that a place of this value may be handed on as: of 32 bits, that they were made 64 with the sign or without.
pub(crate) fn handed_on(value: u64, low: bool, plus: i32) -> Vec<u64> {
    if !low {
        return vec![shifted(value, low, plus)];
    }
    let signed = |value: u64| i64::from(value as u32 as i32).cast_unsigned();
    let (sum, plus) = (shifted(value, low, plus), i64::from(plus));
    let before = [value & 0xffff_ffff, signed(value)].map(|value| value.wrapping_add_signed(plus));
    let mut all = vec![sum, signed(sum), before[0], before[1]];
    all.sort_unstable();
    all.dedup();
    all
}

impl Guard {
    /// Whether an argument of this value passes.
    pub(crate) fn passes(&self, value: u64) -> bool {
        self.test.passes(shifted(value, self.low, self.plus), self.low)
    }
}

impl Test {
    pub(crate) fn passes(&self, value: u64, low: bool) -> bool {
        let signed = if low { i64::from(value as u32 as i32) } else { value.cast_signed() };
        match self {
            Self::In(set) => set.contains(&value),
            Self::NotIn(set) => !set.contains(&value),
            Self::Range(least, most) => (*least..=*most).contains(&value),
            Self::Signed(least, most) => (*least..=*most).contains(&signed),
            Self::Some(mask) => value & mask != 0,
            Self::None(mask) => value & mask == 0,
        }
    }
}
