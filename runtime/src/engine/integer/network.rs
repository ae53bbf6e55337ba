//! What a fused part of a graph computes, step by step, on i8 maps `[H, W, C]`.

use std::sync::Arc;

use super::kernels::{PackedDense, PackedDepthwise};

/// Values of the largest map: a damaged file must not ask for all memory.
const MOST_ELEMENTS: usize = 1 << 28;

/// Bounds of an integer result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) low: i8,
    pub(crate) high: i8,
}

impl Bounds {
    /// Every i8.
    pub(crate) const ALL: Self = Self { low: i8::MIN, high: i8::MAX };

    /// Clamps and rounds to the nearest integer, half to even; NaN gives the least value.
    #[inline(always)]
    pub(crate) fn clamp(self, value: f32) -> i8 {
        // In a float of this size the last digit is 1: the sum is rounded to an integer, whose low bits end the mantissa. A call of the
        // system's library is what `round_ties_even` would be on x86-64, for each value.
        const DIGITS: f32 = (3 << 22) as f32;
        (value.max(f32::from(self.low)).min(f32::from(self.high)) + DIGITS).to_bits() as i8
    }
}

/// A window that slides over a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Top, left, bottom, right.
    pub(crate) pads: [usize; 4],
    pub(crate) dilation: [usize; 2],
}

impl Window {
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Rows and columns of the result; `None` when the window is larger than the padded map.
    fn over(&self, shape: MapShape) -> Option<[usize; 2]> {
        let along = |length: usize, axis: usize| {
            let span = self.dilation[axis].checked_mul(self.kernel[axis] - 1)?.checked_add(1)?;
            let padded = length.checked_add(self.pads[axis])?.checked_add(self.pads[axis + 2])?;
            Some(padded.checked_sub(span)? / self.stride[axis] + 1)
        };
        Some([along(shape.height, 0)?, along(shape.width, 1)?])
    }

    /// Whether each result reads the one pixel at its own place.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pads == [0; 4]
    }

    /// The pixel that a tap reads for the result at `row`, `column`; `None` in the padding.
    pub(crate) fn reads(&self, row: usize, column: usize, tap: [usize; 2], shape: MapShape) -> Option<usize> {
        let y = (row * self.stride[0] + tap[0] * self.dilation[0]).checked_sub(self.pads[0])?;
        let x = (column * self.stride[1] + tap[1] * self.dilation[1]).checked_sub(self.pads[1])?;
        (y < shape.height && x < shape.width).then_some(y * shape.width + x)
    }
}

/// A convolution: sums of products in i32, a bias, and a factor a channel that turns the sum into units of the result.
#[derive(Debug)]
pub(crate) struct Convolution<W> {
    pub(crate) weights: W,
    pub(crate) window: Window,
    /// Input channels that each output sees.
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// One a stored output channel.
    pub(crate) bias: Vec<i32>,
    /// One a stored output channel.
    pub(crate) multiplier: Vec<f32>,
    /// A negative result is multiplied by this, 0 to 1, before it is rounded: 1 unless a LeakyRelu follows.
    pub(crate) slope: f32,
    /// `None`: the result is f32, and leaves the network.
    pub(crate) bounds: Option<Bounds>,
}

/// Which channels a step takes, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Of `groups` groups the first of each, then the second of each, and so on (ShuffleNet).
    Shuffle { groups: usize },
    /// `count` channels from `first` on.
    Range { first: usize, count: usize },
    /// One of `of` equal parts.
    Share { part: usize, of: usize },
}

impl Pick {
    /// How many of `channels` it takes; `None` when they are not as many as it was made for.
    fn count(self, channels: usize) -> Option<usize> {
        match self {
            Self::Shuffle { groups } => (groups > 0 && channels.is_multiple_of(groups)).then_some(channels),
            Self::Range { first, count } => (count > 0 && first.checked_add(count)? <= channels).then_some(count),
            Self::Share { part, of } => (part < of && channels.is_multiple_of(of)).then(|| channels / of),
        }
    }

    /// The input channel that output channel `n` is, of so many input channels.
    pub(crate) fn from(self, n: usize, channels: usize) -> usize {
        match self {
            Self::Shuffle { groups } => n % groups * (channels / groups) + n / groups,
            Self::Range { first, .. } => first + n,
            Self::Share { part, of } => part * (channels / of) + n,
        }
    }
}

/// One step; its result is a map that later steps read.
#[derive(Clone, Debug)]
pub(crate) enum Operator {
    /// A float input of the network `[1, C, H, W]`, divided by `scale` and rounded.
    Quantize { slot: usize, scale: f32 },
    /// A convolution whose outputs see all input channels.
    Dense(Arc<Convolution<PackedDense>>),
    /// A convolution whose outputs see one input channel each.
    Depthwise(Arc<Convolution<PackedDepthwise>>),
    /// The sum of two maps, each with its factor.
    Add { factors: [f32; 2], bounds: Bounds },
    /// Channels of the inputs one behind the other, each input with its factor.
    Concat { factors: Vec<f32> },
    /// The highest value in a window; what lies in the padding does not count.
    MaxPool(Window),
    /// The mean of a window times `factor`; `padding_counts`: zeros in the padding are part of the mean.
    AveragePool { window: Window, factor: f32, padding_counts: bool },
    /// The mean of all pixels times `factor`.
    GlobalAverage { factor: f32 },
    /// Each pixel this many times, along rows and columns.
    Repeat { times: [usize; 2] },
    /// Twice as many rows and columns, bilinear, pixels meant at their centres.
    Double,
    /// Some of the channels, or all in another order.
    Channels(Pick),
    /// What a table says of each value: `table[value as u8]`.
    Table(Box<[i8; 256]>),
    /// Zeros around a map: top, left, bottom, right.
    Pad([usize; 4]),
}

impl Operator {
    /// Whether no result can be negative, given whether that holds for the inputs.
    pub(crate) fn nonnegative(&self, inputs: &[bool]) -> bool {
        match self {
            Self::Quantize { .. } => false,
            Self::Dense(layer) => layer.bounds.is_some_and(|bounds| bounds.low >= 0),
            Self::Depthwise(layer) => layer.bounds.is_some_and(|bounds| bounds.low >= 0),
            Self::Add { bounds, .. } => bounds.low >= 0,
            Self::Table(table) => table.iter().all(|&value| value >= 0),
            Self::Concat { .. }
            | Self::MaxPool(_)
            | Self::AveragePool { .. }
            | Self::GlobalAverage { .. }
            | Self::Repeat { .. }
            | Self::Double
            | Self::Channels(_)
            | Self::Pad(_) => inputs.iter().all(|&input| input),
        }
    }

    /// The shape of the result, or why there is none. `slots` are the shapes of the network's float inputs.
    fn shape(&self, inputs: &[MapShape], slots: &[MapShape]) -> Result<MapShape, String> {
        let of = |n: usize| inputs.get(n).copied().ok_or("an input is missing");
        let windowed = |window: &Window, channels: usize| {
            let shape = of(0)?;
            let found = window.over(shape);
            let [height, width] = found.ok_or_else(|| format!("a window of {:?} on {shape}", window.kernel))?;
            Ok(MapShape { height, width, channels })
        };
        match self {
            Self::Quantize { slot, .. } => slots.get(*slot).copied().ok_or_else(|| "an input is missing".into()),
            Self::Dense(layer) => {
                let has = of(0)?;
                if layer.inputs != has.channels {
                    return Err(format!("weights for {} channels on {has}", layer.inputs));
                }
                windowed(&layer.window, layer.outputs)
            }
            Self::Depthwise(layer) => {
                if layer.outputs != of(0)?.channels {
                    return Err(format!("weights for {} channels on {}", layer.outputs, of(0)?));
                }
                windowed(&layer.window, layer.outputs)
            }
            Self::Add { .. } if of(0)? != of(1)? => Err(format!("the sum of {} and {}", of(0)?, of(1)?)),
            Self::Add { .. } | Self::Table(_) => Ok(of(0)?),
            Self::Concat { .. } => {
                let first = of(0)?;
                if let Some(other) = inputs.iter().find(|i| (i.height, i.width) != (first.height, first.width)) {
                    return Err(format!("{first} beside {other}"));
                }
                Ok(MapShape { channels: inputs.iter().map(|i| i.channels).sum(), ..first })
            }
            Self::MaxPool(window) | Self::AveragePool { window, .. } => windowed(window, of(0)?.channels),
            Self::GlobalAverage { .. } => Ok(MapShape { height: 1, width: 1, ..of(0)? }),
            Self::Repeat { times } => {
                let shape = of(0)?;
                let [height, width] = [shape.height.saturating_mul(times[0]), shape.width.saturating_mul(times[1])];
                Ok(MapShape { height, width, ..shape })
            }
            Self::Double => {
                let shape = of(0)?;
                let [height, width] = [shape.height, shape.width].map(|n| n.saturating_mul(2));
                Ok(MapShape { height, width, ..shape })
            }
            Self::Channels(pick) => {
                let shape = of(0)?;
                let found = pick.count(shape.channels);
                let channels = found.ok_or_else(|| format!("{pick:?} of {shape}"))?;
                Ok(MapShape { channels, ..shape })
            }
            Self::Pad([top, left, bottom, right]) => {
                let shape = of(0)?;
                let height = shape.height.saturating_add(*top).saturating_add(*bottom);
                let width = shape.width.saturating_add(*left).saturating_add(*right);
                Ok(MapShape { height, width, ..shape })
            }
        }
    }
}

/// Rows, columns and channels of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapShape {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl std::fmt::Display for MapShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a map of {} x {} with {} channels", self.height, self.width, self.channels)
    }
}

impl MapShape {
    /// Of a tensor `[1, C, H, W]`.
    pub(crate) fn of_tensor(shape: &[usize]) -> Option<Self> {
        match *shape {
            [1, channels, height, width] if channels * height * width > 0 => Some(Self { height, width, channels }),
            _ => None,
        }
    }

    /// `[1, C, H, W]`.
    pub(crate) fn tensor(self) -> [usize; 4] {
        [1, self.channels, self.height, self.width]
    }

    /// Whether it has at most [`MOST_ELEMENTS`] values.
    fn is_small(self) -> bool {
        let pixels = self.height.checked_mul(self.width);
        pixels.and_then(|n| n.checked_mul(self.channels)).is_some_and(|n| n <= MOST_ELEMENTS)
    }

    pub(crate) fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// A step and what it reads.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Name of the graph's node.
    pub(crate) name: String,
    pub(crate) operator: Operator,
    /// Earlier steps.
    pub(crate) inputs: Vec<usize>,
}

/// A float tensor `[1, C, H, W]` that leaves the network: the result of a step, times `scale` unless it is f32 already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FloatOutput {
    pub(crate) step: usize,
    pub(crate) scale: f32,
}

/// Steps in an order in which each reads earlier ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    pub(crate) steps: Vec<Step>,
    pub(crate) outputs: Vec<FloatOutput>,
}

impl Network {
    /// The shape of each step's result, for float inputs of these shapes.
    ///
    /// # Errors
    /// The step and why its result has no shape.
    pub(crate) fn shapes(&self, slots: &[MapShape]) -> Result<Vec<MapShape>, String> {
        let mut shapes: Vec<MapShape> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let inputs: Vec<MapShape> = step.inputs.iter().filter_map(|&i| shapes.get(i).copied()).collect();
            let wrong = |reason| format!("`{}`: {reason}", step.name);
            let shape = step.operator.shape(&inputs, slots).map_err(wrong)?;
            if !shape.is_small() {
                return Err(wrong(format!("{shape} is more than {MOST_ELEMENTS} values")));
            }
            shapes.push(shape);
        }
        Ok(shapes)
    }
}
