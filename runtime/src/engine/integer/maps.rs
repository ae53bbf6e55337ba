//! Steps on i8 maps that are not convolutions, in plain Rust: few of a network's values go through them.

use super::network::{Bounds, MapShape, Pick, Window};
use super::run::stored;

pub(super) fn concat(inputs: &[(&[i8], MapShape)], factors: &[f32], shape: MapShape, values: &mut [i8]) {
    let wide = stored(shape.channels);
    let mut first = 0;
    for ((map, from), &factor) in inputs.iter().zip(factors) {
        let pixels = map.chunks_exact(stored(from.channels)).zip(values.chunks_exact_mut(wide));
        for (pixel, result) in pixels {
            let result = &mut result[first..first + from.channels];
            if factor == 1.0 {
                result.copy_from_slice(&pixel[..from.channels]);
            } else {
                let pairs = result.iter_mut().zip(pixel);
                pairs.for_each(|(value, &x)| *value = Bounds::ALL.clamp(f32::from(x) * factor));
            }
        }
        first += from.channels;
    }
    for result in values.chunks_exact_mut(wide) {
        result[first..].fill(0);
    }
}

/// Calls `of` with the values that a window meets on the map.
pub(super) fn pool(
    window: &Window,
    (map, from): (&[i8], MapShape),
    to: MapShape,
    values: &mut [i8],
    of: impl Fn(&[i32]) -> i8,
) {
    let wide = stored(from.channels);
    let mut found: Vec<i32> = Vec::with_capacity(window.taps());
    let mut pixels: Vec<usize> = Vec::with_capacity(window.taps());
    for (n, result) in values.chunks_exact_mut(wide).enumerate() {
        let (row, column) = (n / to.width, n % to.width);
        pixels.clear();
        for ky in 0..window.kernel[0] {
            pixels.extend((0..window.kernel[1]).filter_map(|kx| window.reads(row, column, [ky, kx], from)));
        }
        for (channel, value) in result.iter_mut().enumerate().take(from.channels) {
            found.clear();
            found.extend(pixels.iter().map(|p| i32::from(map[p * wide + channel])));
            *value = of(&found);
        }
        result[from.channels..].fill(0);
    }
}

pub(super) fn global_average((map, from): (&[i8], MapShape), factor: f32, values: &mut [i8]) {
    let wide = stored(from.channels);
    let mut sums = vec![0i32; wide];
    for pixel in map.chunks_exact(wide) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &x)| *sum += i32::from(x));
    }
    let factor = factor / from.pixels() as f32;
    values.iter_mut().zip(sums).for_each(|(value, sum)| *value = Bounds::ALL.clamp(sum as f32 * factor));
}

pub(super) fn repeat((map, from): (&[i8], MapShape), times: [usize; 2], to: MapShape, values: &mut [i8]) {
    let wide = stored(from.channels);
    for (n, result) in values.chunks_exact_mut(wide).enumerate() {
        let (row, column) = (n / to.width / times[0], n % to.width / times[1]);
        let pixel = row * from.width + column;
        result.copy_from_slice(&map[pixel * wide..][..wide]);
    }
}

pub(super) fn pad((map, from): (&[i8], MapShape), [top, left, ..]: [usize; 4], to: MapShape, values: &mut [i8]) {
    let wide = stored(from.channels);
    values.fill(0);
    for (row, pixels) in map.chunks_exact(from.width * wide).enumerate() {
        let start = ((row + top) * to.width + left) * wide;
        values[start..start + pixels.len()].copy_from_slice(pixels);
    }
}

/// Twice the size: each result lies a quarter of a pixel from the nearest input pixel, in each direction.
pub(super) fn double((map, from): (&[i8], MapShape), to: MapShape, values: &mut [i8]) {
    let wide = stored(from.channels);
    // The nearer pixel, and the farther one, which counts a third as much.
    let pair = |n: usize, length: usize| {
        let near = n / 2;
        let far = if n.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(length - 1) };
        (near, far)
    };
    for (n, result) in values.chunks_exact_mut(wide).enumerate() {
        let ((y, other_y), (x, other_x)) = (pair(n / to.width, from.height), pair(n % to.width, from.width));
        let pixel = |y: usize, x: usize| &map[(y * from.width + x) * wide..][..wide];
        let corners = [pixel(y, x), pixel(y, other_x), pixel(other_y, x), pixel(other_y, other_x)];
        for (channel, value) in result.iter_mut().enumerate() {
            let [a, b, c, d] = corners.map(|corner| i16::from(corner[channel]));
            // A sixteenth of it, rounded half to even.
            let sum = 9 * a + 3 * b + 3 * c + d;
            let (floor, rest) = (sum >> 4, sum & 15);
            let up = rest > 8 || (rest == 8 && floor & 1 == 1);
            *value = (floor + i16::from(up)) as i8;
        }
    }
}

pub(super) fn channels(pick: Pick, (map, from): (&[i8], MapShape), to: MapShape, values: &mut [i8]) {
    let sources: Vec<usize> = (0..to.channels).map(|n| pick.from(n, from.channels)).collect();
    let (wide_from, wide) = (stored(from.channels), stored(to.channels));
    let whole = !matches!(pick, Pick::Shuffle { .. });
    for (pixel, result) in map.chunks_exact(wide_from).zip(values.chunks_exact_mut(wide)) {
        if whole {
            result[..to.channels].copy_from_slice(&pixel[sources[0]..][..to.channels]);
        } else {
            result.iter_mut().zip(&sources).for_each(|(value, &source)| *value = pixel[source]);
        }
        result[to.channels..].fill(0);
    }
}
