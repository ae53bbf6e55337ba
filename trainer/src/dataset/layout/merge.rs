//! Near-duplicate boxes become one.

use hoi_runtime::geometry::BBox;

/// Boxes of one class with a larger IoU than this are one box.
pub const MERGE_IOU: f32 = 0.7;

/// Merges the boxes of one class, greedily: a box joins the cluster whose mean box it overlaps most, if by more than `iou`, and
/// moves its mean; else it opens a cluster. Returns the means, in the order in which the clusters were opened.
pub fn merge_boxes(boxes: impl IntoIterator<Item = BBox>, iou: f32) -> Vec<BBox> {
    let mut clusters: Vec<(BBox, f32)> = Vec::new();
    for b in boxes {
        let best = clusters
            .iter_mut()
            .map(|cluster| (cluster.0.iou(&b), cluster))
            .filter(|(overlap, _)| *overlap > iou)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((_, (mean, count))) => {
                *count += 1.0;
                let towards = |m: f32, x: f32| m + (x - m) / *count;
                *mean = BBox::new(
                    towards(mean.x1, b.x1),
                    towards(mean.y1, b.y1),
                    towards(mean.x2, b.x2),
                    towards(mean.y2, b.y2),
                );
            }
            None => clusters.push((b, 1.0)),
        }
    }
    clusters.into_iter().map(|(mean, _)| mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let a = BBox::new(0., 0., 10., 10.);
        let moved = BBox::new(1., 0., 11., 10.); // IoU 9/11 = 0.818
        let far = BBox::new(50., 50., 60., 60.);
        assert_eq!(merge_boxes([a, far, moved], MERGE_IOU), [BBox::new(0.5, 0., 10.5, 10.), far]);
        // The mean of three.
        assert_eq!(merge_boxes([a, a, BBox::new(0., 0., 13., 10.)], 0.7), [BBox::new(0., 0., 11., 10.)]);
        assert!(merge_boxes([], MERGE_IOU).is_empty());
    }

    #[test]
    fn exactly_at_the_threshold_stays_apart() {
        let a = BBox::new(0., 0., 10., 10.);
        let b = BBox::new(0., 0., 10., 7.);
        assert_eq!(a.iou(&b), 0.7);
        assert_eq!(merge_boxes([a, b], 0.7), [a, b]);
    }

    #[test]
    fn joins_the_nearest_of_two() {
        let a = BBox::new(0., 0., 100., 10.);
        let b = BBox::new(20., 0., 120., 10.); // IoU with a 80/120
        let c = BBox::new(12., 0., 112., 10.); // 88/112 with a, 92/108 with b
        assert_eq!(merge_boxes([a, b, c], 0.7), [a, BBox::new(16., 0., 116., 10.)]);
    }
}
