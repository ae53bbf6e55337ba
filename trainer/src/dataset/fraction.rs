//! Parts of a training split, for training with less data.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The parts that are trained with, in percent (HOICLIP).
pub const FRACTIONS: [u32; 4] = [5, 15, 25, 50];

/// Draws `percent` of the image numbers `ids`, rounded to the nearest; by rising number.
///
/// The order of `ids` and repetitions do not matter. Draws with the same seed are nested: what is in 5 % is in 15 %. More than 100 counts as 100.
pub fn fraction(ids: &[u64], percent: u32, seed: u64) -> Vec<u64> {
    let mut drawn = ids.to_vec();
    drawn.sort_unstable();
    drawn.dedup();
    let count = (drawn.len() as u64 * u64::from(percent.min(100)) + 50) / 100;
    drawn.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    drawn.truncate(count as usize);
    drawn.sort_unstable();
    drawn
}
