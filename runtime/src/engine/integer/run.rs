//! A [`Network`] made ready for inputs of one shape, and its run.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::kernels::{Dense, Depthwise, GROUP, Kernels, LANES, Output, PADDED, PackedDense, PackedDepthwise, Rows};
use super::maps::{average_pool, channels, concat, double, global_average, max_pool, pad, repeat};
use super::network::{Bounds, Convolution, MapShape, Network, Operator, Window};
use super::workers::Workers;

/// Pixels that are best done together: the kernels' tiles are of so many, or fewer.
const BLOCK: usize = 48;

/// What a product of a depthwise convolution costs, and a value of a sum of maps or of a table, in products of a dense one.
const DEPTHWISE: usize = 4;
const ADDED: usize = 4;
const LOOKED_UP: usize = 16;

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

    /// Runs the network on its float inputs, each `[1, C, H, W]` of the shape that it was prepared for, and writes its outputs. These do
    /// not depend on how many threads there are.
    pub(super) fn run(&self, inputs: &[&[f32]], outputs: &mut [Vec<f32>], workers: Workers<'_>) {
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
                    self.step(n, inputs, &buffers, Written::Map(&mut result[..length]), workers);
                    buffers.maps[place] = result;
                }
                Place::Floats(place) => {
                    let mut result = std::mem::take(&mut buffers.floats[place]);
                    self.step(n, inputs, &buffers, Written::Floats(&mut result[..length]), workers);
                    buffers.floats[place] = result;
                }
            }
            for (output, values) in self.network.outputs.iter().zip(outputs.iter_mut()) {
                if output.step == n {
                    self.leave(n, output.scale, &buffers, values, workers);
                }
            }
        }
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(buffers);
        }
    }

    /// Writes a step's result as `[1, C, H, W]` floats.
    fn leave(&self, n: usize, scale: f32, buffers: &Buffers, values: &mut Vec<f32>, workers: Workers<'_>) {
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
                workers.rows(values, pixels, 4 * pixels, LANES, |first, values| {
                    for (p, pixel) in map.chunks_exact(stored(channels)).enumerate() {
                        let planes = values.chunks_exact_mut(pixels).zip(&pixel[first..]);
                        planes.for_each(|(plane, &value)| plane[p] = value);
                    }
                });
            }
        }
    }

    fn step(&self, n: usize, floats: &[&[f32]], buffers: &Buffers, result: Written<'_>, workers: Workers<'_>) {
        let step = &self.network.steps[n];
        let shape = self.shapes[n];
        let wide = stored(shape.channels);
        let read = |k: usize| {
            let from = step.inputs[k];
            let map: &[i8] = match self.places[from] {
                Place::Map(place) => &buffers.maps[place],
                Place::Floats(_) => &[],
            };
            let MapShape { height, width, channels } = self.shapes[from];
            (&map[..height * width * stored(channels)], self.shapes[from])
        };
        let values = match (&step.operator, result) {
            (_, Written::Map(values)) => values,
            (Operator::Dense(layer), Written::Floats(values)) => {
                let work = layer.weights.taps() * layer.weights.depth() * wide;
                return workers.rows(values, wide, work, BLOCK, |first, values| {
                    let pixels = first..first + values.len() / wide;
                    self.dense(n, layer, read(0), pixels, Output::F32 { values });
                });
            }
            // Only dense convolutions have results in floats.
            (_, Written::Floats(_)) => return,
        };
        // A value that is moved, and one that plain Rust computes from `reads` others, in products.
        let moved = |values, of: &(dyn Fn(usize, &mut [i8]) + Sync)| workers.rows(values, wide, wide, BLOCK, of);
        let computed = |values, reads: usize, of: &(dyn Fn(usize, &mut [i8]) + Sync)| {
            workers.rows(values, wide, 4 * reads * wide, BLOCK, of);
        };
        match &step.operator {
            Operator::Dense(layer) => {
                let Bounds { low, high } = layer.bounds.unwrap_or(Bounds::ALL);
                let work = layer.weights.taps() * layer.weights.depth() * wide;
                workers.rows(values, wide, work, BLOCK, |first, values| {
                    let pixels = first..first + values.len() / wide;
                    self.dense(n, layer, read(0), pixels, Output::I8 { values, low, high });
                });
            }
            Operator::Depthwise(layer) => {
                let row = shape.width * wide;
                let work = DEPTHWISE * layer.window.taps() * row;
                workers.rows(values, row, work, 1, |first, values| self.depthwise(n, layer, read(0), first, values));
            }
            Operator::Quantize { slot, scale } => {
                let (pixels, channels) = (shape.pixels(), shape.channels);
                self.kernels.quantize(floats[*slot], channels, pixels, *scale, wide, values);
            }
            Operator::Add { factors: [a, b], bounds } => {
                let ((first, _), (second, _)) = (read(0), read(1));
                workers.values(values, ADDED, |start, values| {
                    let [x, y] = [first, second].map(|map| &map[start..start + values.len()]);
                    self.kernels.add(x, *a, y, *b, bounds.low, bounds.high, values);
                });
            }
            Operator::Concat { factors } => {
                let inputs: Vec<_> = (0..factors.len()).map(read).collect();
                computed(values, 1, &|first, values| concat(first, &inputs, factors, shape, values));
            }
            Operator::MaxPool(window) => {
                computed(values, window.taps(), &|first, values| max_pool(first, window, read(0), shape, values));
            }
            Operator::AveragePool { window, factor, padding_counts } => {
                let mean = (window, *factor, *padding_counts);
                computed(values, window.taps(), &|first, values| average_pool(first, mean, read(0), shape, values));
            }
            Operator::GlobalAverage { factor } => global_average(read(0), *factor, values),
            Operator::Repeat { times } => {
                moved(values, &|first, values| repeat(first, read(0), *times, shape, values));
            }
            Operator::Double => computed(values, 4, &|first, values| double(first, read(0), shape, values)),
            Operator::Channels(pick) => {
                computed(values, 1, &|first, values| channels(first, *pick, read(0), shape, values));
            }
            Operator::Table(table) => {
                let (map, _) = read(0);
                workers.values(values, LOOKED_UP, |start, values| {
                    let entries = values.iter_mut().zip(&map[start..]);
                    entries.for_each(|(value, &from)| *value = table[usize::from(from as u8)]);
                });
            }
            Operator::Pad(pads) => pad(read(0), *pads, shape, values),
        }
    }

    /// The results at these pixels.
    fn dense(
        &self,
        n: usize,
        layer: &Convolution<PackedDense>,
        (map, from): (&[i8], MapShape),
        pixels: Range<usize>,
        output: Output<'_>,
    ) {
        let input_stride = stored(from.channels);
        let taps = layer.window.taps();
        let (input, rows) = if layer.window.is_pointwise() {
            (&map[pixels.start * input_stride..], Rows::Same { count: pixels.len() })
        } else {
            (map, Rows::Indirect { offsets: &self.reads[n][pixels.start * taps..pixels.end * taps], taps })
        };
        let job = Dense {
            input,
            input_stride,
            depth: from.channels.next_multiple_of(GROUP),
            rows,
            weights: &layer.weights,
            bias: &layer.bias,
            multiplier: &layer.multiplier,
            slope: layer.slope,
            nonnegative: self.nonnegative[self.network.steps[n].inputs[0]],
            output_stride: stored(self.shapes[n].channels),
        };
        self.kernels.dense(&job, output);
    }

    /// The results from a row on.
    fn depthwise(
        &self,
        n: usize,
        layer: &Convolution<PackedDepthwise>,
        (map, from): (&[i8], MapShape),
        first: usize,
        values: &mut [i8],
    ) {
        let shape = self.shapes[n];
        let channels = stored(from.channels);
        let bounds = layer.bounds.unwrap_or(Bounds::ALL);
        // The map from the first row that they read on: what lies above is padding for none of them.
        let [top, left, bottom, right] = layer.window.pads;
        let start = first * layer.window.stride[0];
        let skipped = start.saturating_sub(top).min(from.height);
        let job = Depthwise {
            input: &map[skipped * from.width * channels..],
            height: from.height - skipped,
            width: from.width,
            channels,
            kernel: layer.window.kernel,
            stride: layer.window.stride,
            pads: [top.saturating_sub(start), left, bottom, right],
            weights: &layer.weights,
            bias: &layer.bias,
            multiplier: &layer.multiplier,
            slope: layer.slope,
            low: bounds.low,
            high: bounds.high,
            output_height: values.len() / (shape.width * channels),
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
