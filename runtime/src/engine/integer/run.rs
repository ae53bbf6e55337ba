//! A [`Network`] made ready for inputs of one shape, and its run.

use std::sync::{Arc, Mutex};

use super::kernels::{Dense, Depthwise, GROUP, Kernels, LANES, Output, PADDED, PackedDense, PackedDepthwise, Rows};
use super::maps::{channels, concat, double, global_average, pad, pool, repeat};
use super::network::{Bounds, Convolution, MapShape, Network, Operator, Window};

/// Channels as a map stores them.
pub(super) fn stored(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// Where a step writes.
enum Written<'a> {
    Map(&'a mut [i8]),
    Floats(&'a mut [f32]),
}

/// Where a step's result lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A buffer of i8, by its number.
    Map(usize),
    /// A buffer of f32, by its number.
    Floats(usize),
}

/// A network with its shapes, buffers and tables of what convolutions read.
pub(crate) struct ReadyNetwork {
    network: Arc<Network>,
    shapes: Vec<MapShape>,
    nonnegative: Vec<bool>,
    places: Vec<Place>,
    map_bytes: Vec<usize>,
    float_lengths: Vec<usize>,
    /// What a dense convolution reads, where that is not its own pixel.
    reads: Vec<Vec<u32>>,
    kernels: &'static dyn Kernels,
    /// Buffers of runs that have ended, for the next ones.
    idle: Mutex<Vec<Buffers>>,
}

impl std::fmt::Debug for ReadyNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} integer steps ({})", self.network.steps.len(), self.kernels.name())
    }
}

#[derive(Default)]
struct Buffers {
    maps: Vec<Vec<i8>>,
    floats: Vec<Vec<f32>>,
}

impl ReadyNetwork {
    /// Prepares a network for float inputs of these shapes.
    ///
    /// # Errors
    /// The step whose shape does not work out, and why.
    pub(crate) fn new(
        network: Arc<Network>,
        slots: &[MapShape],
        kernels: &'static dyn Kernels,
    ) -> Result<Self, String> {
        let shapes = network.shapes(slots)?;
        let mut nonnegative: Vec<bool> = Vec::with_capacity(shapes.len());
        for step in &network.steps {
            let inputs: Vec<bool> = step.inputs.iter().map(|&i| nonnegative[i]).collect();
            nonnegative.push(step.operator.nonnegative(&inputs));
        }
        let (places, map_bytes, float_lengths) = placed(&network, &shapes);
        let reads = network.steps.iter().enumerate();
        let reads = reads.map(|(n, step)| match &step.operator {
            Operator::Dense(layer) if !layer.window.is_pointwise() => {
                offsets(&layer.window, shapes[step.inputs[0]], shapes[n])
            }
            _ => Vec::new(),
        });
        let reads = reads.collect();
        let idle = Mutex::default();
        Ok(Self { network, shapes, nonnegative, places, map_bytes, float_lengths, reads, kernels, idle })
    }

    /// Shape `[1, C, H, W]` of each output.
    pub(crate) fn output_shapes(&self) -> Vec<[usize; 4]> {
        self.network.outputs.iter().map(|output| self.shapes[output.step].tensor()).collect()
    }

    /// Runs the network on its float inputs, each `[1, C, H, W]` of the shape that it was prepared for, and writes its outputs.
    pub(crate) fn run(&self, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let mut buffers = idle.unwrap_or_else(|| Buffers {
            maps: self.map_bytes.iter().map(|&n| vec![0; n]).collect(),
            floats: self.float_lengths.iter().map(|&n| vec![0.0; n]).collect(),
        });
        for n in 0..self.network.steps.len() {
            let length = self.shapes[n].pixels() * stored(self.shapes[n].channels);
            match self.places[n] {
                Place::Map(place) => {
                    let mut result = std::mem::take(&mut buffers.maps[place]);
                    self.step(n, inputs, &buffers, Written::Map(&mut result[..length]));
                    buffers.maps[place] = result;
                }
                Place::Floats(place) => {
                    let mut result = std::mem::take(&mut buffers.floats[place]);
                    self.step(n, inputs, &buffers, Written::Floats(&mut result[..length]));
                    buffers.floats[place] = result;
                }
            }
            for (output, values) in self.network.outputs.iter().zip(outputs.iter_mut()) {
                if output.step == n {
                    self.leave(n, output.scale, &buffers, values);
                }
            }
        }
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(buffers);
        }
    }

    /// Writes a step's result as `[1, C, H, W]` floats.
    fn leave(&self, n: usize, scale: f32, buffers: &Buffers, values: &mut Vec<f32>) {
        let MapShape { height, width, channels } = self.shapes[n];
        let pixels = height * width;
        values.resize(channels * pixels, 0.0);
        match self.places[n] {
            Place::Map(place) => {
                let map = &buffers.maps[place][..pixels * stored(channels)];
                self.kernels.dequantize(map, stored(channels), channels, pixels, scale, values);
            }
            Place::Floats(place) => {
                let map = &buffers.floats[place][..pixels * stored(channels)];
                for (p, pixel) in map.chunks_exact(stored(channels)).enumerate() {
                    pixel.iter().take(channels).enumerate().for_each(|(c, &value)| values[c * pixels + p] = value);
                }
            }
        }
    }

    fn step(&self, n: usize, floats: &[&[f32]], buffers: &Buffers, result: Written<'_>) {
        let step = &self.network.steps[n];
        let shape = self.shapes[n];
        let read = |k: usize| {
            let from = step.inputs[k];
            let map: &[i8] = match self.places[from] {
                Place::Map(place) => &buffers.maps[place],
                Place::Floats(_) => &[],
            };
            let MapShape { height, width, channels } = self.shapes[from];
            (&map[..height * width * stored(channels)], self.shapes[from])
        };
        match (&step.operator, result) {
            (Operator::Dense(layer), Written::Map(values)) => {
                let Bounds { low, high } = layer.bounds.unwrap_or(Bounds::ALL);
                self.dense(n, layer, read(0), Output::I8 { values, low, high });
            }
            (Operator::Dense(layer), Written::Floats(values)) => self.dense(n, layer, read(0), Output::F32 { values }),
            // Only dense convolutions have results in floats.
            (_, Written::Floats(_)) => {}
            (Operator::Quantize { slot, scale }, Written::Map(values)) => {
                let (pixels, channels) = (shape.pixels(), shape.channels);
                self.kernels.quantize(floats[*slot], channels, pixels, *scale, stored(channels), values);
            }
            (Operator::Depthwise(layer), Written::Map(values)) => self.depthwise(n, layer, read(0), values),
            (Operator::Add { factors: [a, b], bounds }, Written::Map(values)) => {
                self.kernels.add(read(0).0, *a, read(1).0, *b, bounds.low, bounds.high, values);
            }
            (Operator::Concat { factors }, Written::Map(values)) => {
                let inputs: Vec<_> = (0..factors.len()).map(read).collect();
                concat(&inputs, factors, shape, values);
            }
            (Operator::MaxPool(window), Written::Map(values)) => pool(window, read(0), shape, values, |found| {
                found.iter().copied().max().unwrap_or(i32::from(i8::MIN)) as i8
            }),
            (Operator::AveragePool { window, factor, padding_counts }, Written::Map(values)) => {
                pool(window, read(0), shape, values, |found| {
                    let count = if *padding_counts { window.taps() } else { found.len().max(1) };
                    let sum: i32 = found.iter().sum();
                    Bounds::ALL.clamp(sum as f32 * (factor / count as f32))
                });
            }
            (Operator::GlobalAverage { factor }, Written::Map(values)) => global_average(read(0), *factor, values),
            (Operator::Repeat { times }, Written::Map(values)) => repeat(read(0), *times, shape, values),
            (Operator::Double, Written::Map(values)) => double(read(0), shape, values),
            (Operator::Channels(pick), Written::Map(values)) => channels(*pick, read(0), shape, values),
            (Operator::Table(table), Written::Map(values)) => {
                let entries = values.iter_mut().zip(read(0).0);
                entries.for_each(|(value, &from)| *value = table[usize::from(from as u8)]);
            }
            (Operator::Pad(pads), Written::Map(values)) => pad(read(0), *pads, shape, values),
        }
    }

    fn dense(&self, n: usize, layer: &Convolution<PackedDense>, (map, from): (&[i8], MapShape), output: Output<'_>) {
        let shape = self.shapes[n];
        let rows = if layer.window.is_pointwise() {
            Rows::Same { count: shape.pixels() }
        } else {
            Rows::Indirect { offsets: &self.reads[n], taps: layer.window.taps() }
        };
        let job = Dense {
            input: map,
            input_stride: stored(from.channels),
            depth: from.channels.next_multiple_of(GROUP),
            rows,
            weights: &layer.weights,
            bias: &layer.bias,
            multiplier: &layer.multiplier,
            slope: layer.slope,
            nonnegative: self.nonnegative[self.network.steps[n].inputs[0]],
            output_stride: stored(shape.channels),
        };
        self.kernels.dense(&job, output);
    }

    fn depthwise(
        &self,
        n: usize,
        layer: &Convolution<PackedDepthwise>,
        (map, from): (&[i8], MapShape),
        values: &mut [i8],
    ) {
        let shape = self.shapes[n];
        let bounds = layer.bounds.unwrap_or(Bounds::ALL);
        let job = Depthwise {
            input: map,
            height: from.height,
            width: from.width,
            channels: stored(from.channels),
            kernel: layer.window.kernel,
            stride: layer.window.stride,
            pads: layer.window.pads,
            weights: &layer.weights,
            bias: &layer.bias,
            multiplier: &layer.multiplier,
            slope: layer.slope,
            low: bounds.low,
            high: bounds.high,
            output_height: shape.height,
            output_width: shape.width,
            nonnegative: self.nonnegative[self.network.steps[n].inputs[0]],
        };
        self.kernels.depthwise(&job, values);
    }
}

/// A place for each step's result, so that a buffer is used again once nothing reads what it held; and the buffers' sizes.
fn placed(network: &Network, shapes: &[MapShape]) -> (Vec<Place>, Vec<usize>, Vec<usize>) {
    let count = network.steps.len();
    let mut last_read: Vec<usize> = (0..count).collect();
    for (n, step) in network.steps.iter().enumerate() {
        step.inputs.iter().for_each(|&from| last_read[from] = n);
    }
    let (mut places, mut map_bytes, mut float_lengths) = (Vec::with_capacity(count), Vec::new(), Vec::new());
    let mut free: Vec<usize> = Vec::new();
    for (n, step) in network.steps.iter().enumerate() {
        let length = shapes[n].pixels() * stored(shapes[n].channels);
        if matches!(&step.operator, Operator::Dense(layer) if layer.bounds.is_none()) {
            places.push(Place::Floats(float_lengths.len()));
            float_lengths.push(length);
        } else {
            // The smallest free buffer that is large enough, or else the largest.
            let fits = |&(_, &place): &(usize, &usize)| map_bytes[place] >= length;
            let free_places = || free.iter().enumerate();
            let best = free_places()
                .filter(fits)
                .min_by_key(|&(_, &place)| map_bytes[place])
                .or_else(|| free_places().max_by_key(|&(_, &place)| map_bytes[place]))
                .map(|(k, _)| k);
            let place = best.map_or(map_bytes.len(), |k| free.swap_remove(k));
            match map_bytes.get_mut(place) {
                Some(bytes) => *bytes = length.max(*bytes),
                None => map_bytes.push(length),
            }
            places.push(Place::Map(place));
        }
        for from in 0..=n {
            if let (true, Place::Map(place)) = (last_read[from] == n, places[from]) {
                free.push(place);
            }
        }
    }
    (places, map_bytes, float_lengths)
}

/// For each pixel of the result and each tap: the input pixel, or [`PADDED`].
fn offsets(window: &Window, from: MapShape, to: MapShape) -> Vec<u32> {
    let mut offsets = Vec::with_capacity(to.pixels() * window.taps());
    for row in 0..to.height {
        for column in 0..to.width {
            for ky in 0..window.kernel[0] {
                for kx in 0..window.kernel[1] {
                    let pixel = window.reads(row, column, [ky, kx], from);
                    offsets.push(pixel.and_then(|p| u32::try_from(p).ok()).unwrap_or(PADDED));
                }
            }
        }
    }
    offsets
}
