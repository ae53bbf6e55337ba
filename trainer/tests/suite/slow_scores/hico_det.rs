//! HICO-DET.

use hoi_runtime::geometry::BBox;
use hoi_trainer::dataset::AnnotatedImage;
use hoi_trainer::eval::interactions::TripletPrediction;

/// Area of the intersection over area of the union.
fn iou(a: &BBox, b: &BBox) -> f64 {
    let [a, b] = [a, b].map(|b| [b.x1, b.y1, b.x2, b.y2].map(f64::from));
    let area = |[x1, y1, x2, y2]: [f64; 4]| if x2 > x1 && y2 > y1 { (x2 - x1) * (y2 - y1) } else { 0.0 };
    let common = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let either = area(a) + area(b) - common;
    if either > 0.0 { common / either } else { 0.0 }
}

/// Average precision of one interaction over the images that `counts` keeps; `None` where nothing is annotated there.
pub fn average_precision(
    images: &[AnnotatedImage],
    predictions: &[(u64, Vec<TripletPrediction>)],
    interaction: usize,
    counts: impl Fn(u64) -> bool,
) -> Option<f64> {
    let mut truth = Vec::new();
    for image in images.iter().filter(|i| counts(i.number)) {
        for pair in image.pairs.iter().filter(|p| p.interaction == interaction) {
            truth.push((image.number, pair.human, pair.object, false));
        }
    }
    if truth.is_empty() {
        return None;
    }
    let mut detections = Vec::new();
    for (number, list) in predictions.iter().filter(|(number, _)| counts(*number)) {
        detections.extend(list.iter().filter(|p| p.interaction == interaction).map(|p| (*number, p)));
    }
    detections.sort_by(|(_, a), (_, b)| b.score.partial_cmp(&a.score).unwrap());

    // (true positives so far, precision so far)
    let mut curve = Vec::new();
    let mut right = 0;
    for (number, p) in &detections {
        let mut best = None;
        let mut most = -1.0;
        for (i, (image, human, object, _)) in truth.iter().enumerate() {
            let overlap = iou(human, &p.human).min(iou(object, &p.object));
            if image == number && overlap > most {
                (best, most) = (Some(i), overlap);
            }
        }
        if let Some(i) = best
            && most >= 0.5
            && !truth[i].3
        {
            truth[i].3 = true;
            right += 1;
        }
        curve.push((right, right as f64 / (curve.len() + 1) as f64));
    }
    let at = |t: usize| {
        let reached = curve.iter().filter(|(right, _)| 10 * right >= t * truth.len());
        reached.map(|(_, precision)| *precision).fold(0.0, f64::max)
    };
    Some((0..=10).map(at).sum::<f64>() / 11.0)
}
