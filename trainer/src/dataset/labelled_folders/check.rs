//! Decoding every photo once, so that a damaged one is named before training and not in the middle of it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use hoi_runtime::bundle::sha256_hex;
use hoi_runtime::geometry::Size;
use hoi_runtime::source::{ImageLimits, SourceError, decode_image, read_image_file};

/// Threads that decode, so many pictures are in memory at most.
const THREADS: usize = 4;

/// What is kept of a photo that can be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// Pixels, upright.
    pub(super) size: Size,
    /// SHA-256 of the file.
    pub(super) digest: String,
}

fn check(path: &Path) -> Result<Checked, SourceError> {
    let limits = ImageLimits::default();
    let bytes = read_image_file(path, &limits)?;
    // The board's own decoder, so that what is learned from is what will be seen.
    let pixels = decode_image(&bytes, path, &limits)?;
    Ok(Checked { size: Size::new(pixels.width(), pixels.height()), digest: sha256_hex(&bytes) })
}

/// The result of each file, in order.
pub(super) fn check_all(paths: &[&Path]) -> Vec<Result<Checked, SourceError>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    let mut results: Vec<_> = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = paths.get(index) else { break };
                    if send.send((index, check(path))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        receive.iter().collect()
    });
    results.sort_unstable_by_key(|r| r.0);
    results.into_iter().map(|r| r.1).collect()
}
