//! RmLR (Re-mine, Learn and Reason; arXiv 2307.13529): a two-stage system. A frozen detector finds boxes; a small head reads the
//! backbone map again for each pair, learns from text during training only, and classifies verbs.
//!
//! | equation | where |
//! |---|---|
//! | 2, 3 (detector, pairs) | [`crate::system::detr`], [`Example`] |
//! | 4, 5, 6, 9, 20 | [`RmlrNetwork`] |
//! | 7, 8 (text) | [`crate::text`] |
//! | 10 to 19 (cross-modal learning, transfer) | [`CrossModal`] |
//! | 21 | [`crate::loss::FocalLoss`] |
//! | 22 | [`RmlrModel::loss`] |

mod artifact;
mod boxes;
mod bundle_detector;
mod cache;
mod claims;
mod config;
mod detect;
mod evaluate;
mod example;
mod language;
mod model;
mod network;
mod predict;
mod study;
mod text;
mod texts;
mod train;

pub use artifact::{RmlrDescription, load_model, save_model};
pub use boxes::{BoxesConfig, boxes_logits, train_boxes};
pub use bundle_detector::{BundleDetector, BundleDetectorError};
pub use cache::{CacheError, CacheWriter, LabelledDetections, read_cache};
pub use claims::{Figure1, Figure4, Likeness, PlaceAndAction, figure_1, figure_4};
pub use config::{DetachWords, LanguageConfig, LossWeights, RmlrShape, RoiPooling, Row, TextMode, Words};
pub use detect::{DetectError, DetectOptions, FrozenDetector, detect_set};
pub use evaluate::{Truth, average_precisions, mean_average_precision, mean_percent};
pub use example::{DetectedPicture, Example, MATCH_IOU, PairBatch};
pub use language::{CrossModal, TextBatch, TransferLosses, distance};
pub use model::{PRIOR_POWER, RmlrConfig, RmlrModel, predictions};
pub use network::{RmlrNetwork, VisualBatch, VisualOutput};
pub use predict::{predict_set, role_predictions, verb_numbers};
pub use study::{ResultError, RunResult, figure_1_table, figure_4_table, mean_and_deviation, read_result, rows_table};
pub use text::sub_sentences;
pub use texts::Texts;
pub use train::{RmlrError, Source, train};
