//! Chance that spreads waits.

use std::time::Duration;

/// Numbers that only spread waits: any seed will do, and the same seed gives the same numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Chance(u64);

impl Chance {
    /// Numbers from this seed.
    pub fn new(seed: u64) -> Self {
        // Zero is the one state that a xorshift never leaves.
        Self(seed | 1)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Any time from none to `max`.
    pub fn up_to(&mut self, max: Duration) -> Duration {
        let permille = u32::try_from(self.any() % 1001).unwrap_or(1000);
        max.saturating_mul(permille) / 1000
    }

    /// `wait`, up to a tenth shorter or longer.
    pub fn spread(&mut self, wait: Duration) -> Duration {
        let permille = u32::try_from(900 + self.any() % 201).unwrap_or(1000);
        wait.saturating_mul(permille) / 1000
    }
}
