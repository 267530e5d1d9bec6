//! Conditions on a function's arguments that hold on a path.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    state::State,
    summary::{Guard, Test},
    value::SET_MAX,
};

/// Most conditions that a path carries.
const GUARDS_MAX: usize = 6;

impl State {
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
}

/// A condition that follows from `guard` and also from `others`, if one can be told.
pub(super) fn weaker(guard: &Guard, others: &[Guard]) -> Option<Guard> {
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
