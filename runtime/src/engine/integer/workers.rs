//! The threads that share the rows of a step's result.
//!
//! They are those of the engine's executor. Each row is computed by one thread, as it would be alone, so that results do not depend on
//! their number.

use tract_onnx::prelude::multithread::Executor;

use super::kernels::LANES;

/// The least work that is worth another thread's while, in products of a convolution: some ten microseconds.
const LEAST: usize = 1 << 18;

/// Pieces a thread, so that one whose core has other work to do leaves some to the others.
const PIECES: usize = 4;

/// Rows that convolutions do together (AVX2: 3 or 6, AVX-512: 12): a piece of fewer than a block is a multiple of it.
const UNIT: usize = 6;

/// The threads of an executor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workers<'a>(&'a Executor);

impl<'a> Workers<'a> {
    pub(super) fn new(executor: &'a Executor) -> Self {
        Self(executor)
    }

    fn count(self) -> usize {
        match self.0 {
            Executor::MultiThread(pool) => pool.current_num_threads(),
            _ => 1,
        }
    }

    /// Calls `of` with the number of its first row and the values, `width` a row, for pieces that together are `values`. A row costs as
    /// much as `work` products. Rows are best done `block` at a time.
    pub(super) fn rows<T: Send>(
        self,
        values: &mut [T],
        width: usize,
        work: usize,
        block: usize,
        of: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let rows = values.len().checked_div(width).unwrap_or(0);
        let pieces = self.pieces(rows, work, block);
        if pieces < 2 {
            return of(0, values);
        }
        let piece = match rows.div_ceil(pieces) {
            // A share of the last piece is less of a loss than a block that is not full.
            several if several > block => several / block * block,
            few => few.next_multiple_of(UNIT).min(block),
        };
        self.halve(0, values, width, piece, &of);
    }

    /// As [`Workers::rows`], of values that do not depend on each other.
    pub(super) fn values<T: Send>(self, values: &mut [T], work: usize, of: impl Fn(usize, &mut [T]) + Sync) {
        self.rows(values, LANES, work * LANES, UNIT, |row, values| of(row * LANES, values));
    }

    /// In how many pieces rows are done: as many as have full blocks, but one a thread at least if there is work enough.
    fn pieces(self, rows: usize, work: usize, block: usize) -> usize {
        let threads = self.count();
        if threads < 2 {
            return 1;
        }
        let worth = rows.saturating_mul(work) / LEAST;
        (rows / block).clamp(threads, PIECES * threads).min(worth).min(rows)
    }

    fn halve<T: Send>(
        self,
        first: usize,
        values: &mut [T],
        width: usize,
        piece: usize,
        of: &(impl Fn(usize, &mut [T]) + Sync),
    ) {
        let pieces = values.len().div_ceil(piece * width);
        let (Executor::MultiThread(pool), true) = (self.0, pieces > 1) else { return of(first, values) };
        let middle = pieces / 2 * piece;
        let (start, end) = values.split_at_mut(middle * width);
        pool.join(|| self.halve(first, start, width, piece, of), || self.halve(first + middle, end, width, piece, of));
    }
}
