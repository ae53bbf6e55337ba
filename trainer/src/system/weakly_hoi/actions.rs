//! Stanford-40: one action a photo, by one person, whose box is given or has to be found.

use hoi_runtime::detector::Detection;
use hoi_runtime::fusion::{normalised_pair_scores, sigmoid};
use hoi_runtime::geometry::BBox;
use hoi_runtime::interaction::HeadOutput;
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary};
use ndarray::{Array1, Axis};
use tch::Tensor;

use super::example::{InteractionTable, WeakExample};
use super::model::WeaklyModel;
use crate::dataset::ImageLabel;
use crate::dataset::stanford40::{ACTIONS, object_of};
use crate::eval::precision::ranking_precision;
use crate::system::rmlr::{DetectedPicture, MATCH_IOU};

/// Photos scored at a time.
const BATCH: usize = 64;

/// Power of an action's score before it is compared with the others of its photo: a score is the product of what the picture and the pairs say.
const SHARPNESS: f32 = 0.5;

/// Where actions exclude each other, the power of what the pairs say beside what the whole photo says: the photo knows more.
const PAIR_POWER: f32 = 0.2;

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

/// The photo with one of the persons of [`with_given_person`] and the objects that any action has; `None` where no person was detected.
pub fn with_one_person(picture: &DetectedPicture, people: People, vocabulary: &Vocabulary) -> Option<DetectedPicture> {
    let human = vocabulary.human();
    let persons = picture.entities.iter().take_while(|e| e.class == human).count();
    let person = match people {
        People::Given => 0,
        People::Detected => 1,
    };
    if person >= persons {
        return None;
    }
    let used = |i: &usize| !vocabulary.valid_verbs(picture.entities[*i].class).is_empty();
    let kept: Vec<usize> = [person].into_iter().chain((persons..picture.entities.len()).filter(used)).collect();
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
/// rule `weakly`'s, with the image's probability of the action itself. `actions` stand beside the rows of [`action_labels`] in the bank.
/// `power` is that of the detector's scores; 0 leaves them out.
///
/// Where interactions are `exclusive`, the probabilities of verbs and interactions in the image are those of a softmax over all of them, an
/// action has those of all its labels, of which training asks for any, and what the pairs say counts to the power `PAIR_POWER`.
pub fn action_scores(
    example: &WeakExample,
    head: &HeadOutput,
    actions: &[(ImageLabel, Vec<usize>)],
    power: f32,
    exclusive: bool,
) -> Vec<f32> {
    let mut pairs = normalised_pair_scores(head.verb_logits.view());
    let mut of_image = head.image_logits.as_ref().map(|logits| logits.mapv(sigmoid));
    if exclusive {
        let best = head.verb_logits.fold_axis(Axis(0), f32::NEG_INFINITY, |a, b| a.max(*b));
        pairs *= &(softmax(&best) / best.mapv(sigmoid));
        of_image = head.image_logits.as_ref().map(softmax);
    }
    let entities = &example.picture.entities;
    actions
        .iter()
        .map(|(action, rows)| {
            let counted = if exclusive { rows.as_slice() } else { rows.get(..1).unwrap_or_default() };
            let image = of_image.as_ref().map_or(1.0, |p| counted.iter().map(|&row| p[row]).sum());
            let of_pair = |(m, pair): (usize, &hoi_runtime::pairing::HumanObjectPair)| {
                let object = example.object_class(pair);
                if object.is_some() && object != action.object {
                    return None;
                }
                let related = head.relatedness.as_ref().map_or(1.0, |b| sigmoid(b[m]));
                let detected = object.map_or(1.0, |_| entities[pair.object].score) * entities[pair.human].score;
                Some(pairs[[m, usize::from(action.verb.0)]] * related * detected.powf(power))
            };
            let best = example.pairs.iter().enumerate().filter_map(of_pair).fold(0.0, f32::max);
            image * if exclusive { best.powf(PAIR_POWER) } else { best }
        })
        .collect()
}

fn softmax(logits: &Array1<f32>) -> Array1<f32> {
    let most = logits.fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let odds = logits.mapv(|z| (z - most).exp());
    let sum = odds.sum();
    odds / sum
}

/// A photo's scores as shares of their sum, since it shows one of the actions; each to the power [`SHARPNESS`].
fn shares(mut scores: Vec<f32>) -> Vec<f32> {
    scores.iter_mut().for_each(|s| *s = s.powf(SHARPNESS));
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().filter(|_| sum > 0.0).for_each(|s| *s /= sum);
    scores
}

/// What the `members`, models of one vocabulary, say of each photo on average: a share for each action; `None` for a photo without an example,
/// because its person was not found.
pub fn action_shares(
    members: &[WeaklyModel],
    examples: &[(Option<WeakExample>, usize)],
    vocabulary: &Vocabulary,
    power: f32,
) -> Vec<Option<Vec<f32>>> {
    let rows = |table: &InteractionTable, a| -> Option<Vec<usize>> {
        action_labels(a, vocabulary).into_iter().map(|label| table.position(label)).collect()
    };
    let mut totals: Vec<Option<Vec<f32>>> =
        examples.iter().map(|(e, _)| e.as_ref().map(|_| vec![0.0; ACTIONS.len()])).collect();
    for model in members {
        let actions: Vec<(ImageLabel, Vec<usize>)> =
            (0..ACTIONS.len()).filter_map(|a| Some((action_label(a, vocabulary)?, rows(model.table(), a)?))).collect();
        for (chunk, totals) in examples.chunks(BATCH).zip(totals.chunks_mut(BATCH)) {
            let found: Vec<(&WeakExample, &mut Vec<f32>)> =
                chunk.iter().zip(totals).filter_map(|((e, _), total)| Some((e.as_ref()?, total.as_mut()?))).collect();
            let outputs = model.outputs(&found.iter().map(|f| f.0).collect::<Vec<_>>());
            for ((example, total), head) in found.into_iter().zip(&outputs) {
                let own = shares(action_scores(example, head, &actions, power, model.config().exclusive));
                total.iter_mut().zip(own).for_each(|(sum, share)| *sum += share / members.len() as f32);
            }
        }
    }
    totals
}

/// Average precision of each action in `[0, 1]`, by [`action_shares`]. `examples` stand beside the action of their photo; a photo without an
/// example comes last in every ranking.
pub fn action_precisions(
    members: &[WeaklyModel],
    examples: &[(Option<WeakExample>, usize)],
    vocabulary: &Vocabulary,
    power: f32,
) -> Vec<Option<f64>> {
    let said = action_shares(members, examples, vocabulary, power);
    let mut ranked: Vec<Vec<(f32, bool)>> = vec![Vec::with_capacity(examples.len()); ACTIONS.len()];
    for (scores, (_, action)) in said.into_iter().zip(examples) {
        let scores = scores.unwrap_or_else(|| vec![-1.0; ACTIONS.len()]);
        for (a, (list, score)) in ranked.iter_mut().zip(scores).enumerate() {
            list.push((score, a == *action));
        }
    }
    ranked.iter().map(|list| ranking_precision(list)).collect()
}

#[cfg(test)]
mod tests {
    use hoi_runtime::geometry::Size;
    use ndarray::Array2;
    use tch::{Device, Kind};

    use super::*;
    use crate::dataset::stanford40::vocabulary;

    const GIVEN: BBox = BBox { x1: 10.0, y1: 10.0, x2: 50.0, y2: 90.0 };

    fn detection(vocabulary: &Vocabulary, class: &str, bbox: [f32; 4], score: f32) -> Detection {
        let [x1, y1, x2, y2] = bbox;
        Detection { bbox: BBox::new(x1, y1, x2, y2), class: vocabulary.object(class).unwrap(), score }
    }

    fn picture(entities: Vec<Detection>) -> DetectedPicture {
        let size = Size::new(100, 100);
        let tokens: Vec<f32> = (0..entities.len()).map(|i| i as f32).collect();
        DetectedPicture {
            number: 0,
            original: size,
            input: size,
            feature: Tensor::zeros([2, 4, 4], (Kind::Float, Device::Cpu)),
            covered: size,
            tokens: Tensor::from_slice(&tokens).view([-1, 1]),
            entities,
        }
    }

    #[test]
    fn the_person_is_the_given_one_or_the_one_found_there() {
        let vocabulary = vocabulary().unwrap();
        let human = vocabulary.human();
        let found = [
            detection(&vocabulary, "person", [60.0, 10.0, 95.0, 90.0], 0.9),
            detection(&vocabulary, "person", [12.0, 12.0, 52.0, 90.0], 0.7),
            detection(&vocabulary, "chair", [5.0, 50.0, 60.0, 95.0], 0.85),
            detection(&vocabulary, "bicycle", [5.0, 50.0, 60.0, 95.0], 0.8),
        ];
        let entities = with_given_person(GIVEN, &found, human, true);
        assert_eq!(entities.iter().map(|e| e.score).collect::<Vec<_>>(), [1.0, 0.7, 0.85, 0.8]);
        assert_eq!(with_given_person(GIVEN, &found, human, false).len(), 3);
        let all = picture(entities);
        let given = with_one_person(&all, People::Given, &vocabulary).unwrap();
        let detected = with_one_person(&all, People::Detected, &vocabulary).unwrap();
        assert_eq!((given.entities[0].score, detected.entities[0].score), (1.0, 0.7));
        // No action has a chair.
        assert_eq!((given.entities.len(), detected.entities.len()), (2, 2));
        assert_eq!((given.tokens.double_value(&[0, 0]), given.tokens.double_value(&[1, 0])), (0.0, 3.0));
        assert_eq!((detected.tokens.double_value(&[0, 0]), detected.tokens.double_value(&[1, 0])), (1.0, 3.0));
        let far = picture(with_given_person(GIVEN, &found[..1], human, true));
        assert!(with_one_person(&far, People::Detected, &vocabulary).is_none());
    }

    #[test]
    fn scores_by_hand() {
        let vocabulary = vocabulary().unwrap();
        let entities = vec![
            detection(&vocabulary, "person", [10.0, 10.0, 50.0, 90.0], 0.5),
            detection(&vocabulary, "bicycle", [5.0, 50.0, 60.0, 95.0], 0.8),
            detection(&vocabulary, "horse", [5.0, 50.0, 60.0, 95.0], 0.8),
        ];
        let example = WeakExample::new(picture(entities), Vec::new(), &vocabulary);
        // Bicycle, horse, alone.
        assert_eq!(example.pairs.len(), 3);
        let ride = vocabulary.verb("ride").unwrap();
        let mut logits = Array2::from_elem((3, vocabulary.verb_count()), -20.0f32);
        let of_ride = [1.0f32, 0.0, 2.0];
        (0..3).for_each(|m| logits[[m, usize::from(ride.0)]] = of_ride[m]);
        let related = [0.0f32, 5.0, -1.0];
        let head = HeadOutput {
            verb_logits: logits,
            relatedness: Some(Array1::from(related.to_vec())),
            image_logits: Some(Array1::from(vec![0.0, 3.0, 1.0])),
        };
        let bicycle = ImageLabel { verb: ride, object: vocabulary.object("bicycle") };
        let horse = ImageLabel { verb: ride, object: vocabulary.object("horse") };
        let alone = ImageLabel { verb: ride, object: None };
        let sum: f32 = of_ride.iter().map(|z| (z - 2.0).exp()).sum();
        let pair = |m: usize| sigmoid(2.0) * (of_ride[m] - 2.0).exp() / sum * sigmoid(related[m]);
        let rows = |row: usize| vec![row, 2];
        let scores =
            action_scores(&example, &head, &[(bicycle, rows(0)), (horse, rows(1)), (alone, vec![0])], 0.0, false);
        let expected = [0.5 * pair(0).max(pair(2)), sigmoid(3.0) * pair(1).max(pair(2)), 0.5 * pair(2)];
        for (score, expected) in scores.iter().zip(expected) {
            assert!((score - expected).abs() < 1e-6, "{scores:?}");
        }
        // With the detector's scores a person alone counts once, a pair twice.
        let powered = action_scores(&example, &head, &[(bicycle, rows(0))], 2.0, false)[0];
        assert!((powered - 0.5 * (pair(0) * 0.16).max(pair(2) * 0.25)).abs() < 1e-6);

        // Of all verbs one is done: every other has its -20; of the three interactions the image shows one, riding alone goes with both.
        let others = (vocabulary.verb_count() - 1) as f32 * (-20.0f32).exp();
        let of_ride = 2f32.exp() / (2f32.exp() + others);
        let pair = |m: usize| pair(m) / sigmoid(2.0) * of_ride;
        let found = action_scores(&example, &head, &[(bicycle, rows(0)), (horse, rows(1))], 0.0, true);
        let all = 1.0 + 3f32.exp() + 1f32.exp();
        let image = |row: f32| (row.exp() + 1f32.exp()) / all;
        let pairs = [pair(0), pair(1)].map(|own| own.max(pair(2)).powf(PAIR_POWER));
        let expected = [image(0.0) * pairs[0], image(3.0) * pairs[1]];
        for (score, expected) in found.iter().zip(expected) {
            assert!((score - expected).abs() < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn shares_of_a_photo() {
        let found = shares(vec![0.04, 0.0, 0.01]);
        let [a, b] = [0.04f32, 0.01].map(|s| s.powf(SHARPNESS));
        assert!((found[0] - a / (a + b)).abs() < 1e-6 && found[1] == 0.0 && (found[2] - b / (a + b)).abs() < 1e-6);
        assert_eq!(shares(vec![0.0; 3]), [0.0; 3]);
    }

    #[test]
    fn photos_carry_their_action_and_its_verb() {
        let vocabulary = vocabulary().unwrap();
        let labels = |name: &str| {
            let action = ACTIONS.iter().position(|a| a.0 == name).unwrap();
            action_labels(action, &vocabulary)
        };
        assert_eq!(labels("riding_a_bike").len(), 2);
        assert_eq!(labels("riding_a_bike")[1].object, None);
        assert_eq!(labels("running").len(), 1);
        assert!(action_label(40, &vocabulary).is_none());
    }
}
