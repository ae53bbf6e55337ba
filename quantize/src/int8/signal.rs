//! Signal and noise: of a float tensor, and of the distance of a quantized one to it.

use std::path::PathBuf;

use hoi_runtime::engine::{Engine, EngineError, Tensor};
use hoi_runtime::preprocess::prepare;
use hoi_runtime::source::{ImageLimits, open_image};
use serde::Serialize;

use super::Int8Error;
use super::graphs::Graphs;
use super::prepared::{Made, Prepared};
use crate::onnx::to_bytes;
use crate::qdq::{self, Layer};

/// Signal and noise of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Signal {
    /// Mean square of the float values.
    pub signal: f64,
    /// Mean square of the differences.
    pub noise: f64,
    /// `10 log10(signal / noise)`; `null` where there is no noise or no signal.
    pub decibel: Option<f64>,
}

impl Signal {
    /// Noise for each unit of signal; infinite where there is noise only.
    pub(super) fn share_of_noise(&self) -> f64 {
        if self.noise > 0.0 { self.noise / self.signal } else { 0.0 }
    }
}

/// Signal and noise of an output of the detector.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputSignal {
    /// The output, by its name in the float graph.
    pub name: String,
    /// Images that were run.
    pub images: usize,
    /// Of the original and the quantized graph.
    #[serde(flatten)]
    pub signal: Signal,
}

/// Signal and noise of a layer's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSignal {
    /// The tensor that the layer's node gives, as `--keep-float` takes it.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// With this layer quantized alone: rounding of its input, weights and result.
    pub alone: Signal,
    /// In the graph in which all layers are quantized.
    pub whole: Signal,
}

/// Sums of squares; values that are not finite do not count.
#[derive(Clone, Default)]
struct Sums {
    signal: f64,
    noise: f64,
    values: usize,
}

impl Sums {
    fn add(&mut self, float: &Tensor, other: &Tensor) {
        let (Some(a), Some(b)) = (float.as_f32(), other.as_f32()) else { return };
        for (a, b) in a.iter().zip(b.iter()).filter(|(a, b)| a.is_finite() && b.is_finite()) {
            self.signal += f64::from(*a).powi(2);
            self.noise += (f64::from(*a) - f64::from(*b)).powi(2);
            self.values += 1;
        }
    }

    /// `None` where nothing was added.
    fn signal(&self) -> Option<Signal> {
        let (signal, noise) = (self.signal, self.noise);
        let decibel = (signal > 0.0 && noise > 0.0).then(|| 10.0 * (signal / noise).log10());
        let values = self.values as f64;
        (self.values > 0).then(|| Signal { signal: signal / values, noise: noise / values, decibel })
    }
}

/// Runs `each` on the inputs that come of the first `count` images that can be read; gives how many these were.
fn on_images(
    graphs: &Graphs<'_>,
    images: &[PathBuf],
    count: usize,
    mut each: impl FnMut(usize, Vec<Tensor>) -> Result<(), Int8Error>,
) -> Result<usize, Int8Error> {
    let mut run = 0;
    for path in images {
        if run == count {
            break;
        }
        let Ok(frame) = open_image(path, &ImageLimits::default()) else { continue };
        let (tensor, _) = prepare(&frame.pixels, graphs.input);
        each(run, std::iter::once(Tensor::F32(tensor)).chain(graphs.extra.iter().cloned()).collect())?;
        run += 1;
    }
    Ok(run)
}

fn failed(file: &str, which: &'static str) -> impl Fn(EngineError) -> Int8Error {
    move |source| Int8Error::Engine { file: file.to_owned(), which, source }
}

/// The distance of the outputs of the original and the quantized graph.
pub(super) fn of_outputs(
    Prepared { graphs, file, .. }: &Prepared<'_>,
    engine: &dyn Engine,
    original: &[u8],
    made: &Made,
    images: &[PathBuf],
    count: usize,
) -> Result<Vec<OutputSignal>, Int8Error> {
    let load = |content, names: &[String], which| graphs.load(engine, content, names, which).map_err(|e| e.of(file));
    let first = load(original, &graphs.kept, "original")?;
    let second = load(&made.content, &made.written.names(&graphs.kept), "quantized")?;
    let mut sums = vec![Sums::default(); graphs.kept.len()];
    let images = on_images(graphs, images, count, |_, inputs| {
        let a = first.run(inputs.clone()).map_err(failed(file, "original"))?;
        let b = second.run(inputs).map_err(failed(file, "quantized"))?;
        sums.iter_mut().zip(a.iter().zip(&b)).for_each(|(sum, (a, b))| sum.add(a, b));
        Ok(())
    })?;
    let output = |(name, sums): (&String, &Sums)| {
        sums.signal().map(|signal| OutputSignal { name: name.clone(), images, signal })
    };
    Ok(graphs.kept.iter().zip(&sums).filter_map(output).collect())
}

/// The noise of each layer, alone and with all of them quantized; empty where no image can be read.
///
/// `progress` hears `(done, of)` after each image.
pub(super) fn of_layers(
    prepared: &Prepared<'_>,
    engine: &dyn Engine,
    made: &Made,
    images: &[PathBuf],
    count: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<LayerSignal>, Int8Error> {
    let Prepared { graphs, file, .. } = prepared;
    let layers: Vec<Layer> = made.plan.layers(&made.float);
    let results: Vec<String> = layers.iter().map(|l| l.result.clone()).collect();
    let (beside, own) = qdq::alone(&made.float, &made.complete, &made.plan);
    let load = |model, names: &[String], which| {
        let content = to_bytes(model).map_err(|e| prepared.refused(e))?;
        graphs.load(engine, &content, names, which).map_err(|e| e.of(file))
    };
    let first = load(&beside, &[results.clone(), own].concat(), "layer by layer")?;
    let second = load(&made.complete, &made.written.names(&results), "quantized")?;
    let mut sums = vec![[Sums::default(), Sums::default()]; layers.len()];
    let of = count.min(images.len());
    on_images(graphs, images, count, |done, inputs| {
        let first = first.run(inputs.clone()).map_err(failed(file, "layer by layer"))?;
        let whole = second.run(inputs).map_err(failed(file, "quantized"))?;
        let (float, alone) = first.split_at(layers.len().min(first.len()));
        for (sums, (float, (alone, whole))) in sums.iter_mut().zip(float.iter().zip(alone.iter().zip(&whole))) {
            sums[0].add(float, alone);
            sums[1].add(float, whole);
        }
        progress(done + 1, of);
        Ok(())
    })?;
    let signal = |(layer, [alone, whole]): (Layer, &[Sums; 2])| {
        let (alone, whole) = (alone.signal()?, whole.signal()?);
        Some(LayerSignal { name: layer.name, operator: layer.operator, alone, whole })
    };
    Ok(layers.into_iter().zip(&sums).filter_map(signal).collect())
}
