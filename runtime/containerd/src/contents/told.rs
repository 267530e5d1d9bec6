//! Which layers count as proven while a judge tells of them in any order.

use std::collections::{BTreeSet, VecDeque};

/// The layers that a judge was asked about.
///
/// A layer whose tar does not speak of a directory takes it from the layer below it: what a judge says of a layer says
/// something of what was pulled only where everything below that layer is proven.
#[derive(Debug)]
pub(super) struct Told {
    /// Not proven yet, the lowest first.
    open: VecDeque<usize>,
    /// Called the same, with something below them that is not proven yet.
    same: BTreeSet<usize>,
}

impl Told {
    /// Of the layers that have no receipt, the lowest first. All others are proven.
    pub(super) fn new(unproven: &[usize]) -> Self {
        Self { open: unproven.iter().copied().collect(), same: BTreeSet::new() }
    }

    /// That the judge called a layer the same. None: it was not asked about that one, or has said so before.
    pub(super) fn same(&mut self, layer: usize) -> Option<()> {
        (self.open.contains(&layer) && self.same.insert(layer)).then_some(())
    }

    /// The next layer that is proven by what was told, the lowest first.
    pub(super) fn next_proven(&mut self) -> Option<usize> {
        self.same.contains(self.open.front()?).then(|| self.open.pop_front())?
    }

    /// Whether all of them are proven.
    pub(super) fn all(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn layer_is_proven_only_once_everything_below_it_is() {
        let mut told = Told::new(&[1, 2, 4]);
        told.same(4).unwrap();
        told.same(2).unwrap();
        assert_eq!(told.next_proven(), None, "layer 1 is not proven");
        told.same(1).unwrap();
        let proven: Vec<_> = std::iter::from_fn(|| told.next_proven()).collect();
        assert_eq!(proven, [1, 2, 4]);
        assert!(told.all());
    }

    #[test]
    fn judge_that_tells_twice_or_of_another_layer_is_not_believed() {
        let mut told = Told::new(&[1, 2]);
        assert_eq!(told.same(0), None);
        told.same(2).unwrap();
        assert_eq!(told.same(2), None);
        told.same(1).unwrap();
        while told.next_proven().is_some() {}
        assert_eq!(told.same(1), None);
    }
}
