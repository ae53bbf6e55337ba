//! Where proposals come from: the detector of a runtime bundle, or a file that any detector wrote.

use std::path::PathBuf;

use hoi_runtime::bundle::{ModelBundle, sha256_hex};
use hoi_runtime::detector::{Detection, Detector, DetectorError};
use hoi_runtime::engine::Engine;
use hoi_runtime::geometry::Size;
use hoi_runtime::preprocess::prepare;
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary};
use image::RgbImage;

use crate::dataset::proposals::{PictureProposals, ProposalError, ProposalFile, ProposalRule, Selected};

/// Why there are no proposals.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProposerError {
    /// The detector does not load, or fails on a photo.
    #[error("the detector of {} cannot be used", folder.display())]
    Detector {
        /// The bundle.
        folder: PathBuf,
        /// What is wrong with it.
        source: Box<DetectorError>,
    },
    /// It does not know persons.
    #[error("the detector of {} has no class `{human}`: without persons there are no pairs", folder.display())]
    Human {
        /// The bundle.
        folder: PathBuf,
        /// The vocabulary's name for persons.
        human: String,
    },
    /// The file.
    #[error(transparent)]
    File(#[from] ProposalError),
}

/// A bundle's detector that speaks another vocabulary: classes go by name, what it does not know is left out.
pub struct BundleProposer {
    bundle: ModelBundle,
    detector: Detector,
    classes: Vec<Option<ObjectClass>>,
}

impl BundleProposer {
    /// The detector of a bundle.
    ///
    /// # Errors
    /// [`ProposerError`] naming the bundle.
    pub fn new(bundle: ModelBundle, vocabulary: &Vocabulary, engine: &dyn Engine) -> Result<Self, ProposerError> {
        let folder = bundle.origin().to_owned();
        let human = &vocabulary.spec().human;
        let detector = match Detector::load(engine, &bundle) {
            Ok(detector) if detector.spec().classes.contains(human) => detector,
            Ok(_) => return Err(ProposerError::Human { folder, human: human.clone() }),
            Err(e) => return Err(ProposerError::Detector { folder, source: Box::new(e) }),
        };
        let names = &bundle.vocabulary().spec().objects;
        let classes = names.iter().map(|name| vocabulary.object(name)).collect();
        Ok(Self { bundle, detector, classes })
    }

    /// The bundle.
    pub fn bundle(&self) -> &ModelBundle {
        &self.bundle
    }

    fn detect(&self, pixels: &RgbImage) -> Result<Vec<Detection>, ProposerError> {
        let (input, transform) = prepare(pixels, &self.detector.spec().input);
        let size = Size::new(pixels.width(), pixels.height());
        let found = self
            .detector
            .detect(input, &transform, size)
            .map_err(|e| ProposerError::Detector { folder: self.bundle.origin().to_owned(), source: Box::new(e) })?;
        let known = |d: Detection| {
            let class = self.classes.get(usize::from(d.class.0)).copied().flatten()?;
            Some(Detection { class, ..d })
        };
        Ok(found.detections.into_iter().filter_map(known).collect())
    }
}

/// Where proposals come from.
pub enum Proposer {
    /// A detector.
    Bundle(Box<BundleProposer>),
    /// A file.
    File(Box<ProposalFile>),
}

impl Proposer {
    /// What the proposals of the same photos depend on, for caches and records.
    pub fn key(&self) -> String {
        match self {
            Self::Bundle(p) => {
                let file = &p.bundle.manifest().detector.file;
                format!("detector {}", sha256_hex(p.bundle.file(file).unwrap_or_default()))
            }
            Self::File(file) => {
                let text: String = file.pictures().iter().map(|p| format!("{p:?}\n")).collect();
                format!("proposals {}", sha256_hex(text.as_bytes()))
            }
        }
    }

    /// Gets ready for some photos.
    ///
    /// # Errors
    /// [`ProposerError::File`] when a line of the file could belong to several of them.
    pub fn for_photos<'a>(
        &'a self,
        photos: &[PathBuf],
        human: ObjectClass,
        rule: ProposalRule,
    ) -> Result<PhotoProposals<'a>, ProposerError> {
        let lines = match self {
            Self::Bundle(_) => Vec::new(),
            Self::File(file) => file.find_all(photos)?,
        };
        Ok(PhotoProposals { proposer: self, lines, human, rule })
    }
}

/// The proposals of some photos.
pub struct PhotoProposals<'a> {
    proposer: &'a Proposer,
    lines: Vec<Option<&'a PictureProposals>>,
    human: ObjectClass,
    rule: ProposalRule,
}

impl PhotoProposals<'_> {
    /// What is proposed in photo `index`; nothing where the file has no line for it.
    ///
    /// # Errors
    /// [`ProposerError`] when the detector fails, or the file speaks of a picture of another size.
    pub fn of(&self, index: usize, pixels: &RgbImage) -> Result<Selected, ProposerError> {
        let found = match self.proposer {
            Proposer::Bundle(bundle) => bundle.detect(pixels)?,
            Proposer::File(file) => match self.lines.get(index).copied().flatten() {
                Some(line) => file.detections_in(line, Size::new(pixels.width(), pixels.height()))?,
                None => Vec::new(),
            },
        };
        Ok(self.rule.select(&found, self.human))
    }

    /// Photos that the file has no line for.
    pub fn without_line(&self) -> Vec<usize> {
        (0..self.lines.len()).filter(|&i| self.lines[i].is_none()).collect()
    }
}
