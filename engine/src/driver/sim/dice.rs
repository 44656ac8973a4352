//! The randomness of a simulation: everything that a seed decides comes from here.
//!
//! A driver, and each of its links, has dice of its own, so that what one link does does not shift what happens to
//! another. It is no source of secrets.

/// Seeded dice.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of a seed; neighbouring seeds give unrelated throws.
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number (splitmix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.next().checked_rem(bound).unwrap_or(0)).unwrap_or(usize::MAX)
    }

    /// A number from 0 to `most`, both included.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        if most == u64::MAX { self.next() } else { self.next() % (most + 1) }
    }

    /// True in `chance` of 1,024 throws.
    pub(crate) fn hits(&mut self, chance: u32) -> bool {
        self.next() % 1024 < u64::from(chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_its_neighbour_does_not() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            (0..8).map(|_| dice.next()).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
    }

    #[test]
    fn throws_stay_in_their_bounds_and_reach_them() {
        let mut dice = Dice::new(1);
        let throws: Vec<_> = (0..200).map(|_| dice.below(3)).collect();
        assert!((0..3).all(|side| throws.contains(&side)) && throws.iter().all(|throw| *throw < 3));
        let throws: Vec<_> = (0..200).map(|_| dice.up_to(2)).collect();
        assert!((0..=2).all(|side| throws.contains(&side)) && throws.iter().all(|throw| *throw <= 2));
        assert_eq!((dice.below(0), dice.hits(0), dice.hits(1024)), (0, false, true));
    }
}
