//! What RmLR claims, measured on rendered scenes: where an action is to be seen (Figure 1), and what a neighbour spoils (Figure 4).

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::BBox;
use hoi_runtime::pairing::HumanObjectPair;
use hoi_runtime::spatial::{FeatureGrid, pair_masks};
use hoi_runtime::vocabulary::Vocabulary;
use indicatif::ProgressBar;
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use super::detect::{DetectError, DetectOptions, FrozenDetector, detect_set};
use super::example::{Example, PairBatch};
use super::model::RmlrModel;
use crate::dataset::augment::Augmentation;
use crate::dataset::rendered::{Interference, RenderedScene, SamePlace, SceneList};
use crate::dataset::{EntityLabel, PictureSet};

/// How alike vectors are, on average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Likeness {
    /// Cosine similarity.
    pub cosine: f64,
    /// Euclidean distance.
    pub distance: f64,
}

/// Two persons at one place with different actions, against the same action at two places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PlaceAndAction {
    /// Same place, other action.
    pub same_place: Likeness,
    /// Other place, same action.
    pub same_action: Likeness,
}

/// Figure 1 as a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figure1 {
    /// Triples measured.
    pub triples: usize,
    /// Triples left out because the detector missed a person or an object.
    pub missed: usize,
    /// The detector's tokens of the person.
    pub tokens: PlaceAndAction,
    /// The re-mined cues m of the pair.
    pub cues: PlaceAndAction,
}

/// Figure 4 as a table: mean relative change of the pooled feature, |a - b| / |b|, when a neighbour's object appears between human and
/// object, outside both boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figure4 {
    /// Scenes measured.
    pub scenes: usize,
    /// Raw map, masked RoI.
    pub masked_map: f64,
    /// Raw map, the whole enclosing box.
    pub enclosing_map: f64,
    /// Cue m of the trained head, masked RoI.
    pub masked_cue: f64,
    /// Cue m of the trained head, the whole enclosing box.
    pub enclosing_cue: f64,
}

fn detected(
    detector: &dyn FrozenDetector,
    model: &RmlrModel,
    scenes: Vec<&RenderedScene>,
    vocabulary: &Vocabulary,
) -> Result<Vec<Example>, DetectError> {
    let Some(size) = scenes.first().map(|s| s.size()) else { return Ok(Vec::new()) };
    let augmentation = Augmentation::exact(size, 0.0);
    let progress = ProgressBar::hidden();
    let options =
        DetectOptions { augmentation: &augmentation, batch: 16, threads: 1, skip_limit: 0, progress: &progress };
    let set = SceneList::new(scenes.into_iter().cloned().collect(), vocabulary.clone());
    let indices: Vec<usize> = (0..set.len()).collect();
    let mut examples = Vec::with_capacity(set.len());
    detect_set::<DetectError>(detector, &set, &indices, &options, |found| {
        examples.push(Example::new(found.picture, &found.pairs, vocabulary, model.config().shape.pooling));
        Ok(())
    })?;
    Ok(examples)
}

/// The detection that overlaps an annotated entity most, of its class, at IoU 0.5 or more.
fn find(entities: &[Detection], wanted: &EntityLabel) -> Option<usize> {
    let overlap = |d: &Detection| d.bbox.iou(&wanted.bbox);
    let fits = entities.iter().enumerate().filter(|(_, d)| d.class == wanted.class && overlap(d) >= 0.5);
    fits.max_by(|a, b| overlap(a.1).total_cmp(&overlap(b.1))).map(|(i, _)| i)
}

/// Token of the person and cue of the pair.
fn person_and_pair(model: &RmlrModel, example: &Example, scene: &RenderedScene) -> Option<(Tensor, Tensor)> {
    let entities = scene.entities();
    let human = find(&example.picture.entities, &entities[SamePlace::HUMAN])?;
    let object = find(&example.picture.entities, &entities[SamePlace::OBJECT])?;
    let row = example.pairs.iter().position(|p| *p == HumanObjectPair { human, object })?;
    let batch = PairBatch::new(&[example], model.store.device());
    let cue = no_grad(|| model.network.cues(&batch.visual, false))?.get(row as i64);
    Some((example.picture.tokens.get(human as i64), cue))
}

fn likeness(pairs: &[(Tensor, Tensor)]) -> Likeness {
    let mean = |f: &dyn Fn(&Tensor, &Tensor) -> f64| {
        pairs.iter().map(|(a, b)| f(a, b)).sum::<f64>() / pairs.len().max(1) as f64
    };
    Likeness {
        cosine: mean(&|a, b| {
            (a.dot(b) / (a.norm() * b.norm()).clamp_min(1e-12)).to_kind(Kind::Double).double_value(&[])
        }),
        distance: mean(&|a, b| (a - b).norm().double_value(&[])),
    }
}

/// Figure 1. The model must re-mine; without a cue every triple counts as missed.
///
/// # Errors
/// [`DetectError`] when the detector fails.
pub fn figure_1(
    detector: &dyn FrozenDetector,
    model: &RmlrModel,
    triples: &[SamePlace],
    vocabulary: &Vocabulary,
) -> Result<Figure1, DetectError> {
    let scenes = triples.iter().flat_map(|t| [&t.anchor, &t.other_action, &t.other_place]).collect();
    let examples = detected(detector, model, scenes, vocabulary)?;
    let mut missed = 0;
    // Tokens and cues: same place, same action.
    let mut lists: [Vec<(Tensor, Tensor)>; 4] = Default::default();
    for (triple, examples) in triples.iter().zip(examples.chunks_exact(3)) {
        let scenes = [&triple.anchor, &triple.other_action, &triple.other_place];
        let found: Option<Vec<(Tensor, Tensor)>> =
            scenes.iter().zip(examples).map(|(scene, example)| person_and_pair(model, example, scene)).collect();
        let Some([anchor, action, place]) = found.as_deref() else {
            missed += 1;
            continue;
        };
        let copies = |a: &Tensor, b: &Tensor| (a.shallow_clone(), b.shallow_clone());
        lists[0].push(copies(&anchor.0, &action.0));
        lists[1].push(copies(&anchor.0, &place.0));
        lists[2].push(copies(&anchor.1, &action.1));
        lists[3].push(copies(&anchor.1, &place.1));
    }
    let [a, b, c, d] = lists.each_ref().map(|list| likeness(list));
    Ok(Figure1 {
        triples: lists[0].len(),
        missed,
        tokens: PlaceAndAction { same_place: a, same_action: b },
        cues: PlaceAndAction { same_place: c, same_action: d },
    })
}

/// Figure 4. Boxes are the annotated ones, so that only the picture differs.
///
/// # Errors
/// [`DetectError`] when the detector fails.
pub fn figure_4(
    detector: &dyn FrozenDetector,
    model: &RmlrModel,
    scenes: &[Interference],
    vocabulary: &Vocabulary,
) -> Result<Figure4, DetectError> {
    let both = scenes.iter().flat_map(|s| [&s.with, &s.without]).collect();
    let examples = detected(detector, model, both, vocabulary)?;
    let mut sums = [0.0; 4];
    for (scene, examples) in scenes.iter().zip(examples.chunks_exact(2)) {
        let entities = scene.without.entities();
        let (human, object) = (entities[Interference::HUMAN].bbox, entities[Interference::OBJECT].bbox);
        let enclosing = human.enclosing(&object);
        for (i, boxes) in [(human, object), (enclosing, enclosing)].into_iter().enumerate() {
            let [(with_map, with_cue), (map, cue)] = [0, 1].map(|k| pooled(model, &examples[k], boxes));
            let change =
                |a: &Tensor, b: &Tensor| (a - b).norm().double_value(&[]) / b.norm().double_value(&[]).max(1e-12);
            sums[i] += change(&with_map, &map);
            if let (Some(with_cue), Some(cue)) = (with_cue, cue) {
                sums[2 + i] += change(&with_cue, &cue);
            }
        }
    }
    let [masked_map, enclosing_map, masked_cue, enclosing_cue] = sums.map(|s| s / scenes.len().max(1) as f64);
    Ok(Figure4 { scenes: scenes.len(), masked_map, enclosing_map, masked_cue, enclosing_cue })
}

/// Raw map and cue pooled over the masked RoI of two boxes.
fn pooled(model: &RmlrModel, example: &Example, boxes: (BBox, BBox)) -> (Tensor, Option<Tensor>) {
    let picture = &example.picture;
    let feature = picture.feature.to_kind(Kind::Float);
    let [channels, rows, columns] = feature.size()[..] else { unreachable!("a map has three dimensions") };
    let grid = FeatureGrid { columns: columns as usize, rows: rows as usize, picture: picture.covered };
    let mask: Vec<f32> = pair_masks(&[boxes], grid).into_iter().collect();
    let mask = Tensor::from_slice(&mask).view([1, 1, rows * columns]);
    let map = mask.view([1, rows * columns]).matmul(&feature.view([channels, rows * columns]).transpose(0, 1));
    let mut batch = PairBatch::new(&[example], model.store.device());
    batch.visual.pair_masks = mask.to_device(model.store.device());
    batch.visual.rows = Tensor::from_slice(&[0i64]).to_device(model.store.device());
    let cue = no_grad(|| model.network.cues(&batch.visual, false));
    (map, cue)
}
