//! Weakly-HOI's rows of Table 3, by hand on small numbers: what prompts say without training, and GEN-VLKT's way to learn from CLIP.

use hoi_runtime::fusion::{Factors, ScoredTriplet};
use hoi_trainer::export::{ExportError, WeaklyGraph};
use hoi_trainer::network::clip::{AttentionPool, AttentionPoolShape};
use hoi_trainer::system::weakly_hoi::{
    ImageLabel, PRIOR_POWER, Pooling, WeakBatch, WeakExample, WeaklyModel, WeaklyRow, load_model, save_model,
};
use ndarray::Array2;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use crate::weakly::{BALL, HOLD, KICK, bank, config, example, label, model, vocabulary};

/// ln(1 / 0.07), where the temperature starts.
const START_SCALE: f64 = 2.659_260_036_932_778;

fn values(t: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(t.to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

/// The softmax over the prompts of each pair's union, `[P, N]`, from a pooling of its own with the model's weights.
fn by_hand(model: &WeaklyModel, e: &WeakExample) -> Array2<f64> {
    let store = VarStore::new(Device::Cpu);
    let shape = &model.config().shape;
    let sizes = AttentionPoolShape {
        channels: shape.map_channels,
        heads: shape.pool_heads,
        grid: shape.pool_grid,
        output: shape.width,
    };
    let pool = AttentionPool::new(&store.root(), sizes);
    let own = model.store.variables();
    no_grad(|| store.variables().into_iter().for_each(|(name, mut v)| v.copy_(&own[&format!("started.pool.{name}")])));
    let batch = WeakBatch::new(&[e], Device::Cpu);
    let features = values(&no_grad(|| pool.masked(&batch.feature, &batch.union_shares, None)));
    let prompts = values(&own["started.bank"]);
    let d = shape.width as usize;
    let length = |x: &[f64]| x.iter().map(|v| v * v).sum::<f64>().sqrt();
    let mut rows = Vec::new();
    for u in features.chunks(d).take(e.pairs.len()) {
        let logit = |t: &[f64]| {
            let dot: f64 = u.iter().zip(t).map(|(a, b)| a * b).sum();
            (START_SCALE.exp() * dot / (length(u) * length(t))).exp()
        };
        let each: Vec<f64> = prompts.chunks(d).map(logit).collect();
        let sum: f64 = each.iter().sum();
        rows.extend(each.into_iter().map(|x| x / sum));
    }
    Array2::from_shape_vec((e.pairs.len(), prompts.len() / d), rows).unwrap()
}

fn place(e: &WeakExample, t: &ScoredTriplet) -> (usize, ImageLabel) {
    let pair = e.pairs.iter().position(|p| p.human == t.human && Some(p.object) == t.object).unwrap();
    (pair, label(t.verb, t.object.map(|o| e.picture.entities[o].class)))
}

#[test]
fn the_prompts_alone() {
    let vocabulary = vocabulary(&[]);
    let e = example(&[], &vocabulary);
    let model = model(WeaklyRow::Abl1, &vocabulary);
    let asked = by_hand(&model, &e);
    let said = model.prompt_scores(&[&e]).unwrap().remove(0);
    assert_eq!(said.dim(), (6, 4));
    assert!(said.iter().zip(&asked).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{said:?} {asked:?}");
    let triplets = model.triplets(&[&e], &vocabulary).unwrap().remove(0);
    // hug for the two pairs of persons, hold and kick for two with the ball, hold for two with the cup.
    assert_eq!(triplets.len(), 8);
    assert!(triplets.is_sorted_by(|a, b| a.score >= b.score));
    for t in &triplets {
        let (pair, label) = place(&e, t);
        let detected = |i: usize| f64::from(e.picture.entities[i].score);
        let prior = (detected(t.human) * detected(t.object.unwrap())).powf(f64::from(PRIOR_POWER));
        let expected = prior * asked[[pair, model.table().position(label).unwrap()]];
        assert!((f64::from(t.score) - expected).abs() < 1e-6, "{} and {expected}", t.score);
    }
    // Other rows do not keep how they started.
    assert!(self::model(WeaklyRow::Full, &vocabulary).prompt_scores(&[&e]).is_none());
    assert!(!self::model(WeaklyRow::Full, &vocabulary).store.variables().keys().any(|n| n.starts_with("started")));
}

#[test]
fn the_baseline_times_the_prompts() {
    let vocabulary = vocabulary(&[]);
    let e = example(&[label(KICK, Some(BALL))], &vocabulary);
    let (plain, model) = (model(WeaklyRow::Baseline, &vocabulary), model(WeaklyRow::Abl3, &vocabulary));
    // All that both have is drawn alike, so the scores before the prompts are the same.
    assert_eq!(plain.outputs(&[&e])[0].verb_logits, model.outputs(&[&e])[0].verb_logits);
    let asked = by_hand(&model, &e);
    let before = plain.triplets(&[&e], &vocabulary).unwrap().remove(0);
    let after = model.triplets(&[&e], &vocabulary).unwrap().remove(0);
    assert_eq!((before.len(), after.len()), (8, 8));
    for t in &after {
        let (pair, label) = place(&e, t);
        let same = before.iter().find(|b| (b.human, b.object, b.verb) == (t.human, t.object, t.verb)).unwrap();
        let expected = f64::from(same.score) * asked[[pair, model.table().position(label).unwrap()]];
        assert!((f64::from(t.score) - expected).abs() < 1e-6, "{} and {expected}", t.score);
        assert!(matches!(t.factors, Factors::Weakly { global: Some(_), relatedness: None, .. }));
    }
    // What is kept does not learn.
    model.loss(&[&e], true).unwrap().0.backward();
    for (name, variable) in model.store.variables().iter().filter(|(n, _)| n.starts_with("started")) {
        assert!(!variable.requires_grad() && !variable.grad().defined(), "{name}");
    }
}

#[test]
fn distillation_starts_at_the_prompts_and_draws_the_mean_pair() {
    let vocabulary = vocabulary(&[]);
    let e = example(&[label(KICK, Some(BALL))], &vocabulary);
    let model = model(WeaklyRow::Abl4, &vocabulary);
    // The table is hug person, hold ball, kick ball, hold cup; nobody waves.
    let rows: Vec<Vec<f64>> = values(&bank(&vocabulary)).chunks(8).map(<[f64]>::to_vec).collect();
    let unit = |r: &[f64]| -> Vec<f64> {
        let length = r.iter().map(|v| v * v).sum::<f64>().sqrt();
        r.iter().map(|v| v / length).collect()
    };
    let started = values(&model.store.variables()["verbs.2.weight"]);
    let hold: Vec<f64> = unit(&rows[1]).iter().zip(unit(&rows[3])).map(|(a, b)| 0.5 * (a + b)).collect();
    for (verb, expected) in [(usize::from(HOLD.0), hold), (usize::from(KICK.0), unit(&rows[2])), (2, unit(&rows[0]))] {
        let found = &started[8 * verb..][..8];
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "verb {verb}: {found:?} {expected:?}");
    }
    let plain = values(&self::model(WeaklyRow::Baseline, &vocabulary).store.variables()["verbs.2.weight"]);
    assert_eq!(started[24..], plain[24..], "a verb without a prompt starts as it would");

    let batch = WeakBatch::new(&[&e], Device::Cpu);
    let output = model.network.forward(&batch, false);
    let (pairs, teacher) = (values(&output.pairs), values(output.teacher.as_ref().unwrap()));
    let distance = |i: usize| (0..6).map(|p| pairs[8 * p + i]).sum::<f64>() / 6.0 - teacher[i];
    let expected = (0..8).map(|i| distance(i).powi(2)).sum::<f64>() / 8.0;
    let (_, parts) = model.loss(&[&e], true).unwrap();
    let found = parts.iter().find(|p| p.0 == "distance").unwrap().1;
    assert!((found - expected).abs() < 1e-5 * expected.max(1.0), "{found} and {expected}");
    assert_eq!(parts.iter().map(|p| p.0).collect::<Vec<_>>(), ["verbs", "distance"]);
    // A smaller picture in the same batch has fewer pairs: filling does not count.
    let mut few = crate::weakly::picture(2, crate::weakly::people()[1..3].to_vec());
    few.number = 9;
    let few = WeakExample::new(few, vec![label(HOLD, Some(BALL))], &vocabulary);
    let alone = |e: &WeakExample| model.loss(&[e], true).unwrap().1.iter().find(|p| p.0 == "distance").unwrap().1;
    let both = model.loss(&[&e, &few], true).unwrap().1.iter().find(|p| p.0 == "distance").unwrap().1;
    assert!((both - 0.5 * (alone(&e) + alone(&few))).abs() < 1e-5);
}

/// Mean pooling keeps its start too, with mean and deviation; and all of it is on disk.
#[test]
fn other_pooling_and_files() {
    let vocabulary = vocabulary(&["wave"]);
    let e = example(&[label(KICK, Some(BALL))], &vocabulary);
    let mut own = config(WeaklyRow::Abl3, &vocabulary);
    own.pooling = Pooling::Mean;
    let model = WeaklyModel::new(&own, &vocabulary, &bank(&vocabulary), 3, Device::Cpu);
    let another = example(&[label(HOLD, Some(BALL))], &vocabulary);
    hoi_trainer::system::weakly_hoi::prepare(&model, &[another, e.shallow_clone()], 2);
    let variables = model.store.variables();
    for name in ["centre", "spread", "c_proj.weight", "c_proj.bias"] {
        assert_eq!(variables[&format!("pool.{name}")], variables[&format!("started.pool.{name}")], "{name}");
    }
    let triplets = model.triplets(&[&e], &vocabulary).unwrap().remove(0);
    assert!(triplets.iter().any(|t| t.object.is_none()), "a human alone asks with the whole picture");
    let folder = tempfile::tempdir().unwrap();
    save_model(&model, &vocabulary, serde_json::json!({}), folder.path()).unwrap();
    let (loaded, ..) = load_model(folder.path(), Device::Cpu).unwrap();
    assert_eq!(loaded.triplets(&[&e], &vocabulary).unwrap().remove(0), triplets);
}

#[test]
fn what_the_board_has_no_rule_for_is_not_exported() {
    let vocabulary = vocabulary(&[]);
    let graph = |row| {
        let model = model(row, &vocabulary);
        let tensors = WeaklyGraph::exported(model.store.variables());
        WeaklyGraph::new(model.config(), &tensors, false, [4, 5, 6]).graph().map(|_| ())
    };
    for row in [WeaklyRow::Abl1, WeaklyRow::Abl3] {
        let error = graph(row).unwrap_err();
        assert!(matches!(error, ExportError::PromptScore), "{error}");
    }
    graph(WeaklyRow::Abl4).unwrap();
    let model = model(WeaklyRow::Abl4, &vocabulary);
    let tensors = model.store.variables();
    let whole = WeaklyGraph::new(model.config(), &tensors, false, [4, 5, 6]).graph().unwrap_err();
    assert!(matches!(&whole, ExportError::UnusedWeight { name } if name.starts_with("started.")), "{whole}");
}
