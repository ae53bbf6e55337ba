//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use hoi_quantize::bundles::{self, BundlesJob, Thresholds};
use hoi_quantize::calibrate::Method;
use hoi_quantize::compare::RandomInputs;
use hoi_quantize::fp16::{DEFAULT_TOLERANCE, Fp16Job};
use hoi_quantize::int8::{DEFAULT_CANDIDATES, DEFAULT_COUNT, DEFAULT_HELD, Int8Job, Sensitivity};
use hoi_quantize::qdq::PlanOptions;

/// Makes ONNX models small and measures what it costs.
#[derive(Debug, Parser)]
#[command(name = "hoi-quantize", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Store f32 weights as f16, each behind a Cast to f32 that engines fold while loading
    ///
    /// The file shrinks to about half and runs as fast as before. Both versions are run on the same random inputs (floats uniform in
    /// --input-range, integers 0, symbolic dimensions 7) and the largest difference of each output is reported.
    ///
    /// Outputs are compared element by element, so a network that ends in a sorted list (the DETR families) differs wherever two
    /// entries change places: judge such a one by its detections, and raise --tolerance.
    ///
    /// With --native the graph computes in f16 as well, and the comparison does, which takes its time on a CPU without FP16 arithmetic.
    Fp16(Fp16),
    /// Quantize the detector of a bundle to INT8, calibrated on images
    ///
    /// Writes a complete bundle whose detector is a QDQ graph: symmetric s8, a scale for each channel of the weights, one for each activation.
    /// ONNX Runtime and TensorRT run it as it is. The heads stay as they are. What is quantized, the size and the signal-to-noise ratio of each
    /// output and layer are reported.
    ///
    /// With --max-drop the bundle is run as well, and layers stay in float until enough of the float bundle's triplets over 0.3 are there
    /// over 0.2: first those whose return to float moves the triplets' scores back the most. Those that turn out not to be needed are
    /// quantized again.
    Int8(Int8),
    /// Compare two bundles on pictures: what each finds, and how long it takes
    ///
    /// Both are run in turn on each picture, from the picture to the triplets. What one finds over a score is looked for in the other over a
    /// lower one: the same class, or verb and class, and boxes that overlap. What only A has is lost, what only B has is new. Times are measured
    /// in the same run; --threads and what else the machine does matter.
    ///
    /// Each finding is looked up by itself: two of them may have the same counterpart.
    Compare(Compare),
}

#[derive(Debug, clap::Args)]
pub struct Fp16 {
    /// The ONNX file to read; it is never overwritten
    input: PathBuf,
    /// The ONNX file to write
    output: PathBuf,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Compute in f16: for CPUs with FP16 arithmetic (Cortex-A55, A76 and later); on others the runtime computes such a graph in f32
    #[arg(long)]
    native: bool,
    /// Seed of the random inputs
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Range of the random f32 inputs; give what the network was made for, for example `0 255` for YOLOX
    #[arg(long, num_args = 2, allow_negative_numbers = true, default_values_t = [-1.0, 1.0], value_names = ["LOW", "HIGH"])]
    input_range: Vec<f32>,
    /// Largest allowed difference of an output, as a share of its range; beyond it nothing is written and the exit status is 1
    #[arg(long, default_value_t = DEFAULT_TOLERANCE, value_parser = tolerance, allow_negative_numbers = true, value_name = "X")]
    tolerance: f64,
}

impl Fp16 {
    /// The job that the arguments describe.
    pub fn job(self) -> Fp16Job {
        let Self { input, output, report, json: _, native, seed, input_range, tolerance } = self;
        let mut inputs = RandomInputs { seed, ..RandomInputs::default() };
        if let [low, high] = input_range[..] {
            inputs.range = [low, high];
        }
        Fp16Job { input, output, report, inputs, tolerance, native }
    }
}

#[derive(Debug, clap::Args)]
pub struct Int8 {
    /// Folder of the bundle to read
    bundle: PathBuf,
    /// Folder of the bundle to write; it must be new or empty
    out: PathBuf,
    /// Folder of images like those the network will see, or a video of them
    #[arg(long, value_name = "DIR", required_unless_present = "statistics")]
    images: Option<PathBuf>,
    /// At most this many images, evenly spread over the sorted folder or the video
    #[arg(long, default_value_t = DEFAULT_COUNT, value_parser = at_least_one, value_name = "N")]
    count: usize,
    /// How the largest magnitude of a tensor is chosen
    #[arg(long, value_enum, default_value_t = MethodName::Mse)]
    method: MethodName,
    /// Share of the values that `percentile` does not clip
    #[arg(long, default_value_t = 99.99, value_parser = percent, allow_negative_numbers = true, value_name = "X")]
    percentile: f64,
    /// Write the statistics to this file
    #[arg(long, value_name = "FILE")]
    save_statistics: Option<PathBuf>,
    /// Use the statistics in this file instead of calibrating; --images, if given, are only compared
    #[arg(long, value_name = "FILE")]
    statistics: Option<PathBuf>,
    /// Leave these nodes in float: names of nodes or of tensors that they give; `*` at the end stands for anything
    #[arg(long, num_args = 1.., value_name = "NAME")]
    keep_float: Vec<String>,
    /// Quantize MatMul and Gemm with constant weights, too
    #[arg(long)]
    quantize_products: bool,
    /// Quantize also results that only float operators read
    #[arg(long)]
    quantize_results: bool,
    /// Leave so many layers in float that at most X percent of the float bundle's triplets are lost; without a number 1
    #[arg(
        long,
        value_name = "X",
        num_args = 0..=1,
        default_missing_value = "1",
        value_parser = drop_in_percent,
        allow_negative_numbers = true,
        requires = "images"
    )]
    max_drop: Option<f64>,
    /// Judge layers by the triplets that each of them costs, and keep none of them in float unless --max-drop is given
    #[arg(long, requires = "images")]
    sensitivity: bool,
    /// How many layers --sensitivity and --max-drop judge one by one: those with the most noise of their own
    #[arg(long, default_value_t = DEFAULT_CANDIDATES, value_parser = at_least_one, value_name = "N")]
    candidates: usize,
    /// At most this many images of --images, none of them calibration's where there are enough, on which they judge
    #[arg(long, default_value_t = DEFAULT_HELD, value_parser = at_least_one, value_name = "N")]
    held: usize,
    /// Leave biases as they are; otherwise they make up for what the rounding of weights does to the mean of each channel
    #[arg(long)]
    no_bias_correction: bool,
    /// Leave the channels of clipped activations as they are; otherwise they are brought to one range where depthwise convolutions read them
    #[arg(long)]
    no_equalization: bool,
    /// Write report.md and report.json into this folder; it must be new or empty
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Threads of the engine
    #[arg(long, default_value_t = 1, value_parser = at_least_one, value_name = "N")]
    pub threads: usize,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MethodName {
    /// Smallest mean squared error of clipping and rounding
    Mse,
    /// So that --percentile of the values are not clipped
    Percentile,
    /// Smallest divergence of the distributions before and after
    Entropy,
    /// Nothing is clipped
    MinMax,
}

impl Int8 {
    /// The job that the arguments describe.
    pub fn job(self) -> Int8Job {
        let method = match self.method {
            MethodName::Mse => Method::Mse,
            MethodName::Percentile => Method::Percentile { percent: self.percentile },
            MethodName::Entropy => Method::Entropy,
            MethodName::MinMax => Method::MinMax,
        };
        let options = PlanOptions {
            products: self.quantize_products,
            results: self.quantize_results,
            keep_float: self.keep_float,
        };
        let mut command =
            format!("hoi-quantize int8 BUNDLE OUT --images IMAGES --count {} --method {method}", self.count);
        command = command.replace("--method percentile ", "--method percentile --percentile ");
        for (given, flag) in [(options.products, "products"), (options.results, "results")] {
            if given {
                command.push_str(" --quantize-");
                command.push_str(flag);
            }
        }
        if !options.keep_float.is_empty() {
            command.push_str(" --keep-float ");
            command.push_str(&options.keep_float.join(" "));
        }
        if self.no_bias_correction {
            command.push_str(" --no-bias-correction");
        }
        if let Some(max_drop) = self.max_drop {
            command.push_str(&format!(" --max-drop {max_drop} --candidates {} --held {}", self.candidates, self.held));
        }
        if self.no_equalization {
            command.push_str(" --no-equalization");
        }
        Int8Job {
            equalize: !self.no_equalization,
            correct_bias: !self.no_bias_correction,
            bundle: self.bundle,
            output: self.out,
            images: self.images,
            count: self.count,
            method,
            options,
            statistics: self.statistics,
            save_statistics: self.save_statistics,
            sensitivity: (self.sensitivity || self.max_drop.is_some()).then_some(Sensitivity {
                max_drop: self.max_drop,
                held: self.held,
                candidates: self.candidates,
            }),
            report: self.report,
            command,
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Compare {
    /// Folder of the first bundle
    a: PathBuf,
    /// Folder of the second bundle
    b: PathBuf,
    /// Folder of pictures that both see
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// At most this many pictures, evenly spread over the sorted folder
    #[arg(long, default_value_t = bundles::DEFAULT_COUNT, value_parser = at_least_one, value_name = "N")]
    count: usize,
    /// Do not use the pictures that this text file names, one a line: those that calibration saw, `calibration.txt` in a bundle of
    /// `hoi-quantize int8`
    #[arg(long, value_name = "FILE")]
    leave_out: Option<PathBuf>,
    /// Runs of each bundle on each picture
    #[arg(long, default_value_t = 1, value_parser = at_least_one, value_name = "N")]
    rounds: usize,
    /// Detections of one bundle count over this score
    #[arg(long, default_value_t = Thresholds::default().detection_score, value_parser = share, allow_negative_numbers = true, value_name = "S")]
    score: f32,
    /// They are kept where the other bundle has them over this score
    #[arg(long, default_value_t = Thresholds::default().detection_other_score, value_parser = share, allow_negative_numbers = true, value_name = "S")]
    other_score: f32,
    /// Triplets of one bundle count over this score
    #[arg(long, default_value_t = Thresholds::default().triplet_score, value_parser = share, allow_negative_numbers = true, value_name = "S")]
    triplet_score: f32,
    /// They are kept where the other bundle has them over this score
    #[arg(long, default_value_t = Thresholds::default().triplet_other_score, value_parser = share, allow_negative_numbers = true, value_name = "S")]
    other_triplet_score: f32,
    /// Boxes are the same over this intersection over union
    #[arg(long, default_value_t = Thresholds::default().iou, value_parser = share, allow_negative_numbers = true, value_name = "X")]
    iou: f32,
    /// Threads of the engine
    #[arg(long, default_value_t = 1, value_parser = at_least_one, value_name = "N")]
    pub threads: usize,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write report.md, report.html, report.json and the pictures that differ most into this folder; it must be new or empty
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
}

impl Compare {
    /// The job that the arguments describe.
    pub fn job(self) -> BundlesJob {
        BundlesJob {
            a: self.a,
            b: self.b,
            images: self.images,
            count: self.count,
            leave_out: self.leave_out,
            thresholds: Thresholds {
                detection_score: self.score,
                detection_other_score: self.other_score,
                triplet_score: self.triplet_score,
                triplet_other_score: self.other_triplet_score,
                iou: self.iou,
            },
            rounds: self.rounds,
            report: self.report,
        }
    }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err("a number from 0 to 1 is wanted".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "a whole number of at least 1 is wanted".to_owned())
}

fn drop_in_percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (0.0..100.0).contains(&x) => Ok(x),
        _ => Err("a number of at least 0 and below 100 is wanted".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x <= 100.0 => Ok(x),
        _ => Err("a number above 0 and at most 100 is wanted".to_owned()),
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x >= 0.0 && x.is_finite() => Ok(x),
        _ => Err("a number of at least 0 is wanted".to_owned()),
    }
}
