//! V-COCO. Annotated boxes are COCO's x, y, w, h; images are width, height.

/// A person with what it does: (action, a box or none for each role).
#[derive(Clone, Debug)]
pub struct SlowPerson {
    pub xywh: [f64; 4],
    pub annotated: bool,
    pub actions: Vec<(usize, Vec<Option<[f64; 4]>>)>,
}

/// An image with its persons and with the detections of one action-role: person, role box, score.
#[derive(Clone, Debug)]
pub struct SlowImage {
    pub size: [f64; 2],
    pub persons: Vec<SlowPerson>,
    pub detections: Vec<([f64; 4], Option<[f64; 4]>, f64)>,
}

fn from_coco([x, y, w, h]: [f64; 4], [width, height]: [f64; 2]) -> [f64; 4] {
    let (x2, y2) = (x + (w - 1.0).max(0.0), y + (h - 1.0).max(0.0));
    [
        x.max(0.0).min(width - 1.0),
        y.max(0.0).min(height - 1.0),
        x2.max(0.0).min(width - 1.0),
        y2.max(0.0).min(height - 1.0),
    ]
}

fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let w = (a[2].min(b[2]) - a[0].max(b[0]) + 1.0).max(0.0);
    let h = (a[3].min(b[3]) - a[1].max(b[1]) + 1.0).max(0.0);
    let area = |b: [f64; 4]| (b[2] - b[0] + 1.0) * (b[3] - b[1] + 1.0);
    w * h / (area(a) + area(b) - w * h)
}

/// Average precision of an action in one of its roles, or for the person alone (`role` none). Scenario 1 or 2.
pub fn average_precision(images: &[SlowImage], action: usize, role: Option<usize>, scenario: u8) -> Option<f64> {
    let mut positives = 0;
    let mut judged = Vec::new();
    for image in images {
        // Persons whose box has an area, with the role box where the action is done: none = not done, some(none) = no such box.
        let mut persons = Vec::new();
        for person in &image.persons {
            let bbox = from_coco(person.xywh, image.size);
            if !(bbox[2] > bbox[0] && bbox[3] > bbox[1]) {
                continue;
            }
            let done = person.actions.iter().find(|(a, _)| *a == action && person.annotated);
            positives += usize::from(done.is_some());
            let done = done.map(|(_, roles)| role.and_then(|r| roles[r]).map(|b| from_coco(b, image.size)));
            persons.push((bbox, person.annotated, done, false));
        }
        let mut detections = image.detections.clone();
        detections.sort_by(|a, b| b.2.partial_cmp(&a.2).unwrap());
        for (human, predicted, score) in detections {
            let mut best = usize::MAX;
            for i in 0..persons.len() {
                if best == usize::MAX || iou(persons[i].0, human) > iou(persons[best].0, human) {
                    best = i;
                }
            }
            if best == usize::MAX {
                continue;
            }
            let (bbox, annotated, done, covered) = &mut persons[best];
            if !*annotated {
                continue;
            }
            let right = match (*done, role) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(Some(box_of_role)), _) => predicted.is_some_and(|p| iou(box_of_role, p) >= 0.5),
                (Some(None), _) if scenario == 1 => predicted.is_none() || predicted == Some([0.0; 4]),
                (Some(None), _) => true,
            };
            let right = right && iou(*bbox, human) >= 0.5;
            judged.push((score, right && !*covered));
            *covered |= right;
        }
    }
    if positives == 0 {
        return None;
    }
    judged.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap());

    // The textbook's: recall and precision with sentinels, the envelope from behind, the area of its steps.
    let (mut recall, mut precision) = (vec![0.0], vec![0.0]);
    let mut right = 0.0;
    for (i, (_, hit)) in judged.iter().enumerate() {
        right += f64::from(u8::from(*hit));
        recall.push(right / positives as f64);
        precision.push(right / (i + 1) as f64);
    }
    recall.push(1.0);
    precision.push(0.0);
    for i in (1..precision.len()).rev() {
        precision[i - 1] = f64::max(precision[i - 1], precision[i]);
    }
    Some((1..recall.len()).map(|i| (recall[i] - recall[i - 1]) * precision[i]).sum())
}
