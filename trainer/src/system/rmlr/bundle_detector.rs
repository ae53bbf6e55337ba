//! The detector of a runtime bundle as a frozen detector: what a head is trained on is what the board will give it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hoi_runtime::bundle::{BundleError, ModelBundle, sha256_hex};
use hoi_runtime::detector::{Detection, Detector, DetectorError, DetectorOutput, ENTITY_TOKENS};
use hoi_runtime::engine::{Engine, Tensor as EngineTensor};
use hoi_runtime::geometry::Size;
use hoi_runtime::pairing::{PairingSpec, select_entity_indices};
use hoi_runtime::preprocess::{ColourOrder, InputSpec, Transform};
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary};
use ndarray::{Array4, ArrayD};
use tch::{Device, Kind, Tensor};

use super::detect::{DetectError, FrozenDetector};
use super::example::DetectedPicture;
use crate::dataset::augment::{IMAGENET_MEAN, IMAGENET_STD};
use crate::dataset::loader::{Batch, Target};

/// The map that RmLR's head reads.
const FEATURE: &str = "feature";

/// Why a bundle's detector cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleDetectorError {
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The detector does not load, or fails on a grey picture.
    #[error("the detector of {} cannot be used", folder.display())]
    Detector {
        /// The bundle.
        folder: PathBuf,
        /// What is wrong with it.
        source: Box<DetectorError>,
    },
    /// It gives too little for a head.
    #[error("the detector of {} gives no {what}: its manifest needs {needed}", folder.display())]
    Missing {
        /// The bundle.
        folder: PathBuf,
        /// `tokens` or `map`.
        what: &'static str,
        /// Key of the manifest.
        needed: &'static str,
    },
    /// It does not know persons.
    #[error("the detector of {} has no class `{human}`, the human of the data set", folder.display())]
    Human {
        /// The bundle.
        folder: PathBuf,
        /// The data set's name for persons.
        human: String,
    },
}

/// A bundle's detector that speaks a data set's vocabulary.
pub struct BundleDetector {
    bundle: ModelBundle,
    detector: Detector,
    pairing: PairingSpec,
    human: ObjectClass,
    /// `[class of the bundle]`: the set's class of that name.
    classes: Vec<Option<ObjectClass>>,
    unknown: Vec<String>,
    map: [usize; 3],
    key: String,
    dropped: AtomicU64,
}

impl BundleDetector {
    /// The detector of `bundle`, with the bundle's rule of which detections become entities. Classes go by name to those of
    /// `vocabulary`; detections of others are dropped before entities are selected ([`Self::dropped`]).
    ///
    /// # Errors
    /// [`BundleDetectorError`] saying what is missing.
    pub fn new(bundle: ModelBundle, vocabulary: &Vocabulary, engine: &dyn Engine) -> Result<Self, BundleDetectorError> {
        let folder = || bundle.origin().to_owned();
        let failed = |source| BundleDetectorError::Detector { folder: folder(), source: Box::new(source) };
        let missing = |what, needed| BundleDetectorError::Missing { folder: folder(), what, needed };
        let detector = Detector::load(engine, &bundle).map_err(failed)?;
        if detector.token_width().is_none() {
            return Err(missing("tokens", "detector.decoder.tokens"));
        }
        let spec = detector.spec();
        let objects = &bundle.vocabulary().spec().objects;
        let classes: Vec<Option<ObjectClass>> = objects.iter().map(|name| vocabulary.object(name)).collect();
        let human = vocabulary.spec().human.clone();
        if !spec.classes.contains(&human) {
            return Err(BundleDetectorError::Human { folder: folder(), human });
        }
        let unknown = spec.classes.iter().filter(|name| vocabulary.object(name).is_none()).cloned().collect();
        // A grey picture says how large the map is.
        let size = spec.input.size();
        let output = detector.detect(ArrayD::zeros(&spec.input.shape[..]), &whole(spec, size), size).map_err(failed)?;
        let map = match output.features.iter().find(|(name, _)| name == FEATURE).map(|(_, map)| map.shape()) {
            Some(&[1, channels, rows, columns]) => [channels, rows, columns],
            _ => return Err(missing("map", "detector.taps.feature")),
        };
        let key = sha256_hex(bundle.file(&spec.file).unwrap_or_default());
        let (pairing, human) = (bundle.manifest().pairing.clone(), vocabulary.human());
        Ok(Self { bundle, detector, pairing, human, classes, unknown, map, key, dropped: AtomicU64::new(0) })
    }

    /// Reads a bundle and takes its detector.
    ///
    /// # Errors
    /// As [`BundleDetector::new`].
    pub fn load(folder: &Path, vocabulary: &Vocabulary, engine: &dyn Engine) -> Result<Self, BundleDetectorError> {
        Self::new(ModelBundle::load(folder)?, vocabulary, engine)
    }

    /// The bundle.
    pub fn bundle(&self) -> &ModelBundle {
        &self.bundle
    }

    /// Size that pictures must be stretched to.
    pub fn input(&self) -> Size {
        self.detector.spec().input.size()
    }

    /// Digest of the detector's graph.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Rows, columns and channels of the map, as an exported head takes it.
    pub fn feature(&self) -> [usize; 3] {
        let [channels, rows, columns] = self.map;
        [rows, columns, channels]
    }

    /// Its classes that the data set does not have.
    pub fn unknown_classes(&self) -> &[String] {
        &self.unknown
    }

    /// How many detections of such classes were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn picture(&self, values: &Tensor, target: &Target) -> Result<DetectedPicture, DetectError> {
        let spec = &self.detector.spec().input;
        let size = spec.size();
        let failed = |reason: String| DetectError::Detector { name: target.name.clone(), reason };
        if target.input != size {
            return Err(failed(format!("it has {} pixels, this detector takes {size}", target.input)));
        }
        let input = renormalised(values, spec).map_err(failed)?;
        let DetectorOutput { detections, features } =
            self.detector.detect(input, &whole(self.detector.spec(), size), size).map_err(|e| failed(e.to_string()))?;
        let take = |wanted: &str| features.iter().find(|(name, _)| name == wanted).and_then(|(_, t)| to_tch(t));
        let tensors = (take(FEATURE), take(ENTITY_TOKENS));
        let (Some(feature), Some(tokens)) = tensors else { return Err(failed("no map or no tokens came".to_owned())) };
        let (rows, known): (Vec<i64>, Vec<Detection>) = (0..)
            .zip(detections)
            .filter_map(|(row, d)| {
                let class = self.classes.get(usize::from(d.class.0)).copied().flatten();
                if class.is_none() {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                Some((row, Detection { class: class?, ..d }))
            })
            .unzip();
        let chosen = select_entity_indices(&known, self.human, &self.pairing);
        let rows: Vec<i64> = chosen.iter().map(|&i| rows[i]).collect();
        Ok(DetectedPicture {
            number: target.number,
            original: target.original,
            input: target.input,
            feature: feature.squeeze_dim(0),
            covered: size,
            entities: chosen.iter().map(|&i| known[i].clone()).collect(),
            tokens: tokens.index_select(0, &Tensor::from_slice(&rows)),
        })
    }
}

/// The input as a picture of its own.
fn whole(spec: &hoi_runtime::detector::DetectorSpec, size: Size) -> Transform {
    Transform::new(size, size, spec.input.resize)
}

/// From ImageNet's mean and deviation, red first `[3, H, W]`, to the detector's own.
fn renormalised(values: &Tensor, spec: &InputSpec) -> Result<ArrayD<f32>, String> {
    let per_channel = |list: [f32; 3]| Tensor::from_slice(&list).view([3, 1, 1]);
    let pixels =
        values.to_device(Device::Cpu).to_kind(Kind::Float) * per_channel(IMAGENET_STD) + per_channel(IMAGENET_MEAN);
    let ordered = match spec.colour {
        ColourOrder::Rgb => pixels,
        ColourOrder::Bgr => pixels.flip([0]),
    };
    let own = (ordered - per_channel(spec.mean)) / per_channel(spec.std);
    let list = Vec::<f32>::try_from(own.contiguous().view([-1])).map_err(|e| e.to_string())?;
    let [_, _, height, width] = spec.shape;
    Array4::from_shape_vec((1, 3, height, width), list).map(Array4::into_dyn).map_err(|e| e.to_string())
}

fn to_tch(tensor: &EngineTensor) -> Option<Tensor> {
    let array = tensor.as_f32()?;
    let shape: Vec<i64> = array.shape().iter().map(|&n| n as i64).collect();
    let values: Vec<f32> = array.iter().copied().collect();
    Some(Tensor::from_slice(&values).view(&shape[..]))
}

impl FrozenDetector for BundleDetector {
    fn detect(&self, batch: &Batch) -> Result<Vec<DetectedPicture>, DetectError> {
        (0..).zip(&batch.targets).map(|(i, target)| self.picture(&batch.images.get(i), target)).collect()
    }

    fn map_channels(&self) -> i64 {
        self.map[0] as i64
    }

    fn token_width(&self) -> i64 {
        self.detector.token_width().unwrap_or_default() as i64
    }
}
