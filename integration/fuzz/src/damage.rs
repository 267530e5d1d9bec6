//! Damaged copies of good files, the same ones each time.

/// Numbers that are the same each time.
///
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Less than `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap_or(0)
    }
}

/// What text formats and numbers trip over.
const WORDS: [&[u8]; 12] = [
    b"\"",
    b"{",
    b"[",
    b"null",
    b"-1",
    b"\0",
    b"99999999999999999999",
    b"\xff\xfe",
    b"../",
    b"1e999",
    b"\\ud800",
    b"\r\n\r\n",
];

/// A copy with a few bytes changed, cut out, doubled, put in, or cut off.
#[must_use]
pub fn damaged(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(copy.len());
        let end = (at + dice.below(40)).min(copy.len());
        match dice.below(6) {
            0 => copy[at..end].iter_mut().for_each(|byte| *byte ^= 0x55),
            1 => drop(copy.drain(at..end)),
            2 => drop(copy.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
            3 => {
                let again = copy[at..end].to_vec();
                drop(copy.splice(at..at, again));
            }
            4 if at < copy.len() => copy[at] = u8::try_from(dice.below(256)).unwrap_or(0),
            _ => copy.truncate(at.max(1)),
        }
    }
    copy
}
