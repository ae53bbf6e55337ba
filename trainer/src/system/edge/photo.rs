//! A photo as the network sees it: what the detector's maps hold of a person and of its pairs with objects.

use std::path::PathBuf;

use hoi_runtime::detector::{Detection, Detector, DetectorError};
use hoi_runtime::engine::Tensor as Map;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pairing::{Bounds, HumanObjectPair, PairingSpec, select_entities};
use hoi_runtime::preprocess::prepare;
use hoi_runtime::spatial::{FeatureGrid, entity_masks, pair_masks, upper_masks};
use hoi_runtime::vocabulary::ObjectClass;
use image::{RgbImage, imageops};
use ndarray::{Array2, ArrayView2, ArrayView3, Axis, concatenate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use tch::{Kind, Tensor};

use super::network::VIEWS;
use crate::dataset::layout::LayoutSample;

/// Least share of a side that a crop keeps.
const LEAST_SIDE: f32 = 0.6;

/// Standard deviation of the moves of a cropped person's edges, in shares of the box: detectors are not exact.
const BOX_JITTER: f32 = 0.05;

/// An object of which a crop keeps less than this share is left out of it.
const KEPT_SHARE: f32 = 0.5;

/// Why a photo could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhotoError {
    /// The detector failed.
    #[error("the detector of {} failed", bundle.display())]
    Detector {
        /// Its bundle.
        bundle: PathBuf,
        /// What is wrong.
        source: Box<DetectorError>,
    },
    /// The taps are not what the network takes.
    #[error("the detector's taps cannot be read: {reason}")]
    Taps {
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// What is done to a photo before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Nothing.
    Plain,
    /// Left and right change places.
    Mirrored,
    /// A part that holds the whole person, every second one mirrored, the person's box moved a little; drawn from this number and the photo's.
    Cropped(u64),
}

/// As it is, mirrored, and so many crops.
pub fn views(crops: u64) -> Vec<View> {
    [View::Plain, View::Mirrored].into_iter().chain((0..crops).map(View::Cropped)).collect()
}

impl View {
    /// The name of the view in a cache.
    pub fn name(self) -> String {
        match self {
            Self::Plain => "plain".to_owned(),
            Self::Mirrored => "mirrored".to_owned(),
            Self::Cropped(number) => format!("cropped-{number}"),
        }
    }
}

/// A photo with one person, read.
#[derive(Debug)]
pub struct PhotoLook {
    /// The person first, then objects; pairs of the person with each object.
    pub sample: LayoutSample,
    /// Mean roots of all maps' channels over the person's box, its upper half and the picture, `[3, C]`, f16.
    pub pooled: Tensor,
    /// Highest logit of each class in the picture, `[K]`.
    pub evidence: Tensor,
    /// The same over the masked RoI of each pair and, last, the sum of its mask, `[P, C + 1]`, f16.
    pub of_pairs: Tensor,
}

/// Reads photos by a bundle's detector and its taps: maps `[1, C, h, w]`, whose cells are whole multiples of the smallest map's, and
/// `[1, K, 1, 1]` for class scores.
pub struct PhotoReader<'a> {
    /// The detector.
    pub detector: &'a Detector,
    /// Its bundle's folder, for messages.
    pub bundle: PathBuf,
    /// Which detections become entities.
    pub pairing: PairingSpec,
    /// The class that acts.
    pub human: ObjectClass,
}

/// A photo after [`View`], with where things went.
pub(super) struct Seen {
    pub(super) pixels: RgbImage,
    region: BBox,
    mirrored: bool,
}

impl Seen {
    /// Photo `number` in a view, and the person's box in it.
    pub(super) fn with_person(pixels: &RgbImage, person: &BBox, view: View, number: u64) -> (Self, BBox) {
        let (seen, mut rng) = Self::new(pixels, person, view, number);
        let mut person = seen.place(person);
        if let (View::Cropped(_), Ok(normal)) = (view, Normal::new(0.0, BOX_JITTER)) {
            let (w, h) = (person.width(), person.height());
            let mut moved = |edge: f32, extent: f32| edge + extent * normal.sample(&mut rng);
            person = BBox::new(moved(person.x1, w), moved(person.y1, h), moved(person.x2, w), moved(person.y2, h))
                .clip(seen.size());
        }
        (seen, person)
    }

    fn new(pixels: &RgbImage, person: &BBox, view: View, number: u64) -> (Self, ChaCha8Rng) {
        let (width, height) = pixels.dimensions();
        let whole = BBox::new(0.0, 0.0, width as f32, height as f32);
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        let (region, mirrored) = match view {
            View::Plain => (whole, false),
            View::Mirrored => (whole, true),
            View::Cropped(draw) => {
                rng = ChaCha8Rng::seed_from_u64(number ^ ((draw + 1) << 40));
                let mut axis = |length: f32, low: f32, high: f32| {
                    let least = (LEAST_SIDE * length).max(high - low).min(length);
                    let side = rng.random_range(least..=length);
                    let start =
                        rng.random_range((high - side).max(0.0)..=low.min(length - side).max((high - side).max(0.0)));
                    (start.floor(), (start + side).ceil().min(length))
                };
                let (x1, x2) = axis(width as f32, person.x1, person.x2);
                let (y1, y2) = axis(height as f32, person.y1, person.y2);
                (BBox::new(x1, y1, x2, y2), rng.random_bool(0.5))
            }
        };
        let part = |v: f32| v.max(0.0) as u32;
        let (w, h) = (part(region.width()).max(1), part(region.height()).max(1));
        let mut seen = imageops::crop_imm(pixels, part(region.x1), part(region.y1), w, h).to_image();
        if mirrored {
            imageops::flip_horizontal_in_place(&mut seen);
        }
        (Self { pixels: seen, region, mirrored }, rng)
    }

    pub(super) fn size(&self) -> Size {
        Size::new(self.pixels.width(), self.pixels.height())
    }

    /// A box of the photo in pixels of the view, cut to it.
    fn place(&self, b: &BBox) -> BBox {
        let moved = b.translate(-self.region.x1, -self.region.y1).clip(self.size());
        if !self.mirrored {
            return moved;
        }
        let width = self.size().width as f32;
        BBox::new(width - moved.x2, moved.y1, width - moved.x1, moved.y2)
    }
}

impl PhotoReader<'_> {
    /// Reads photo `number` with this person. `found` are objects in pixels of the photo; without them the detector's own are taken.
    ///
    /// # Errors
    /// [`PhotoError`].
    pub fn read(
        &self,
        number: u64,
        pixels: &RgbImage,
        person: &BBox,
        found: Option<&[Detection]>,
        view: View,
    ) -> Result<PhotoLook, PhotoError> {
        let (seen, person) = Seen::with_person(pixels, person, view, number);
        let size = seen.size();
        let (input, transform) = prepare(&seen.pixels, &self.detector.spec().input);
        let output = self
            .detector
            .detect(input, &transform, size)
            .map_err(|e| PhotoError::Detector { bundle: self.bundle.clone(), source: Box::new(e) })?;
        let objects: Vec<Detection> = match found {
            None => output.detections,
            Some(found) => found
                .iter()
                .map(|d| Detection { bbox: seen.place(&d.bbox), ..d.clone() })
                .zip(found)
                .filter(|(placed, whole)| {
                    placed.bbox.area() >= KEPT_SHARE * whole.bbox.area() && placed.bbox.area() > 0.0
                })
                .map(|(placed, _)| placed)
                .collect(),
        };
        let person = Detection { bbox: person, class: self.human, score: 1.0 };
        let objects = objects.into_iter().filter(|d| d.class != self.human);
        let entities: Vec<Detection> = [person].into_iter().chain(objects).collect();
        let spec = PairingSpec { humans: Bounds { min: 1, max: 1 }, ..self.pairing.clone() };
        let entities = select_entities(&entities, self.human, &spec);
        let pairs = (1..entities.len()).map(|object| HumanObjectPair { human: 0, object }).collect();
        let sample = LayoutSample { size, entities, pairs, left_out: 0, positives: Vec::new() };
        self.pool(sample, &output.features)
    }

    fn pool(&self, sample: LayoutSample, features: &[(String, Map)]) -> Result<PhotoLook, PhotoError> {
        let wrong = |reason: String| PhotoError::Taps { reason };
        let mut evidence = Vec::new();
        let mut roots: Vec<ArrayView3<'_, f32>> = Vec::new();
        let mut named: Vec<&(String, Map)> = features.iter().filter(|(name, _)| name.starts_with("feature")).collect();
        named.sort_by_key(|(name, _)| (name.len(), name.clone()));
        for (name, map) in named {
            let map = map.as_f32().ok_or_else(|| wrong(format!("`{name}` holds integers")))?;
            let &[1, _, rows, columns] = map.shape() else {
                return Err(wrong(format!("`{name}` is {:?}, a map is [1, C, h, w]", map.shape())));
            };
            if rows * columns == 1 {
                evidence.extend(map.iter().copied());
                continue;
            }
            if let Some(low) = map.iter().find(|v| !v.is_finite() || **v < 0.0) {
                return Err(wrong(format!(
                    "`{name}` holds {low}: a map after a ReLU is needed, whose roots are taken"
                )));
            }
            let map = map.index_axis(Axis(0), 0).into_dimensionality().map_err(|e| wrong(format!("`{name}`: {e}")))?;
            roots.push(map);
        }
        let (rows, columns, _) =
            grid_of(&roots.iter().map(|m| [m.dim().1, m.dim().2]).collect::<Vec<_>>()).map_err(wrong)?;
        let maps: Vec<Array2<f32>> = roots.iter().map(|map| mean_roots(map, rows, columns)).collect();
        let grid = FeatureGrid { columns, rows, picture: sample.size };
        let boxes: Vec<(BBox, BBox)> =
            sample.pairs.iter().map(|p| (sample.entities[p.human].bbox, sample.entities[p.object].bbox)).collect();
        let masks = person_masks(&sample.entities[0].bbox, grid);
        let over = |masks: &Array2<f32>| -> Result<Tensor, PhotoError> {
            let pooled: Vec<Array2<f32>> = maps.iter().map(|map| masks.dot(&map.t())).collect();
            let views: Vec<ArrayView2<'_, f32>> = pooled.iter().map(|p| p.view()).collect();
            let all = concatenate(Axis(1), &views).map_err(|e| wrong(e.to_string()))?;
            let shape = [all.nrows() as i64, all.ncols() as i64];
            let values: Vec<f32> = all.iter().copied().collect();
            Ok(Tensor::from_slice(&values).view(shape).to_kind(Kind::Half))
        };
        let of_pairs = pair_masks(&boxes, grid);
        let covered: Vec<f32> = of_pairs.sum_axis(Axis(1)).to_vec();
        let covered = Tensor::from_slice(&covered).view([-1, 1]).to_kind(Kind::Half);
        Ok(PhotoLook {
            pooled: over(&masks)?,
            of_pairs: Tensor::cat(&[over(&of_pairs)?, covered], 1),
            evidence: Tensor::from_slice(&evidence),
            sample,
        })
    }
}

/// Shares of the grid's cells in a person's box, in the upper half of it and in the picture: `[3, cells]`, rows that add up to 1.
pub(super) fn person_masks(person: &BBox, grid: FeatureGrid) -> Array2<f32> {
    let cells = grid.rows * grid.columns;
    let mut masks = Array2::from_elem((VIEWS, cells), 1.0 / cells as f32);
    masks.row_mut(0).assign(&entity_masks(&[*person], grid).row(0));
    masks.row_mut(1).assign(&upper_masks(&[*person], grid).row(0));
    masks
}

/// The grid that maps of these cells share, rows and columns, and how many cells along a side of each are averaged into one of it.
///
/// # Errors
/// What is wrong, where there is no map, or one whose cells are no whole multiple of the smallest map's.
pub fn grid_of(cells: &[[usize; 2]]) -> Result<(usize, usize, Vec<usize>), String> {
    let Some(&[rows, columns]) = cells.iter().min() else { return Err("there is no map".to_owned()) };
    let factor = |&[r, c]: &[usize; 2]| {
        let whole = rows > 0 && columns > 0 && r % rows == 0 && c % columns == 0 && r / rows == c / columns;
        whole.then(|| r / rows.max(1)).ok_or_else(|| {
            format!(
                "a map of {r} x {c} cells beside one of {rows} x {columns}: whole multiples of its cells are needed"
            )
        })
    };
    Ok((rows, columns, cells.iter().map(factor).collect::<Result<_, _>>()?))
}

/// The roots of a map `[C, h, w]`, averaged over the cells of a grid: `[C, rows columns]`.
fn mean_roots(map: &ArrayView3<'_, f32>, rows: usize, columns: usize) -> Array2<f32> {
    let (channels, height, width) = map.dim();
    let factor = height / rows;
    let mut mean = Array2::zeros((channels, rows * columns));
    let share = 1.0 / (factor * factor) as f32;
    for ((channel, y, x), value) in map.indexed_iter() {
        debug_assert!(x / factor < columns && width == columns * factor);
        mean[[channel, y / factor * columns + x / factor]] += value.sqrt() * share;
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_more_cells_are_averaged_to_the_smallest() {
        assert_eq!(grid_of(&[[18, 18], [9, 9]]), Ok((9, 9, vec![2, 1])));
        assert_eq!(grid_of(&[[10, 10]]), Ok((10, 10, vec![1])));
        for wrong in [vec![], vec![[19, 19], [9, 9]], vec![[18, 9], [9, 9]]] {
            assert!(grid_of(&wrong).is_err(), "{wrong:?}");
        }
        let map = ndarray::Array3::from_shape_fn((2, 2, 4), |(c, y, x)| (c * 100 + (y * 4 + x).pow(2)) as f32);
        let mean = mean_roots(&map.view(), 1, 2);
        assert_eq!(mean.row(0).to_vec(), [2.5, 4.5]);
    }

    #[test]
    fn views_place_boxes_where_their_pixels_are() {
        let pixels = RgbImage::from_fn(100, 80, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let person = BBox::new(40.0, 20.0, 60.0, 70.0);
        for view in views(20) {
            let (seen, _) = Seen::new(&pixels, &person, view, 7);
            let placed = seen.place(&person);
            assert!((placed.area() - person.area()).abs() < 1e-3, "{view:?}: the person stays whole");
            // The pixel in the person's upper left corner, or upper right one where the view is mirrored.
            let x = if seen.mirrored { placed.x2 - 1.0 } else { placed.x1 };
            let corner = seen.pixels.get_pixel(x as u32, placed.y1 as u32).0;
            assert_eq!(corner, [40, 20, 0], "{view:?}");
            let (w, h) = seen.pixels.dimensions();
            assert!(w >= 60 && h >= 48, "{view:?}: {w} x {h}");
        }
        let (first, _) = Seen::new(&pixels, &person, View::Cropped(0), 7);
        let (again, _) = Seen::new(&pixels, &person, View::Cropped(0), 7);
        let (other, _) = Seen::new(&pixels, &person, View::Cropped(0), 8);
        assert_eq!(first.region, again.region);
        assert_ne!(first.region, other.region);
    }
}
