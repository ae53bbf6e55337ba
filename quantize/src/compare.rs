//! How far apart two versions of a graph are, measured by running both.

use hoi_runtime::engine::{
    Dim, ElementType, Engine, EngineError, GraphRequest, Model, Tensor, TensorSpec, display_shape,
};
use ndarray::{ArrayD, IxDyn};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Length that symbolic dimensions get.
pub const SYMBOL_LENGTH: usize = 7;
/// Most elements that the inputs of one draw may have together (1 GiB of floats).
pub const MOST_INPUT_ELEMENTS: usize = 1 << 28;

/// The inputs that both graphs get.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RandomInputs {
    /// Seed of the random numbers.
    pub seed: u64,
    /// How many times both graphs run, each time with new inputs.
    pub draws: usize,
    /// f32 inputs are uniform between these two, both included.
    pub range: [f32; 2],
}

impl Default for RandomInputs {
    fn default() -> Self {
        Self { seed: 0, draws: 3, range: [-1.0, 1.0] }
    }
}

/// What was compared and how.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The engine that ran both graphs.
    pub engine: String,
    /// The inputs.
    pub inputs: RandomInputs,
    /// One entry an output, in the graph's order.
    pub outputs: Vec<OutputDifference>,
}

/// The difference of one output over all draws.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputDifference {
    /// Name of the output.
    pub name: String,
    /// Elements of one draw.
    pub elements: usize,
    /// Largest absolute difference of an element.
    pub max_abs: f64,
    /// Largest less smallest value that the first graph gave.
    pub range: f64,
    /// Elements that are finite in one graph and not in the other, or differ in which non-finite value they are.
    pub non_finite_mismatches: usize,
}

impl OutputDifference {
    /// `max_abs / range`; 0 where nothing differs, infinite where something differs that was constant or finite before.
    pub fn relative(&self) -> f64 {
        if self.non_finite_mismatches > 0 {
            f64::INFINITY
        } else if self.max_abs == 0.0 {
            0.0
        } else {
            self.max_abs / self.range // A range of 0 gives infinity.
        }
    }
}

/// Why two graphs cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// One of them does not load or run.
    #[error("the {which} graph")]
    Engine {
        /// `original` or `converted`.
        which: &'static str,
        /// The engine's error.
        source: EngineError,
    },
    /// They do not take the same inputs or give the same outputs.
    #[error("the graphs have different {what}: {before} before, {after} after")]
    DifferentInterface {
        /// `inputs`, `outputs`, or an output's name.
        what: String,
        /// Of the original.
        before: String,
        /// Of the converted graph.
        after: String,
    },
    /// The range of the inputs is none.
    #[error("inputs from {} to {}: two finite numbers, the smaller first, are wanted", range[0], range[1])]
    InputRange {
        /// What was asked for.
        range: [f32; 2],
    },
    /// The inputs are too large to try.
    #[error("its inputs have more than {MOST_INPUT_ELEMENTS} elements ({inputs}): too large to try")]
    TooLarge {
        /// Names and shapes.
        inputs: String,
    },
}

/// Runs both graphs on the same random inputs and compares their outputs.
///
/// i64 inputs are 0, symbolic dimensions have length [`SYMBOL_LENGTH`]. Outputs are compared element by element: a graph that ends in a
/// sorted list differs wherever two entries change places.
///
/// # Errors
/// [`CompareError`] when a graph does not load or run, or when they do not fit each other.
pub fn compare(
    before: &[u8],
    after: &[u8],
    engine: &dyn Engine,
    random: RandomInputs,
) -> Result<Comparison, CompareError> {
    let [low, high] = random.range;
    if !(low <= high && low.is_finite() && high.is_finite()) {
        return Err(CompareError::InputRange { range: random.range });
    }
    let load = |bytes, which| {
        engine.load(bytes, &GraphRequest::default()).map_err(|source| CompareError::Engine { which, source })
    };
    let (first, second) = (load(before, "original")?, load(after, "converted")?);
    let describe = |specs: &[TensorSpec]| {
        let all: Vec<String> =
            specs.iter().map(|s| format!("{} {} {}", s.name, s.element, display_shape(&s.shape))).collect();
        all.join(", ")
    };
    for (what, a, b) in [("inputs", first.inputs(), second.inputs()), ("outputs", first.outputs(), second.outputs())] {
        let (before, after) = (describe(a), describe(b));
        if before != after {
            return Err(CompareError::DifferentInterface { what: what.to_owned(), before, after });
        }
    }
    let shapes: Vec<Vec<usize>> = first.inputs().iter().map(|s| lengths(&s.shape)).collect();
    let total = shapes.iter().try_fold(0usize, |sum, shape| {
        let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        sum.checked_add(n).filter(|&n| n <= MOST_INPUT_ELEMENTS)
    });
    if total.is_none() {
        return Err(CompareError::TooLarge { inputs: describe(first.inputs()) });
    }

    let mut rng = ChaCha8Rng::seed_from_u64(random.seed);
    let mut outputs: Vec<Accumulated> = first.outputs().iter().map(|_| Accumulated::default()).collect();
    for _ in 0..random.draws {
        let inputs: Vec<Tensor> = first
            .inputs()
            .iter()
            .zip(&shapes)
            .map(|(s, shape)| draw(&mut rng, random.range, s.element, shape))
            .collect();
        let run = |model: &dyn Model, which| {
            model.run(inputs.clone()).map_err(|source| CompareError::Engine { which, source })
        };
        let (a, b) = (run(&*first, "original")?, run(&*second, "converted")?);
        for ((difference, spec), (a, b)) in outputs.iter_mut().zip(first.outputs()).zip(a.iter().zip(&b)) {
            if a.shape() != b.shape() {
                return Err(CompareError::DifferentInterface {
                    what: format!("shapes of `{}`", spec.name),
                    before: format!("{:?}", a.shape()),
                    after: format!("{:?}", b.shape()),
                });
            }
            difference.add(a, b);
        }
    }
    let outputs = outputs.into_iter().zip(first.outputs()).map(|(d, spec)| d.finish(&spec.name)).collect();
    Ok(Comparison { engine: engine.name(), inputs: random, outputs })
}

fn lengths(shape: &[Dim]) -> Vec<usize> {
    shape.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { SYMBOL_LENGTH }).collect()
}

fn draw(rng: &mut ChaCha8Rng, [low, high]: [f32; 2], element: ElementType, shape: &[usize]) -> Tensor {
    match element {
        ElementType::F32 => Tensor::F32(ArrayD::from_shape_simple_fn(IxDyn(shape), || rng.random_range(low..=high))),
        ElementType::I64 => Tensor::I64(ArrayD::zeros(IxDyn(shape))),
    }
}

#[derive(Default)]
struct Accumulated {
    elements: usize,
    max_abs: f64,
    span: Option<(f64, f64)>,
    non_finite_mismatches: usize,
}

impl Accumulated {
    fn add(&mut self, a: &Tensor, b: &Tensor) {
        match (a, b) {
            (Tensor::F32(a), Tensor::F32(b)) => {
                self.add_values(a.iter().map(|&v| v.into()), b.iter().map(|&v| v.into()))
            }
            (Tensor::I64(a), Tensor::I64(b)) => {
                self.add_values(a.iter().map(|&v| v as f64), b.iter().map(|&v| v as f64))
            }
            // The element types were compared when the graphs were loaded.
            _ => self.non_finite_mismatches += a.shape().iter().product::<usize>(),
        }
    }

    fn add_values(&mut self, a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) {
        self.elements = 0;
        for (a, b) in a.zip(b) {
            self.elements += 1;
            if a.is_finite() {
                let (low, high) = self.span.unwrap_or((a, a));
                self.span = Some((low.min(a), high.max(a)));
            }
            if a.is_finite() && b.is_finite() {
                self.max_abs = self.max_abs.max((a - b).abs());
            } else if a != b && !(a.is_nan() && b.is_nan()) {
                self.non_finite_mismatches += 1;
            }
        }
    }

    fn finish(self, name: &str) -> OutputDifference {
        OutputDifference {
            name: name.to_owned(),
            elements: self.elements,
            max_abs: self.max_abs,
            range: self.span.map_or(0.0, |(low, high)| high - low),
            non_finite_mismatches: self.non_finite_mismatches,
        }
    }
}

#[cfg(test)]
mod tests;
