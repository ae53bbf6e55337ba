//! Steps on i8 maps that are not convolutions, in plain Rust: few of a network's values go through them.
//!
//! Each writes the pixels of the result from `first` on, as many as `values` holds. Sums wrap; [`super::fuse`] takes none that would.

use super::network::{Bounds, MapShape, Pick, Window};
use super::run::stored;

pub(super) fn concat(first: usize, inputs: &[(&[i8], MapShape)], factors: &[f32], shape: MapShape, values: &mut [i8]) {
    let wide = stored(shape.channels);
    let mut channel = 0;
    for ((map, from), &factor) in inputs.iter().zip(factors) {
        let narrow = stored(from.channels);
        let pixels = map[first * narrow..].chunks_exact(narrow).zip(values.chunks_exact_mut(wide));
        for (pixel, result) in pixels {
            let result = &mut result[channel..channel + from.channels];
            if factor == 1.0 {
                result.copy_from_slice(&pixel[..from.channels]);
            } else {
                let pairs = result.iter_mut().zip(pixel);
                pairs.for_each(|(value, &x)| *value = Bounds::ALL.clamp(f32::from(x) * factor));
            }
        }
        channel += from.channels;
    }
    for result in values.chunks_exact_mut(wide) {
        result[channel..].fill(0);
    }
}

/// Calls `of` with each pixel of the result and the pixels that its window meets on the map.
fn windows(
    first: usize,
    window: &Window,
    (map, from): (&[i8], MapShape),
    to: MapShape,
    values: &mut [i8],
    mut of: impl FnMut(&mut [i8], &[&[i8]]),
) {
    let wide = stored(from.channels);
    let mut pixels: Vec<&[i8]> = Vec::with_capacity(window.taps());
    for (n, result) in values.chunks_exact_mut(wide).enumerate() {
        let (row, column) = ((first + n) / to.width, (first + n) % to.width);
        pixels.clear();
        for ky in 0..window.kernel[0] {
            let met = (0..window.kernel[1]).filter_map(|kx| window.reads(row, column, [ky, kx], from));
            pixels.extend(met.map(|pixel| &map[pixel * wide..][..wide]));
        }
        of(result, &pixels);
        result[from.channels..].fill(0);
    }
}

pub(super) fn max_pool(first: usize, window: &Window, map: (&[i8], MapShape), to: MapShape, values: &mut [i8]) {
    windows(first, window, map, to, values, |result, pixels| {
        result.fill(i8::MIN);
        for pixel in pixels {
            result.iter_mut().zip(*pixel).for_each(|(value, &x)| *value = x.max(*value));
        }
    });
}

/// `factor`: of the mean; `padding_counts`: zeros in the padding are part of it.
pub(super) fn average_pool(
    first: usize,
    (window, factor, padding_counts): (&Window, f32, bool),
    map: (&[i8], MapShape),
    to: MapShape,
    values: &mut [i8],
) {
    let mut sums = vec![0i32; stored(to.channels)];
    windows(first, window, map, to, values, |result, pixels| {
        sums.fill(0);
        for pixel in pixels {
            sums.iter_mut().zip(*pixel).for_each(|(sum, &x)| *sum = sum.wrapping_add(i32::from(x)));
        }
        let count = if padding_counts { window.taps() } else { pixels.len().max(1) };
        let factor = factor / count as f32;
        result.iter_mut().zip(&sums).for_each(|(value, &sum)| *value = Bounds::ALL.clamp(sum as f32 * factor));
    });
}

/// Writes the one pixel of the result.
pub(super) fn global_average((map, from): (&[i8], MapShape), factor: f32, values: &mut [i8]) {
    let wide = stored(from.channels);
    let mut sums = vec![0i32; wide];
    for pixel in map.chunks_exact(wide) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &x)| *sum = sum.wrapping_add(i32::from(x)));
    }
    let factor = factor / from.pixels() as f32;
    values.iter_mut().zip(sums).for_each(|(value, sum)| *value = Bounds::ALL.clamp(sum as f32 * factor));
}

pub(super) fn repeat(first: usize, (map, from): (&[i8], MapShape), times: [usize; 2], to: MapShape, values: &mut [i8]) {
    let wide = stored(from.channels);
    for (n, result) in values.chunks_exact_mut(wide).enumerate() {
        let (row, column) = ((first + n) / to.width / times[0], (first + n) % to.width / times[1]);
        let pixel = row * from.width + column;
        result.copy_from_slice(&map[pixel * wide..][..wide]);
    }
}

/// Writes all pixels.
pub(super) fn pad((map, from): (&[i8], MapShape), [top, left, ..]: [usize; 4], to: MapShape, values: &mut [i8]) {
    let wide = stored(from.channels);
    values.fill(0);
    for (row, pixels) in map.chunks_exact(from.width * wide).enumerate() {
        let start = ((row + top) * to.width + left) * wide;
        values[start..start + pixels.len()].copy_from_slice(pixels);
    }
}

/// Twice the size: each result lies a quarter of a pixel from the nearest input pixel, in each direction.
pub(super) fn double(first: usize, (map, from): (&[i8], MapShape), to: MapShape, values: &mut [i8]) {
    let wide = stored(from.channels);
    // The nearer pixel, and the farther one, which counts a third as much.
    let pair = |n: usize, length: usize| {
        let near = n / 2;
        let far = if n.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(length - 1) };
        (near, far)
    };
    for (n, result) in values.chunks_exact_mut(wide).enumerate() {
        let (row, column) = ((first + n) / to.width, (first + n) % to.width);
        let ((y, other_y), (x, other_x)) = (pair(row, from.height), pair(column, from.width));
        let pixel = |y: usize, x: usize| &map[(y * from.width + x) * wide..][..wide];
        let corners = [pixel(y, x), pixel(y, other_x), pixel(other_y, x), pixel(other_y, other_x)];
        for (channel, value) in result.iter_mut().enumerate() {
            let [a, b, c, d] = corners.map(|corner| i16::from(corner[channel]));
            // A sixteenth of it, rounded half to even.
            let sum = 9 * a + 3 * b + 3 * c + d;
            let odd = sum >> 4 & 1;
            *value = ((sum + 7 + odd) >> 4) as i8;
        }
    }
}

pub(super) fn channels(first: usize, pick: Pick, (map, from): (&[i8], MapShape), to: MapShape, values: &mut [i8]) {
    let sources: Vec<usize> = (0..to.channels).map(|n| pick.from(n, from.channels)).collect();
    let (wide_from, wide) = (stored(from.channels), stored(to.channels));
    for (pixel, result) in map[first * wide_from..].chunks_exact(wide_from).zip(values.chunks_exact_mut(wide)) {
        let (taken, rest) = result.split_at_mut(to.channels);
        match pick {
            Pick::Shuffle { groups: 2 } => {
                let (a, b) = pixel[..from.channels].split_at(from.channels / 2);
                let pairs = taken.as_chunks_mut::<2>().0.iter_mut().zip(a.iter().zip(b));
                pairs.for_each(|(pair, (&a, &b))| *pair = [a, b]);
            }
            Pick::Shuffle { .. } => {
                taken.iter_mut().zip(&sources).for_each(|(value, &source)| *value = pixel[source]);
            }
            Pick::Range { .. } | Pick::Share { .. } => taken.copy_from_slice(&pixel[sources[0]..][..to.channels]),
        }
        rest.fill(0);
    }
}
