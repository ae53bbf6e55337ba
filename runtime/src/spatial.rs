//! Where the two boxes of a pair lie: the 36-value spatial encoding, and the masks that pool features by a matrix product.

use ndarray::Array2;

use crate::geometry::{BBox, Size};

/// Length of [`spatial_encoding`].
pub const SPATIAL_LEN: usize = 36;

/// UPT, Weakly-HOI appendix C: the constant that keeps divisions and logarithms finite.
const EPS: f32 = 1e-10;

/// The spatial encoding of a human-object pair: 18 values and their logarithms (UPT; Weakly-HOI appendix C).
///
/// With centres `c`, sizes `w, h` of the human (1) and object (2) box and a picture of `W x H`:
/// `c1x/W, c1y/H, c2x/W, c2y/H, w1/W, h1/H, w2/W, h2/H, a1/WH, a2/WH, a2/a1, w1/h1, w2/h2, IoU,`
/// `[c2x > c1x] dx, [c2x < c1x] dx, [c2y > c1y] dy, [c2y < c1y] dy` where `dx = |c2x - c1x| / w1` and `dy = |c2y - c1y| / h1`,
/// then `ln(value + 1e-10)` of each. The logarithm of an exact zero is -23.03 and is not clamped.
pub fn spatial_encoding(human: &BBox, object: &BBox, picture: Size) -> [f32; SPATIAL_LEN] {
    let (w, h) = (picture.width.max(1) as f32, picture.height.max(1) as f32);
    let ((c1x, c1y), (c2x, c2y)) = (human.center(), object.center());
    let (w1, h1, w2, h2) = (human.width(), human.height(), object.width(), object.height());
    let dx = (c2x - c1x).abs() / (w1 + EPS);
    let dy = (c2y - c1y).abs() / (h1 + EPS);
    let when = |condition: bool, value: f32| if condition { value } else { 0.0 };
    let values = [
        c1x / w,
        c1y / h,
        c2x / w,
        c2y / h,
        w1 / w,
        h1 / h,
        w2 / w,
        h2 / h,
        w1 * h1 / (w * h),
        w2 * h2 / (w * h),
        w2 * h2 / (w1 * h1 + EPS),
        w1 / (h1 + EPS),
        w2 / (h2 + EPS),
        human.iou(object),
        when(c2x > c1x, dx),
        when(c2x < c1x, dx),
        when(c2y > c1y, dy),
        when(c2y < c1y, dy),
    ];
    let mut encoding = [0.0; SPATIAL_LEN];
    for (i, v) in values.into_iter().enumerate() {
        encoding[i] = v;
        encoding[i + 18] = (v + EPS).ln();
    }
    encoding
}

/// The cells of a feature map laid over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGrid {
    /// Cells from left to right.
    pub columns: usize,
    /// Cells from top to bottom.
    pub rows: usize,
    /// The picture that the map covers, in the space of the boxes.
    pub picture: Size,
}

impl FeatureGrid {
    /// `box_in_picture` in units of cells.
    fn in_cells(&self, b: &BBox) -> BBox {
        b.clip(self.picture).scale(
            self.columns as f32 / self.picture.width.max(1) as f32,
            self.rows as f32 / self.picture.height.max(1) as f32,
        )
    }

    /// Adds `weight` times the share of each cell that a box, in units of cells, covers: how far it goes into the cell's row times how far into
    /// its column. `scratch` is any memory.
    fn add_covered(&self, b: &BBox, weight: f32, mask: &mut [f32], scratch: &mut Vec<f32>) {
        let overlap = |low: f32, high: f32, i: usize| (high.min(i as f32 + 1.0) - low.max(i as f32)).max(0.0);
        scratch.clear();
        scratch.extend((0..self.columns).map(|i| overlap(b.x1, b.x2, i)));
        for (row, cells) in mask.chunks_exact_mut(self.columns.max(1)).enumerate() {
            let height = weight * overlap(b.y1, b.y2, row);
            if height != 0.0 {
                cells.iter_mut().zip(scratch.iter()).for_each(|(cell, width)| *cell += height * width);
            }
        }
    }
}

/// Entity masks `[N, rows * columns]`: the share of each feature cell that the box covers, each row divided by its sum.
///
/// A box without area inside the picture gives a row of zeros.
pub fn entity_masks(boxes: &[BBox], grid: FeatureGrid) -> Array2<f32> {
    let mut masks = Array2::zeros((boxes.len(), grid.rows * grid.columns));
    let mut scratch = Vec::with_capacity(grid.columns);
    for (mut row, b) in masks.rows_mut().into_iter().zip(boxes) {
        if let Some(cells) = row.as_slice_mut() {
            grid.add_covered(&grid.in_cells(b), 1.0, cells, &mut scratch);
        }
        let sum = row.sum();
        if sum > 0.0 {
            row /= sum;
        }
    }
    masks
}

/// [`entity_masks`] of the upper half of each box: of a person the face, the hands and what they hold, most of the time.
pub fn upper_masks(boxes: &[BBox], grid: FeatureGrid) -> Array2<f32> {
    let upper: Vec<BBox> = boxes.iter().map(|b| BBox::new(b.x1, b.y1, b.x2, (b.y1 + b.y2) / 2.0)).collect();
    entity_masks(&upper, grid)
}

/// Pair masks `[P, rows * columns]`, the masked RoI of RmLR (eq. 5): the share of each cell covered by the union of human and object
/// box, divided by the area in cells of the box that encloses both.
///
/// A pair without area inside the picture gives a row of zeros.
pub fn pair_masks(pairs: &[(BBox, BBox)], grid: FeatureGrid) -> Array2<f32> {
    let mut masks = Array2::zeros((pairs.len(), grid.rows * grid.columns));
    let mut scratch = Vec::with_capacity(grid.columns);
    for (mut row, (human, object)) in masks.rows_mut().into_iter().zip(pairs) {
        let (human, object) = (grid.in_cells(human), grid.in_cells(object));
        let area = human.enclosing(&object).area();
        if area <= 0.0 {
            continue;
        }
        let both = BBox::new(
            human.x1.max(object.x1),
            human.y1.max(object.y1),
            human.x2.min(object.x2),
            human.y2.min(object.y2),
        );
        if let Some(cells) = row.as_slice_mut() {
            let share = 1.0 / area;
            grid.add_covered(&human, share, cells, &mut scratch);
            grid.add_covered(&object, share, cells, &mut scratch);
            if both.x1 < both.x2 && both.y1 < both.y2 {
                grid.add_covered(&both, -share, cells, &mut scratch);
            }
        }
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_by_hand() {
        // Human 40x80 centred at (30, 50), object 20x20 centred at (60, 40), picture 100x200.
        let human = BBox::new(10.0, 10.0, 50.0, 90.0);
        let object = BBox::new(50.0, 30.0, 70.0, 50.0);
        let e = spatial_encoding(&human, &object, Size::new(100, 200));
        let want = [0.3, 0.25, 0.6, 0.2, 0.4, 0.4, 0.2, 0.1, 0.16, 0.02, 0.125, 0.5, 1.0, 0.0, 0.75, 0.0, 0.0, 0.125];
        for i in 0..18 {
            assert!((e[i] - want[i]).abs() < 1e-6, "value {i}: {} {}", e[i], want[i]);
            assert!((e[i + 18] - (want[i] + 1e-10f32).ln()).abs() < 1e-4, "log {i}");
        }
        assert!((e[18 + 13] + 23.02585).abs() < 1e-3, "ln of an exact zero is -23.03");
    }

    #[test]
    fn encoding_of_degenerate_boxes_is_finite() {
        let point = BBox::new(5.0, 5.0, 5.0, 5.0);
        for (h, o) in [(point, point), (point, BBox::new(0.0, 0.0, 9.0, 9.0)), (BBox::new(9.0, 9.0, 0.0, 0.0), point)] {
            assert!(spatial_encoding(&h, &o, Size::new(1, 1)).iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn masks_by_hand() {
        let grid = FeatureGrid { columns: 2, rows: 2, picture: Size::new(20, 20) };
        let left = BBox::new(0.0, 0.0, 10.0, 20.0);
        let half = BBox::new(5.0, 0.0, 15.0, 10.0);
        let m = entity_masks(&[left, half, BBox::new(30.0, 30.0, 40.0, 40.0)], grid);
        assert_eq!(m.row(0).to_vec(), [0.5, 0.0, 0.5, 0.0]);
        assert_eq!(m.row(1).to_vec(), [0.5, 0.5, 0.0, 0.0]);
        assert_eq!(m.row(2).to_vec(), [0.0; 4]);
        // Union of `left` and `half`: left column full, right upper cell half; enclosing box is 1.5 x 2 cells.
        let tall = BBox::new(0.0, 0.0, 10.0, 20.0);
        assert_eq!(upper_masks(&[tall], grid).row(0).to_vec(), [1.0, 0.0, 0.0, 0.0]);
        let p = pair_masks(&[(left, half)], grid);
        for (got, want) in p.row(0).iter().zip([1.0 / 3.0, 0.5 / 3.0, 1.0 / 3.0, 0.0]) {
            assert!((got - want).abs() < 1e-6);
        }
        assert_eq!(entity_masks(&[], grid).dim(), (0, 4));
        assert_eq!(pair_masks(&[], grid).dim(), (0, 4));
    }

    /// Every cell by itself, as the definition says.
    #[test]
    fn masks_are_shares_of_cells() {
        let grid = FeatureGrid { columns: 5, rows: 3, picture: Size::new(50, 60) };
        let boxes = [
            BBox::new(3.0, 4.0, 27.0, 31.0),
            BBox::new(-5.0, 10.0, 12.5, 70.0),
            BBox::new(20.0, 20.0, 20.0, 50.0),
            BBox::new(0.0, 0.0, 50.0, 60.0),
            BBox::new(33.0, 41.0, 34.0, 42.0),
        ];
        let covered = |b: &BBox, i: usize| {
            let (x, y) = ((i % 5) as f32 * 10.0, (i / 5) as f32 * 20.0);
            b.clip(grid.picture).intersection(&BBox::new(x, y, x + 10.0, y + 20.0)) / 200.0
        };
        let masks = entity_masks(&boxes, grid);
        for (b, row) in boxes.iter().zip(masks.rows()) {
            let sum: f32 = (0..15).map(|i| covered(b, i)).sum();
            for (i, m) in row.iter().enumerate() {
                let share = if sum > 0.0 { covered(b, i) / sum } else { 0.0 };
                assert!((m - share).abs() < 1e-5, "{b:?} cell {i}: {m} {share}");
            }
        }
        for human in &boxes {
            for object in &boxes {
                let (h, o) = (human.clip(grid.picture), object.clip(grid.picture));
                let both = BBox::new(h.x1.max(o.x1), h.y1.max(o.y1), h.x2.min(o.x2), h.y2.min(o.y2));
                let area = h.enclosing(&o).area() / 200.0;
                for (i, m) in pair_masks(&[(*human, *object)], grid).iter().enumerate() {
                    let inside = if both.x1 < both.x2 && both.y1 < both.y2 { covered(&both, i) } else { 0.0 };
                    let union = covered(human, i) + covered(object, i) - inside;
                    let share = if area > 0.0 { union / area } else { 0.0 };
                    assert!((m - share).abs() < 1e-5, "{human:?} {object:?} cell {i}: {m} {share}");
                }
            }
        }
    }

    #[test]
    fn intersecting_pair_is_not_counted_twice() {
        let grid = FeatureGrid { columns: 1, rows: 1, picture: Size::new(10, 10) };
        let whole = BBox::new(0.0, 0.0, 10.0, 10.0);
        assert_eq!(pair_masks(&[(whole, whole)], grid)[(0, 0)], 1.0);
    }

    /// RmLR's check: boxes apart, nested and partly overlapping, against a raster of 16 x 16 points a cell.
    #[test]
    fn pair_masks_equal_a_pixel_raster() {
        let grid = FeatureGrid { columns: 7, rows: 5, picture: Size::new(7 * 32, 5 * 32) };
        // Edges on the raster's lines (2 pixels), so that it is exact.
        let cases = [
            (BBox::new(2.0, 4.0, 50.0, 90.0), BBox::new(100.0, 30.0, 160.0, 70.0)),
            (BBox::new(10.0, 10.0, 200.0, 150.0), BBox::new(60.0, 40.0, 84.0, 100.0)),
            (BBox::new(20.0, 8.0, 110.0, 120.0), BBox::new(70.0, 60.0, 224.0, 160.0)),
            (BBox::new(-40.0, 10.0, 60.0, 70.0), BBox::new(30.0, 50.0, 90.0, 400.0)),
        ];
        for (human, object) in cases {
            let inside = |b: &BBox, x: f32, y: f32| b.x1 <= x && x < b.x2 && b.y1 <= y && y < b.y2;
            let clipped = human.clip(grid.picture).enclosing(&object.clip(grid.picture));
            let mut raster = vec![0f32; 35];
            let mut points = 0f32;
            for row in 0..5 * 16 {
                for column in 0..7 * 16 {
                    let (x, y) = (column as f32 * 2.0 + 1.0, row as f32 * 2.0 + 1.0);
                    points += f32::from(u8::from(inside(&clipped, x, y)));
                    if inside(&human, x, y) || inside(&object, x, y) {
                        raster[row / 16 * 7 + column / 16] += 1.0;
                    }
                }
            }
            let masks = pair_masks(&[(human, object)], grid);
            for (found, counted) in masks.row(0).iter().zip(&raster) {
                assert!((found - counted / points).abs() < 1e-5, "{human:?} {object:?}: {found} {}", counted / points);
            }
            let covered = raster.iter().sum::<f32>() / points;
            assert!((masks.sum() - covered).abs() < 1e-5 && covered <= 1.0);
        }
    }
}
