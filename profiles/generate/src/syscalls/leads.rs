//! Which ranges of code lead to an instruction that enters the kernel, by direct calls and jumps.
//!
//! There, what one function hands to another of the same file may be the number of a call, and is worth following. So it
//! is next to a call of another file's function that is known by its arguments: a wrapper of ioctl(2) is handed constants.
//! A link that is not seen here costs precision alone.

use super::address::AddressSet;

/// How far from a function that is known by its arguments constants are handed on to it.
const CALLERS: u32 = 2;

/// What a range of code does that makes it worth following whoever leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// It enters the kernel itself.
    Kernel,
    /// It calls another file's function that does what its arguments say.
    Arguments,
    Neither,
}

/// Ranges of code in the order of their addresses, and who leads to whom.
#[derive(Debug, Default)]
pub(super) struct Links {
    starts: Vec<u64>,
    /// By number of range: from whom, to which address.
    links: Vec<(u32, u64)>,
    /// Ranges that are worth following, and how far up.
    ends: Vec<(u32, u32)>,
}

impl Links {
    /// The next range: where it begins, what it does, and where it leads to.
    pub(super) fn add(&mut self, start: u64, ends: Ends, leads_to: &mut Vec<u64>) {
        let number = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        self.starts.push(start);
        match ends {
            Ends::Kernel => self.ends.push((number, u32::MAX)),
            Ends::Arguments => self.ends.push((number, CALLERS)),
            Ends::Neither => {}
        }
        leads_to.sort_unstable();
        leads_to.dedup();
        self.links.extend(leads_to.drain(..).map(|to| (number, to)));
    }

    /// Where those ranges begin that are worth following. What leads to one only by a function at `dull`, which does the
    /// same whatever it is handed, is not.
    ///
    /// `far`: however far up from where the kernel is entered.
    pub(super) fn worth_following(mut self, dull: &AddressSet, far: bool) -> Vec<u64> {
        if self.ends.is_empty() {
            return Vec::new();
        }
        self.links.retain(|(_, to)| !dull.contains(to));
        for (_, to) in &mut self.links {
            *to = (self.starts.partition_point(|start| start <= to) as u64).wrapping_sub(1);
        }
        self.links.sort_unstable_by_key(|(_, to)| *to);
        // By range: one more than how far up from it is worth following.
        let mut seen = vec![0u32; self.starts.len()];
        let mut queue = self.ends;
        if !far {
            queue.iter_mut().for_each(|(_, up)| *up = (*up).min(CALLERS));
        }
        while let Some((number, up)) = queue.pop() {
            let seen = seen.get_mut(number as usize).filter(|seen| **seen <= up && **seen < u32::MAX);
            let Some(seen) = seen else {
                continue;
            };
            *seen = up.saturating_add(1);
            let Some(up) = (if up == u32::MAX { Some(up) } else { up.checked_sub(1) }) else { continue };
            let first = self.links.partition_point(|(_, to)| *to < u64::from(number));
            let callers = self.links[first..].iter().take_while(|(_, to)| *to == u64::from(number));
            queue.extend(callers.map(|(from, _)| (*from, up)));
        }
        self.starts.into_iter().zip(seen).filter(|(_, seen)| *seen > 0).map(|(start, _)| start).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(ranges: &[(u64, Ends, &[u64])]) -> Links {
        let mut links = Links::default();
        for (start, ends, leads_to) in ranges {
            links.add(*start, *ends, &mut leads_to.to_vec());
        }
        links
    }

    #[test]
    fn what_leads_to_the_kernel_is_found_however_far_and_nothing_else() {
        let links = links(&[
            (0x10, Ends::Neither, &[0x35]),
            (0x20, Ends::Neither, &[0x60]),
            (0x30, Ends::Neither, &[0x40, 0x20]),
            (0x40, Ends::Neither, &[0x50]),
            (0x50, Ends::Kernel, &[0x60]),
            (0x60, Ends::Neither, &[0x20]),
        ]);
        assert_eq!(links.worth_following(&AddressSet::default(), true), [0x10, 0x30, 0x40, 0x50]);
    }

    #[test]
    fn what_leads_to_a_wrapper_is_found_two_callers_up_and_no_further() {
        let links = links(&[
            (0x10, Ends::Neither, &[0x20]),
            (0x20, Ends::Neither, &[0x30]),
            (0x30, Ends::Neither, &[0x40]),
            (0x40, Ends::Arguments, &[0x10]),
        ]);
        assert_eq!(links.worth_following(&AddressSet::default(), true), [0x20, 0x30, 0x40]);
    }

    #[test]
    fn a_call_of_a_function_that_does_the_same_whatever_it_is_handed_leads_nowhere() {
        let of = |dull: AddressSet| {
            links(&[(0x10, Ends::Neither, &[0x20]), (0x20, Ends::Kernel, &[])]).worth_following(&dull, true)
        };
        assert_eq!(of(AddressSet::default()), [0x10, 0x20]);
        assert_eq!(of(std::iter::once(0x20).collect()), [0x20]);
    }
}
