use std::collections::BTreeMap;

use hoi_runtime::geometry::BBox;

use super::mixed::{Trial, search};
use super::*;
use crate::bundles::{Kind, Share, Sighting, Thresholds};

fn triplet(verb: &str, x: f32, score: f32) -> Sighting {
    let what = Kind::Interaction(verb.to_owned(), None);
    Sighting { what, boxes: vec![BBox::new(x, 0.0, x + 10.0, 10.0)], score }
}

#[test]
fn agreement_by_hand() {
    let float = [
        triplet("ride", 0.0, 0.9),
        triplet("hold", 0.0, 0.5),
        triplet("jump", 0.0, 0.31),
        triplet("run", 0.0, 0.2),
        triplet("eat", 0.0, 0.1),
    ];
    // 0.1 less; elsewhere; too low; half; what is not over 0.1 does not count.
    let other =
        [triplet("ride", 1.0, 0.8), triplet("hold", 50.0, 0.5), triplet("jump", 0.0, 0.2), triplet("run", 0.0, 0.1)];
    let mut agreement = Agreement::default();
    agreement.add(&float, &other, &Thresholds::default());
    assert_eq!((agreement.triplets.count, agreement.triplets.found, agreement.drifting), (3, 1, 4));
    assert!((agreement.lost - 200.0 / 3.0).abs() < 1e-6, "{agreement:?}");
    assert!((agreement.drift - (10.0 + 50.0 + 11.0 + 10.0) / 4.0).abs() < 1e-4, "{agreement:?}");
    // A second image on which all is as it was; one without any.
    agreement.add(&float[..2], &float, &Thresholds::default());
    agreement.add(&[], &other, &Thresholds::default());
    assert_eq!((agreement.triplets.count, agreement.triplets.found, agreement.drifting), (5, 3, 6));
    assert!((agreement.lost - 40.0).abs() < 1e-6 && (agreement.drift - 81.0 / 6.0).abs() < 1e-4, "{agreement:?}");
}

/// Layers whose quantization costs so many triplets of a hundred, each by itself.
struct Costs {
    lost: BTreeMap<&'static str, usize>,
    trials: Vec<String>,
}

impl Trial for Costs {
    fn judge(&mut self, kept: &[&str]) -> Result<Agreement, Int8Error> {
        self.trials.push(kept.join("+"));
        let lost: usize = self.lost.iter().filter(|(name, _)| !kept.contains(name)).map(|(_, n)| n).sum();
        let mut triplets = Share::default();
        triplets.add(100, 100 - lost);
        let drift = lost as f64 / 2.0;
        Ok(Agreement { triplets, lost: lost as f64, drift, drifting: 100 })
    }
}

/// `(name, noise of its own, triplets that it costs)`.
type Costly = (&'static str, f64, usize);

fn searched(layers: &[Costly], max_drop: Option<f64>, candidates: usize) -> (Result<Mixed, Int8Error>, Vec<String>) {
    let signal = |noise: f64| Signal { signal: 1.0, noise, decibel: Some(-10.0 * noise.log10()) };
    let signals: Vec<LayerSignal> = layers
        .iter()
        .map(|(name, noise, _)| LayerSignal {
            name: (*name).to_owned(),
            operator: "Conv".to_owned(),
            alone: signal(*noise),
            whole: signal(0.1),
        })
        .collect();
    let lost = layers.iter().map(|(name, _, lost)| (*name, *lost)).collect();
    let mut costs = Costs { lost, trials: Vec::new() };
    let asked = Sensitivity { max_drop, held: 5, candidates };
    let found = search(&asked, &signals, 5, &mut costs, &mut |_, done, of| assert!((1..=of).contains(&done)));
    (found, costs.trials)
}

#[test]
fn the_fewest_layers_that_do_stay_float() {
    let layers: [Costly; 5] = [("a", 0.01, 0), ("b", 0.5, 30), ("c", 0.4, 0), ("d", 0.02, 8), ("e", 0.3, 10)];
    // Judged are b, c and e; b brings the most. d comes after c, which was not needed: it leaves again.
    let (mixed, trials) = searched(&layers, Some(1.0), 3);
    let mixed = mixed.unwrap();
    assert_eq!(trials, ["", "b", "c", "e", "b+e", "b+e+c+d", "b+e+c", "b+e+d", "b+d", "e+d"]);
    let order: Vec<(&str, f64)> = mixed.sensitivity.iter().map(|s| (s.layer.as_str(), s.agreement.lost)).collect();
    assert_eq!(order, [("b", 18.0), ("e", 38.0), ("c", 48.0)]);
    assert_eq!((mixed.before.lost, mixed.after.lost), (48.0, 0.0));
    assert_eq!(mixed.kept, ["b", "d", "e"], "in the graph's order");
    let changes: Vec<(&str, Change)> = mixed.steps.iter().map(|s| (s.layer.as_str(), s.change)).collect();
    assert_eq!(changes[..4], ["b", "e", "d", "c"].map(|l| (l, Change::First)));
    assert_eq!(changes[4..], [("c", Change::Left), ("e", Change::Needed), ("b", Change::Needed)]);
    // With a bound that needs one layer, that one stays.
    let (mixed, _) = searched(&layers, Some(18.0), 3);
    assert_eq!(mixed.unwrap().kept, ["b"]);
    // One that is met already needs none; without one nothing is kept.
    let (mixed, trials) = searched(&layers, Some(48.0), 3);
    assert!(mixed.unwrap().kept.is_empty() && trials.len() == 4);
    let (mixed, trials) = searched(&layers, None, 99);
    let mixed = mixed.unwrap();
    assert_eq!((mixed.kept.len(), mixed.steps.len(), mixed.sensitivity.len(), trials.len()), (0, 0, 5, 6));
}

#[test]
fn a_bound_that_cannot_be_met() {
    let (mixed, _) = searched(&[("a", 0.1, 10), ("b", 0.2, 5)], Some(1.0), 9);
    assert!(matches!(mixed, Err(Int8Error::DropNotMet { lost, .. }) if lost == 5.0), "{mixed:?}");
    let (mixed, trials) = searched(&[("a", 0.1, 10)], Some(1.0), 9);
    assert!(matches!(mixed, Err(Int8Error::DropNotMet { lost, .. }) if lost == 10.0), "{mixed:?}");
    assert_eq!(trials, [""], "a graph with one layer cannot lose it");
}

#[test]
fn judged_on_images_that_calibration_did_not_use() {
    let folder = tempfile::tempdir().unwrap();
    for i in 10..40 {
        std::fs::write(folder.path().join(format!("{i}.jpg")), b"").unwrap();
    }
    let used = |numbers: std::ops::Range<u32>| numbers.map(|i| format!("{i}.jpg")).collect::<Vec<_>>();
    let names = |held: &judge::Held| held.images.iter().map(|p| crate::calibrate::file_name(p)).collect::<Vec<_>>();
    let held = judge::held(folder.path(), &used(10..20), 100).unwrap();
    assert_eq!((names(&held), held.warning), (used(20..40), None));
    let held = judge::held(folder.path(), &used(10..20), 4).unwrap();
    assert_eq!(names(&held), ["20.jpg", "25.jpg", "30.jpg", "35.jpg"]);
    let held = judge::held(folder.path(), &used(10..21), 100).unwrap();
    assert_eq!((held.images.len(), held.warning), (30, Some(Warning::JudgedOnCalibration { others: 19 })));
    let held = judge::held(folder.path(), &[], 100).unwrap();
    assert!(held.warning.is_some(), "nobody knows which images calibrated");
}
