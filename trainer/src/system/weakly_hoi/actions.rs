//! Stanford-40: one action a photo, by one person, whose box is given or has to be found.

use hoi_runtime::detector::Detection;
use hoi_runtime::fusion::{normalised_pair_scores, sigmoid};
use hoi_runtime::geometry::BBox;
use hoi_runtime::interaction::HeadOutput;
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary};
use tch::Tensor;

use super::example::WeakExample;
use super::model::WeaklyModel;
use crate::dataset::ImageLabel;
use crate::dataset::stanford40::{ACTIONS, object_of};
use crate::eval::precision::ranking_precision;
use crate::system::rmlr::{DetectedPicture, MATCH_IOU};

/// Photos scored at a time.
const BATCH: usize = 64;

/// The proposals of a photo with the annotated person first: that person with score 1, then, where they are wanted, the detected person that
/// overlaps it most, at least half, if there is one; then everything detected that is no person.
pub fn with_given_person(given: BBox, proposals: &[Detection], human: ObjectClass, detected: bool) -> Vec<Detection> {
    let person = Detection { bbox: given, class: human, score: 1.0 };
    let (humans, objects): (Vec<_>, Vec<_>) = proposals.iter().cloned().partition(|d| d.class == human);
    let overlap =
        humans.into_iter().filter(|_| detected).map(|d| (d.bbox.iou(&given), d)).filter(|(iou, _)| *iou >= MATCH_IOU);
    let found = overlap.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, d)| d);
    [person].into_iter().chain(found).chain(objects).collect()
}

/// Which person an example has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum People {
    /// The annotated one.
    Given,
    /// The detected one that overlaps it.
    Detected,
}

/// The photo with one of the persons of [`with_given_person`]; `None` where none was detected.
pub fn with_one_person(picture: &DetectedPicture, people: People, human: ObjectClass) -> Option<DetectedPicture> {
    let persons = picture.entities.iter().take_while(|e| e.class == human).count();
    let person = match people {
        People::Given => 0,
        People::Detected => 1,
    };
    if person >= persons {
        return None;
    }
    let kept: Vec<usize> = [person].into_iter().chain(persons..picture.entities.len()).collect();
    let rows: Vec<i64> = kept.iter().map(|&i| i as i64).collect();
    Some(DetectedPicture {
        entities: kept.iter().map(|&i| picture.entities[i].clone()).collect(),
        tokens: picture.tokens.index_select(0, &Tensor::from_slice(&rows)),
        ..picture.shallow_clone()
    })
}

/// The interaction of an action; `None` where the vocabulary is not [`crate::dataset::stanford40::vocabulary`].
pub fn action_label(action: usize, vocabulary: &Vocabulary) -> Option<ImageLabel> {
    let verb = vocabulary.verb(ACTIONS.get(action)?.1)?;
    Some(ImageLabel { verb, object: object_of(action, vocabulary) })
}

/// What a photo of an action shows: the action with its object, and its verb without: the object may not be found.
pub fn action_labels(action: usize, vocabulary: &Vocabulary) -> Vec<ImageLabel> {
    let Some(label) = action_label(action, vocabulary) else { return Vec::new() };
    let alone = ImageLabel { object: None, ..label };
    if label == alone { vec![alone] } else { vec![label, alone] }
}

/// The score of every action: the best of the person's pairs that have the action's object, or of the person alone. A pair's score is the
/// rule `weakly`'s, with the image's probability of the action itself. `power` is that of the detector's scores; 0 leaves them out.
pub fn action_scores(
    example: &WeakExample,
    head: &HeadOutput,
    actions: &[(ImageLabel, usize)],
    power: f32,
) -> Vec<f32> {
    let pairs = normalised_pair_scores(head.verb_logits.view());
    let entities = &example.picture.entities;
    actions
        .iter()
        .map(|&(action, row)| {
            let image = head.image_logits.as_ref().map_or(1.0, |logits| sigmoid(logits[row]));
            let of_pair = |(m, pair): (usize, &hoi_runtime::pairing::HumanObjectPair)| {
                let object = example.object_class(pair);
                if object.is_some() && object != action.object {
                    return None;
                }
                let related = head.relatedness.as_ref().map_or(1.0, |b| sigmoid(b[m]));
                let detected = object.map_or(1.0, |_| entities[pair.object].score) * entities[pair.human].score;
                Some(image * pairs[[m, usize::from(action.verb.0)]] * related * detected.powf(power))
            };
            example.pairs.iter().enumerate().filter_map(of_pair).fold(0.0, f32::max)
        })
        .collect()
}

/// Average precision of each action in `[0, 1]`. `examples` stand beside the action of their photo; a photo without an example, because
/// its person was not found, comes last in every ranking.
pub fn action_precisions(
    model: &WeaklyModel,
    examples: &[(Option<WeakExample>, usize)],
    vocabulary: &Vocabulary,
    power: f32,
) -> Vec<Option<f64>> {
    let actions: Vec<(ImageLabel, usize)> = (0..ACTIONS.len())
        .filter_map(|a| action_label(a, vocabulary))
        .filter_map(|label| Some((label, model.table().position(label)?)))
        .collect();
    let mut ranked: Vec<Vec<(f32, bool)>> = vec![Vec::with_capacity(examples.len()); ACTIONS.len()];
    for chunk in examples.chunks(BATCH) {
        let found: Vec<&WeakExample> = chunk.iter().filter_map(|(e, _)| e.as_ref()).collect();
        let mut outputs = model.outputs(&found).into_iter();
        for (example, action) in chunk {
            let scores = match example.as_ref().zip(example.as_ref().and_then(|_| outputs.next())) {
                Some((example, head)) => action_scores(example, &head, &actions, power),
                None => vec![-1.0; ACTIONS.len()],
            };
            for (a, (list, score)) in ranked.iter_mut().zip(scores).enumerate() {
                list.push((score, a == *action));
            }
        }
    }
    ranked.iter().map(|list| ranking_precision(list)).collect()
}
