//! Every implementation that this CPU runs, against plain loops.

use super::*;

/// A small random generator (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// From 0 to `end - 1`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// From `low` to `high`.
    fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as usize) as i32
    }

    /// Values in `low..=high`, of one of several characters: mixed, small, or all at the ends.
    fn values(&mut self, count: usize, low: i32, high: i32) -> Vec<i8> {
        let kind = self.below(6);
        (0..count)
            .map(|_| {
                let value = match kind {
                    0 => [low, high][self.below(2)],
                    1 => high,
                    2 => low,
                    3 => (self.between(low, high) + self.between(low, high) + self.between(low, high)) / 6,
                    4 if self.below(8) > 0 => self.between(low, high) / 4,
                    _ => self.between(low, high),
                };
                value as i8
            })
            .collect()
    }

    fn multipliers(&mut self, count: usize, size: f32) -> Vec<f32> {
        (0..count).map(|_| (self.between(1, 1000) as f32 / 500.0) * size).collect()
    }
}

/// The rule in f64-free plain arithmetic: clamp and round half to even.
fn reference_round(value: f32, low: i8, high: i8) -> i8 {
    if value <= f32::from(low) {
        low
    } else if value >= f32::from(high) {
        high
    } else {
        let floor = value.floor();
        let up = value - floor > 0.5 || (value - floor == 0.5 && floor as i32 % 2 != 0);
        (floor as i32 + i32::from(up)) as i8
    }
}

#[test]
fn dense_is_exact() {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    for round in 0..600 {
        let out = 1 + random.below(70);
        let depth: usize = [1, 3, 4, 8, 12, 16, 20, 24, 32, 40, 60, 64, 100, 144, 320][random.below(15)];
        let same = random.below(3) == 0;
        let kernel = if same { [1, 1] } else { [[1, 1], [3, 3], [5, 5], [1, 3], [7, 7]][random.below(5)] };
        let taps: usize = kernel[0] * kernel[1];
        let (height, width) = (1 + random.below(8), 1 + random.below(9));
        let stride = if same { [1, 1] } else { [1 + random.below(2), 1 + random.below(3)] };
        let pads = if same { [0; 2] } else { [random.below(kernel[0]), random.below(kernel[1])] };
        let pads_end = if same { [0; 2] } else { [random.below(kernel[0]), random.below(kernel[1])] };
        if height + pads[0] + pads_end[0] < kernel[0] || width + pads[1] + pads_end[1] < kernel[1] {
            continue;
        }
        let output_height = (height + pads[0] + pads_end[0] - kernel[0]) / stride[0] + 1;
        let output_width = (width + pads[1] + pads_end[1] - kernel[1]) / stride[1] + 1;
        let count = output_height * output_width;
        let input_stride = depth.next_multiple_of(LANES) + LANES * random.below(3);
        let nonnegative = random.below(2) == 0;
        let input = random.values(height * width * input_stride, if nonnegative { 0 } else { -128 }, 127);
        let weights = random.values(out * taps * depth, -127, 127);
        let packed = PackedDense::new(&weights, out, taps, depth).unwrap();
        let stored = packed.stored();
        let bias: Vec<i32> = (0..stored).map(|_| random.between(-100_000, 100_000)).collect();
        let slope = [1.0, 0.1, 0.0][random.below(3)];
        let multiplier = random.multipliers(stored, 0.01 / (taps * depth) as f32);
        let output_stride = stored + random.below(2) * random.below(40);
        let low = random.between(-128, 0) as i8;
        let high = random.between(0, 127) as i8;

        let mut offsets = Vec::new();
        let mut sums = vec![0i32; count * stored];
        for y in 0..output_height {
            for x in 0..output_width {
                for tap in 0..taps {
                    let iy = (y * stride[0] + tap / kernel[1]) as isize - pads[0] as isize;
                    let ix = (x * stride[1] + tap % kernel[1]) as isize - pads[1] as isize;
                    if iy < 0 || ix < 0 || iy >= height as isize || ix >= width as isize {
                        offsets.push(PADDED);
                        continue;
                    }
                    let pixel = iy as usize * width + ix as usize;
                    offsets.push(pixel as u32);
                    for channel in 0..out {
                        for k in 0..depth {
                            sums[(y * output_width + x) * stored + channel] +=
                                i32::from(weights[(channel * taps + tap) * depth + k])
                                    * i32::from(input[pixel * input_stride + k]);
                        }
                    }
                }
            }
        }
        let rows = if same { Rows::Same { count } } else { Rows::Indirect { offsets: &offsets, taps } };
        let job = Dense {
            input: &input,
            input_stride,
            depth: packed.depth(),
            rows,
            weights: &packed,
            bias: &bias,
            multiplier: &multiplier,
            slope,
            nonnegative,
            output_stride,
        };
        let length = (count - 1) * output_stride + stored;
        let mut expected = vec![99i8; length];
        let mut expected_f32 = vec![99f32; length];
        for pixel in 0..count {
            for channel in 0..stored {
                let value = (sums[pixel * stored + channel] + bias[channel]) as f32 * multiplier[channel];
                let value = if value < 0.0 { value * slope } else { value };
                expected_f32[pixel * output_stride + channel] = value;
                expected[pixel * output_stride + channel] = reference_round(value, low, high);
            }
        }
        for kernels in available() {
            let mut values = vec![99i8; length];
            kernels.dense(&job, Output::I8 { values: &mut values, low, high });
            assert!(values == expected, "{} round {round} {kernel:?} {depth} -> {out}", kernels.name());
            let mut values = vec![99f32; length];
            kernels.dense(&job, Output::F32 { values: &mut values });
            assert!(values == expected_f32, "{} f32 round {round} {kernel:?} {depth} -> {out}", kernels.name());
        }
    }
}

/// Weights about as large as sums in i16 allow, with the inputs that make these largest or smallest.
#[test]
fn dense_sums_do_not_overflow() {
    let (out, depth) = (16, 32);
    for size in 28..=127 {
        for (signs, wanted) in [(0b1111, 1), (0, 1), (0b0101, 1), (0b0101, 0), (0b1100, 1), (0b1100, 0)] {
            for (nonnegative, [unwanted, most]) in [(true, [0, 127]), (false, [-128, 127]), (false, [127, -128])] {
                let plus = |k: usize| signs >> (k % 4) & 1;
                let weights: Vec<i8> = (0..out * depth).map(|i| if plus(i) == 1 { size } else { -size }).collect();
                let input: Vec<i8> = (0..depth).map(|k| if plus(k) == wanted { most } else { unwanted }).collect();
                let sum: i32 = (0..depth).map(|k| i32::from(weights[k]) * i32::from(input[k])).sum();
                let packed = PackedDense::new(&weights, out, 1, depth).unwrap();
                let job = Dense {
                    input: &input,
                    input_stride: depth,
                    depth,
                    rows: Rows::Same { count: 1 },
                    weights: &packed,
                    bias: &[0; 16],
                    multiplier: &[1.0; 16],
                    slope: 1.0,
                    nonnegative,
                    output_stride: 16,
                };
                for kernels in available() {
                    let mut values = vec![0f32; 16];
                    kernels.dense(&job, Output::F32 { values: &mut values });
                    assert_eq!(values, [sum as f32; 16], "{} {size} {signs:b} {input:?}", kernels.name());
                }
            }
        }
    }
}

#[test]
fn depthwise_is_exact() {
    let mut random = Random(0xFEDC_BA98_7654_3211);
    for round in 0..800 {
        let real = 1 + random.below(100);
        let channels = real.next_multiple_of(LANES);
        let kernel = [[1, 1], [3, 3], [3, 3], [5, 5], [7, 7], [1, 3], [3, 1], [2, 4]][random.below(8)];
        let (height, width) = (1 + random.below(9), 1 + random.below(20));
        let stride = [1 + random.below(2), 1 + random.below(3)];
        let mut pads = [0; 4];
        for (index, pad) in pads.iter_mut().enumerate() {
            *pad = random.below(kernel[index % 2] + 1);
        }
        if height + pads[0] + pads[2] < kernel[0] || width + pads[1] + pads[3] < kernel[1] {
            continue;
        }
        let output_height = (height + pads[0] + pads[2] - kernel[0]) / stride[0] + 1;
        let output_width = (width + pads[1] + pads[3] - kernel[1]) / stride[1] + 1;
        let nonnegative = random.below(2) == 0;
        let input = random.values(height * width * channels, if nonnegative { 0 } else { -128 }, 127);
        let taps = kernel[0] * kernel[1];
        let weights = random.values(real * taps, -127, 127);
        let packed = PackedDepthwise::new(&weights, real, kernel).unwrap();
        let bias: Vec<i32> = (0..channels).map(|_| random.between(-10_000, 10_000)).collect();
        let slope = [1.0, 0.1, 0.0][random.below(3)];
        let multiplier = random.multipliers(channels, 0.02 / taps as f32);
        let (low, high) = (random.between(-128, 0) as i8, random.between(0, 127) as i8);
        let mut expected = vec![0i8; output_height * output_width * channels];
        for y in 0..output_height {
            for x in 0..output_width {
                for channel in 0..channels {
                    let mut sum = 0;
                    for tap in 0..if channel < real { taps } else { 0 } {
                        let iy = (y * stride[0] + tap / kernel[1]) as isize - pads[0] as isize;
                        let ix = (x * stride[1] + tap % kernel[1]) as isize - pads[1] as isize;
                        if iy >= 0 && ix >= 0 && iy < height as isize && ix < width as isize {
                            let value = input[(iy as usize * width + ix as usize) * channels + channel];
                            sum += i32::from(value) * i32::from(weights[channel * taps + tap]);
                        }
                    }
                    let value = (sum + bias[channel]) as f32 * multiplier[channel];
                    let value = if value < 0.0 { value * slope } else { value };
                    expected[(y * output_width + x) * channels + channel] = reference_round(value, low, high);
                }
            }
        }
        let job = Depthwise {
            input: &input,
            height,
            width,
            channels,
            kernel,
            stride,
            pads,
            weights: &packed,
            bias: &bias,
            multiplier: &multiplier,
            slope,
            low,
            high,
            output_height,
            output_width,
            nonnegative,
        };
        for kernels in available() {
            let mut values = vec![99i8; expected.len() + 5];
            kernels.depthwise(&job, &mut values);
            assert!(
                values[..expected.len()] == expected && values[expected.len()..] == [99; 5],
                "{} round {round} {kernel:?} {stride:?} {pads:?} {height}x{width}",
                kernels.name()
            );
        }
    }
}

#[test]
fn add_is_exact() {
    let mut random = Random(0x1111_2222_3333_4445);
    for length in [0, 1, 15, 16, 31, 32, 33, 64, 100, 4096 + 7] {
        for _ in 0..10 {
            let (a, b) = (random.values(length, -128, 127), random.values(length, -128, 127));
            let (ma, mb) = (random.between(-200, 400) as f32 / 128.0, random.between(1, 4000) as f32 / 1711.0);
            let (low, high) = (random.between(-128, 0) as i8, random.between(0, 127) as i8);
            let expected: Vec<i8> = (0..length)
                .map(|i| {
                    let (left, right) = (f32::from(a[i]) * ma, f32::from(b[i]) * mb);
                    reference_round(left + right, low, high)
                })
                .collect();
            for kernels in available() {
                let mut values = vec![99i8; length];
                kernels.add(&a, ma, &b, mb, low, high, &mut values);
                assert_eq!(values, expected, "{}", kernels.name());
            }
        }
    }
}

#[test]
fn planes_are_exact() {
    let mut random = Random(0x9999_2222_3333_4445);
    for round in 0..100 {
        let (channels, pixels) = (1 + random.below(50), 1 + random.below(100));
        let stored = channels.next_multiple_of(LANES) + LANES * random.below(2);
        let scale = random.between(1, 300) as f32 / 100.0;
        let planes: Vec<f32> = (0..channels * pixels)
            .map(|_| match random.below(30) {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2 => f32::NEG_INFINITY,
                3 => 1e30,
                4 => -1e30,
                5 => (random.between(-130, 130) as f32 + 0.5) * scale,
                _ => random.between(-30_000, 30_000) as f32 / 100.0,
            })
            .collect();
        let mut expected = vec![0i8; pixels * stored];
        for pixel in 0..pixels {
            for channel in 0..channels {
                let value = planes[channel * pixels + pixel];
                if !value.is_nan() {
                    expected[pixel * stored + channel] = reference_round(value / scale, -128, 127);
                }
            }
        }
        let mut back = vec![0f32; channels * pixels];
        for pixel in 0..pixels {
            for channel in 0..channels {
                back[channel * pixels + pixel] = f32::from(expected[pixel * stored + channel]) * scale;
            }
        }
        for kernels in available() {
            let mut values = vec![99i8; pixels * stored];
            kernels.quantize(&planes, channels, pixels, scale, stored, &mut values);
            assert!(values == expected, "{} round {round} {channels} x {pixels}", kernels.name());
            let mut values = vec![99f32; channels * pixels];
            kernels.dequantize(&expected, stored, channels, pixels, scale, &mut values);
            assert!(values == back, "{} round {round} {channels} x {pixels}", kernels.name());
        }
    }
}

#[test]
fn weights_are_checked() {
    assert_eq!(PackedDense::new(&[1, 2, 3], 1, 1, 4).err(), Some(PackError::Shape));
    assert_eq!(PackedDense::new(&[], 0, 1, 4).err(), Some(PackError::Shape));
    assert_eq!(PackedDense::new(&[1, -128], 1, 1, 2).err(), Some(PackError::Range));
    assert_eq!(PackedDepthwise::new(&[1, -128], 2, [1, 1]).err(), Some(PackError::Range));
    assert_eq!(PackedDepthwise::new(&[1, 2], 2, [3, 1]).err(), Some(PackError::Shape));
}

#[test]
fn best_is_the_last_available() {
    assert_eq!(available()[0].name(), "portable");
    assert_eq!(available().last().map(|kernels| kernels.name()), Some(best().name()));
}
