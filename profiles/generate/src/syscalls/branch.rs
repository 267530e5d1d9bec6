//! What a conditional branch tells about each of its two ways.

use std::rc::Rc;

use iced_x86::ConditionCode;

use super::{
    arithmetic::mask,
    state::{Flags, State},
    summary::{Guard, Test, shifted},
    value::Val,
};

/// What is known on one way of a branch.
pub(crate) enum Way {
    /// It cannot be gone.
    Never,
    /// What was known before.
    Same,
    /// A register holds this.
    Holds(usize, Val),
    /// An argument passes this.
    Passes(Guard),
}

impl Way {
    /// Adds what is known on this way; whether it can be gone.
    pub(crate) fn learn(self, state: &mut State) -> bool {
        match self {
            Self::Never => false,
            Self::Same => true,
            Self::Holds(register, value) => {
                state.registers[register] = value;
                true
            }
            Self::Passes(guard) => state.assume(guard),
        }
    }
}

/// What learning changes of a state.
pub(crate) enum Before {
    Nothing,
    Register(usize, Val),
    Guards(Rc<Vec<Guard>>),
}

impl Way {
    /// What [`Way::learn`] will change.
    pub(crate) fn kept_by(&self, state: &State) -> Before {
        match self {
            Self::Never | Self::Same => Before::Nothing,
            Self::Holds(register, _) => Before::Register(*register, state.registers[*register].clone()),
            Self::Passes(_) => Before::Guards(Rc::clone(&state.guards)),
        }
    }
}

impl Before {
    pub(crate) fn put_back(self, state: &mut State) {
        match self {
            Self::Nothing => {}
            Self::Register(register, value) => state.registers[register] = value,
            Self::Guards(guards) => state.guards = guards,
        }
    }
}

/// The way on which `condition` holds.
pub(crate) fn taken(state: &State, condition: ConditionCode) -> Way {
    let (left, test, bits, register) = match &state.flags {
        Flags::Unknown => return Way::Same,
        Flags::Compared { left, right, bits, register } => {
            (left, comparison(condition, *right, *bits), *bits, *register)
        }
        Flags::Tested { left, mask, bits, register } => {
            (left, bit_test(condition, *mask, *bits), *bits, *register)
        }
    };
    let Some(test) = test else { return Way::Same };
    let low = bits <= 32;
    let register = register.map(usize::from);
    // Of a register that is wider than what was compared, the upper part is as unknown as it was.
    let whole = register.is_some_and(|register| {
        bits == 64 || state.registers[register].most().is_some_and(|most| most <= mask(u64::MAX, bits))
    });
    match left {
        Val::One(_) | Val::OneOf(_) => {
            let values = left.constants().unwrap_or_default();
            let passing: Vec<u64> =
                values.iter().copied().filter(|value| test.passes(mask(*value, bits), low)).collect();
            match (register, passing.as_slice()) {
                (_, []) => Way::Never,
                (Some(register), [one]) if values.len() > 1 && whole => Way::Holds(register, Val::One(*one)),
                _ => Way::Same,
            }
        }
        // It may have been made 64 bits with its sign, which a guard of 32 does not tell.
        Val::Entry { low: true, plus, .. }
            if bits == 64 && (tells_upper_half(&test) || *plus != 0 && !matches!(test, Test::In(_))) =>
        {
            Way::Same
        }
        Val::Entry { place, low: entry_low, plus }
            if bits >= 32 || matches!(test, Test::Some(_) | Test::None(_)) =>
        {
            Way::Passes(Guard { place: *place, low: low || *entry_low, plus: *plus, test })
        }
        _ => {
            let known = match (&test, register) {
                (Test::In(values), Some(_)) if values.len() == 1 && bits >= 32 => Val::One(values[0]),
                (Test::Range(0, most), Some(_)) if *most < 0xffff_ffff => Val::AtMost(*most),
                _ => return Way::Same,
            };
            let known = if whole { known } else { Val::Part(bits as u8, Rc::new(known)) };
            register.map_or(Way::Same, |register| Way::Holds(register, known))
        }
    }
}

/// Whether a test may hold for a number of 32 bits that was made 64 with its sign, or without, and not for those 32.
fn tells_upper_half(test: &Test) -> bool {
    const MOST: u64 = i32::MAX as u64;
    match test {
        Test::In(values) => values.iter().any(|value| *value > MOST),
        Test::Range(least, _) => *least > MOST,
        Test::Some(mask) => *mask > MOST,
        Test::NotIn(values) => values.iter().any(|value| *value > MOST),
        // Without its sign, one of the upper half is no less than any of the lower.
        Test::Signed(_, most) => *most > i64::from(i32::MAX),
        Test::None(_) => false,
    }
}

/// The test on the left operand, cut to `bits`.
fn comparison(condition: ConditionCode, right: u64, bits: u32) -> Option<Test> {
    let all = mask(u64::MAX, bits);
    let signed = match bits {
        64 => right.cast_signed(),
        32 => i64::from(right as i32),
        // A smaller part of a register has a sign of its own.
        _ => {
            return match condition {
                ConditionCode::e => Some(Test::In(vec![right])),
                ConditionCode::ne => Some(Test::NotIn(vec![right])),
                ConditionCode::be => Some(Test::Range(0, right)),
                ConditionCode::b => Some(Test::Range(0, right.checked_sub(1)?)),
                _ => None,
            };
        }
    };
    Some(match condition {
        ConditionCode::e => Test::In(vec![right]),
        ConditionCode::ne => Test::NotIn(vec![right]),
        ConditionCode::be => Test::Range(0, right),
        ConditionCode::b => Test::Range(0, right.checked_sub(1)?),
        ConditionCode::a => Test::Range(right.checked_add(1)?, all),
        ConditionCode::ae => Test::Range(right, all),
        ConditionCode::le => Test::Signed(i64::MIN, signed),
        ConditionCode::l => Test::Signed(i64::MIN, signed.checked_sub(1)?),
        ConditionCode::g => Test::Signed(signed.checked_add(1)?, i64::MAX),
        ConditionCode::ge => Test::Signed(signed, i64::MAX),
        _ => return None,
    })
}

fn bit_test(condition: ConditionCode, by: u64, bits: u32) -> Option<Test> {
    let itself = by == u64::MAX;
    // A smaller part of a register has a sign of its own.
    if bits < 32 && !matches!(condition, ConditionCode::e | ConditionCode::ne) {
        return None;
    }
    Some(match condition {
        ConditionCode::e if itself => Test::In(vec![0]),
        ConditionCode::ne if itself => Test::NotIn(vec![0]),
        ConditionCode::e => Test::None(by),
        ConditionCode::ne => Test::Some(by),
        ConditionCode::s | ConditionCode::l if itself => Test::Signed(i64::MIN, -1),
        ConditionCode::ns | ConditionCode::ge if itself => Test::Signed(0, i64::MAX),
        ConditionCode::le if itself => Test::Signed(i64::MIN, 0),
        ConditionCode::g if itself => Test::Signed(1, i64::MAX),
        _ => return None,
    })
}

/// The condition under which a jump table's entry `at` is chosen by an argument.
pub(crate) fn chosen(state: &State, entry: (u8, bool, i32), at: u64) -> Option<State> {
    let (place, low, plus) = entry;
    let mut state = state.clone();
    let at = shifted(at, low, 0);
    state.assume(Guard { place, low, plus, test: Test::In(vec![at]) }).then_some(state)
}

/// How many entries of a table an argument can choose, as far as the conditions of the path tell.
pub(crate) fn most_chosen(state: &State, entry: (u8, bool, i32)) -> Option<u64> {
    let (place, low, plus) = entry;
    let same = |guard: &&Guard| {
        (guard.place, guard.plus) == (place, plus) && (guard.low || !low || guard.low == low)
    };
    state.guards.iter().filter(same).find_map(|guard| match &guard.test {
        Test::Range(_, most) if *most < 0x1_0000 => Some(*most),
        Test::In(set) => set.iter().copied().max().filter(|most| *most < 0x1_0000),
        _ => None,
    })
}
