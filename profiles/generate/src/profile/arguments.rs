//! Values of arguments: gathered of every place that makes a call, and of these what can be enforced.
//!
//! Invariant: an argument of which one place does not know all values has none here, and so may be anything.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_profiles::{VALUES_MAX, narrowing};

/// Values of the arguments of one call, of all places that make it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    /// Argument number to values; `None` before the first place was seen.
    known: Option<BTreeMap<u8, BTreeSet<u64>>>,
}

impl Values {
    /// Another place makes the call with these: of each argument all values, where they are known there.
    pub(crate) fn add(&mut self, args: &[Option<Vec<u64>>]) {
        let values = |at: u8| args.get(usize::from(at)).and_then(Option::as_ref);
        match &mut self.known {
            None => {
                let known = (0u8..).zip(args).filter_map(|(at, values)| {
                    let values = values.as_ref()?;
                    Some((at, values.iter().copied().collect()))
                });
                self.known = Some(known.collect());
            }
            Some(known) => known.retain(|at, known| {
                let here = values(*at);
                known.extend(here.into_iter().flatten());
                here.is_some()
            }),
        }
    }
}

/// What of these values is enforced of a call: those bits of the arguments of the table that are compared. Too many values, or
/// all that these bits can have, are no narrowing.
pub(crate) fn enforceable(call: &str, values: &Values) -> BTreeMap<u8, BTreeSet<u32>> {
    let known = values.known.iter().flatten();
    let narrowed = known.filter_map(|(at, values)| {
        let known = narrowing(call, *at)?;
        #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is compared")]
        let values: BTreeSet<u32> = values.iter().map(|value| *value as u32 & known.mask).collect();
        let all = 1u64.checked_shl(known.mask.count_ones()).unwrap_or(u64::MAX);
        let narrows = (values.len() as u64) < all && (1..=VALUES_MAX).contains(&values.len());
        narrows.then_some((*at, values))
    });
    narrowed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(places: &[&[Option<Vec<u64>>]]) -> Values {
        let mut values = Values::default();
        places.iter().for_each(|place| values.add(place));
        values
    }

    fn enforced(call: &str, places: &[&[Option<Vec<u64>>]]) -> Vec<(u8, Vec<u32>)> {
        let enforced = enforceable(call, &of(places)).into_iter();
        enforced.map(|(at, values)| (at, values.into_iter().collect())).collect()
    }

    #[test]
    fn values_are_those_of_all_places_and_none_where_one_place_does_not_know() {
        let known = |family, kind| [Some(vec![family]), Some(vec![kind]), None];
        let places = [known(1, 1), known(2, 0x8_0801)];
        assert_eq!(
            enforced("socket", &[&places[0], &places[1]]),
            [(0, vec![1, 2]), (1, vec![1])],
            "flags of the type choose no code, and the protocol is not known"
        );
        let unknown = [None, Some(vec![2]), Some(vec![0])];
        for order in [[&places[0], &unknown], [&unknown, &places[0]]] {
            assert_eq!(enforced("socket", &[order[0], order[1]]), [(1, vec![1, 2])]);
        }
        assert_eq!(enforced("socket", &[&[]]), []);
    }

    #[test]
    fn what_the_kernel_does_not_read_of_a_register_is_no_value() {
        let signed = [None, Some(vec![0xffff_ffff_8004_5430, 0x8004_5430]), None];
        assert_eq!(enforced("ioctl", &[&signed]), [(1, vec![0x8004_5430])]);
    }

    #[test]
    fn protection_is_enforced_where_nothing_maps_code_and_not_where_something_may() {
        let with = |prot: &[u64]| enforced("mmap", &[&[None, None, Some(prot.to_vec())]]);
        assert_eq!(with(&[0, 1, 3]), [(2, vec![0])]);
        assert_eq!(with(&[1, 5]), []);
    }

    #[test]
    fn other_arguments_and_too_many_values_are_not_enforced() {
        let many = |count| [None, Some((0..count).collect::<Vec<u64>>()), None];
        assert_eq!(enforced("ioctl", &[&many(32)]).len(), 1);
        assert_eq!(enforced("ioctl", &[&many(33)]), []);
        assert_eq!(enforced("write", &[&[Some(vec![1]), None, None]]), []);
        assert_eq!(enforced("ioctl", &[&[Some(vec![1]), None, None]]), []);
    }
}
