//! Conditions on arguments: which follow from others, and which exclude each other.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_profiles::{Condition, Narrowing, Row as BaselineRow, Test, Width, narrowing};

/// Values of the arguments of one call.
pub(super) type Arguments = BTreeMap<u8, BTreeSet<u32>>;

/// Most combinations of values that are written down, or read back.
const PIECES_MAX: usize = 256;

/// That an argument has a value.
pub(super) fn has(known: &Narrowing, value: u32) -> Condition {
    let (mask, value) = (u64::from(known.mask), u64::from(value));
    let test = if known.mask == u32::MAX { Test::Eq(value) } else { Test::MaskedEq { mask, value } };
    Condition { arg: known.arg, width: Width::Bits32, test }
}

/// All combinations of the values of arguments, if they are not too many.
pub(super) fn pieces(call: &str, arguments: &Arguments) -> Option<Vec<Vec<Condition>>> {
    let mut pieces = vec![Vec::new()];
    for (arg, values) in arguments {
        let known = narrowing(call, *arg)?;
        if pieces.len() * values.len() > PIECES_MAX {
            return None;
        }
        let with = |piece: &Vec<Condition>, value: &u32| {
            piece.iter().copied().chain([has(known, *value)]).collect::<Vec<_>>()
        };
        pieces = pieces.iter().flat_map(|piece| values.iter().map(|value| with(piece, value))).collect();
    }
    Some(pieces)
}

/// Whether one of the rules allows a call wherever the baseline's rows of it do and one of `pieces` holds.
pub(super) fn covers(of_call: &[&BaselineRow], pieces: &[Vec<Condition>], rules: &[Vec<Condition>]) -> bool {
    of_call.iter().enumerate().filter(|(_, row)| row.then.runs()).all(|(at, row)| {
        let denied: Vec<&[Condition]> =
            of_call[..at].iter().filter(|before| !before.then.runs()).map(|before| before.args).collect();
        pieces.iter().all(|piece| {
            let given: Vec<Condition> = row.args.iter().chain(piece).copied().collect();
            let never = given.iter().any(|one| given.iter().any(|other| excludes(one, other)));
            never || rules.iter().any(|rule| rule.iter().all(|wanted| holds_where(wanted, &given, &denied)))
        })
    })
}

/// Whether the baseline allows a call wherever a rule does.
pub(super) fn is_within(rule: &[Condition], of_call: &[&BaselineRow]) -> bool {
    of_call.iter().enumerate().filter(|(_, row)| row.then.runs()).any(|(at, row)| {
        let inside =
            |wanted: &Condition| rule.iter().any(|given| given.arg == wanted.arg && implies(given, wanted));
        let denies = of_call[..at].iter().filter(|before| !before.then.runs());
        row.args.iter().all(inside)
            && denies.into_iter().all(|before| {
                before.args.iter().any(|denied| rule.iter().any(|given| excludes(given, denied)))
            })
    })
}

/// Whether a condition of a file's leaves out what a condition of the baseline's wants.
pub(super) fn excludes(given: &Condition, denied: &Condition) -> bool {
    given.arg == denied.arg
        && match (given.test, denied.test) {
            (Test::Eq(value), denied) => !denied.holds(value),
            (Test::Ne(value), Test::Eq(other)) => value == other,
            (Test::MaskedEq { mask, value }, Test::Eq(other)) => other & mask != value & mask,
            (Test::MaskedEq { mask, value }, Test::MaskedEq { mask: also, value: other }) => {
                (value ^ other) & mask & also != 0
            }
            _ => false,
        }
}

/// Whether a condition holds wherever all of `given` do and none of `denied` does.
fn holds_where(wanted: &Condition, given: &[Condition], denied: &[&[Condition]]) -> bool {
    if given.iter().any(|given| given.arg == wanted.arg && implies(given, wanted)) {
        return true;
    }
    let Test::Ne(value) = wanted.test else { return false };
    denied.iter().any(|denied| match denied {
        [one] if one.arg == wanted.arg => readable(one.width, wanted) && one.test.holds(value),
        _ => false,
    })
}

fn implies(given: &Condition, wanted: &Condition) -> bool {
    readable(given.width, wanted)
        && match (given.test, wanted.test) {
            (Test::Eq(value), wanted) => wanted.holds(value),
            (Test::MaskedEq { mask, value }, Test::MaskedEq { mask: less, value: other }) => {
                less & !mask == 0 && value & less == other & less
            }
            (Test::MaskedEq { mask, value }, Test::Ne(other)) => other & mask != value & mask,
            (given, wanted) => given == wanted,
        }
}

/// Whether a condition says nothing of bits that the baseline does not look at.
fn readable(width: Width, condition: &Condition) -> bool {
    let fits = |value: u64| value <= u64::from(u32::MAX);
    width == Width::Bits64
        || match condition.test {
            Test::MaskedEq { mask, value } => fits(mask) && fits(value),
            Test::Eq(value)
            | Test::Ne(value)
            | Test::Lt(value)
            | Test::Le(value)
            | Test::Gt(value)
            | Test::Ge(value) => fits(value),
        }
}
