//! The box conventions of the files, all turned into 0-based continuous pixels of the original image.

use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};

use super::DatasetError;

/// A COCO box may pass the edge of its image by this many pixels (rounding); it is cut there.
const COCO_TOLERANCE: f64 = 1.0;

/// What the four numbers of a box mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convention {
    /// `x1, y1, x2, y2`, first pixel 1, the last one inside (HICO-DET, HAKE, hicodet).
    OneBasedInclusive,
    /// `x1, y1, x2, y2`, first pixel 0, the last one inside (PPDM and QPIC for HICO-DET).
    ZeroBasedInclusive,
    /// `x1, y1, x2, y2`, continuous (V-COCO).
    Corners,
    /// `x, y, width, height`, continuous (COCO).
    CornerAndExtent,
}

impl Convention {
    fn describe(self) -> &'static str {
        match self {
            Self::OneBasedInclusive => "1-based, inclusive, x1 <= x2, y1 <= y2",
            Self::ZeroBasedInclusive => "0-based, inclusive, x1 <= x2, y1 <= y2",
            Self::Corners => "0-based continuous, x1 <= x2, y1 <= y2",
            Self::CornerAndExtent => "0-based continuous, x, y, width, height",
        }
    }

    /// The continuous edges, if these numbers are a box at all.
    fn edges(self, [a, b, c, d]: [f64; 4]) -> Option<[f64; 4]> {
        let [x1, y1, x2, y2] = match self {
            Self::OneBasedInclusive => [a - 1.0, b - 1.0, c, d],
            Self::ZeroBasedInclusive => [a, b, c + 1.0, d + 1.0],
            Self::Corners => [a, b, c, d],
            Self::CornerAndExtent => [a, b, a + c, b + d],
        };
        let least = match self {
            Self::OneBasedInclusive | Self::ZeroBasedInclusive => 1.0,
            Self::Corners | Self::CornerAndExtent => 0.0,
        };
        let finite = [x1, y1, x2, y2].iter().all(|v| v.is_finite());
        (finite && x2 - x1 >= least && y2 - y1 >= least).then_some([x1, y1, x2, y2])
    }

    /// The box in an image of this size; `None` for a size that the file does not say, in which case only the lower limits are checked.
    fn read(self, numbers: [f64; 4], size: Option<Size>) -> Result<BBox, Refused> {
        let [x1, y1, x2, y2] = self.edges(numbers).ok_or(Refused::NotABox)?;
        let tolerance = match self {
            Self::OneBasedInclusive | Self::ZeroBasedInclusive => 0.0,
            Self::Corners | Self::CornerAndExtent => COCO_TOLERANCE,
        };
        let limit = |length: fn(Size) -> u32| size.map_or(f64::INFINITY, |size| f64::from(length(size)));
        let (width, height) = (limit(|s| s.width), limit(|s| s.height));
        let inside = |low: f64, high: f64, limit: f64| low >= -tolerance && high <= limit + tolerance;
        if !inside(x1, x2, width) || !inside(y1, y2, height) {
            return Err(Refused::Outside);
        }
        let edge = |v: f64, limit: f64| v.clamp(0.0, limit) as f32;
        Ok(BBox::new(edge(x1, width), edge(y1, height), edge(x2, width), edge(y2, height)))
    }

    /// The box, or an error that names file and record.
    pub(super) fn checked(
        self,
        path: &Path,
        record: impl FnOnce() -> String,
        bbox: [f64; 4],
        size: Option<Size>,
    ) -> Result<BBox, DatasetError> {
        self.read(bbox, size).map_err(|refused| {
            let (path, record, convention) = (path.to_owned(), record(), self.describe());
            match (refused, size) {
                (Refused::Outside, Some(size)) => DatasetError::BoxOutside { path, record, bbox, size, convention },
                _ => DatasetError::NotABox { path, record, bbox, convention },
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Refused {
    NotABox,
    Outside,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_by_hand() {
        use Convention::{CornerAndExtent, Corners, OneBasedInclusive, ZeroBasedInclusive};
        let size = Some(Size::new(10, 5));
        let cases = [
            (OneBasedInclusive, [1., 1., 10., 5.], BBox::new(0., 0., 10., 5.)),
            (OneBasedInclusive, [3., 2., 3., 2.], BBox::new(2., 1., 3., 2.)),
            (ZeroBasedInclusive, [0., 0., 9., 4.], BBox::new(0., 0., 10., 5.)),
            (ZeroBasedInclusive, [2., 1., 2., 1.], BBox::new(2., 1., 3., 2.)),
            (Corners, [0.5, 1., 10., 5.], BBox::new(0.5, 1., 10., 5.)),
            (Corners, [-0.5, 1., 10.9, 5.], BBox::new(0., 1., 10., 5.)),
            (CornerAndExtent, [0.5, 1., 9.5, 4.], BBox::new(0.5, 1., 10., 5.)),
            (CornerAndExtent, [2., 1., 0., 0.], BBox::new(2., 1., 2., 1.)),
        ];
        for (convention, numbers, want) in cases {
            assert_eq!(convention.read(numbers, size), Ok(want), "{convention:?} {numbers:?}");
        }
        let refused = [
            (OneBasedInclusive, [0., 1., 5., 5.], Refused::Outside),
            (OneBasedInclusive, [1., 1., 11., 5.], Refused::Outside),
            (OneBasedInclusive, [1., 1., 10., 6.], Refused::Outside),
            (OneBasedInclusive, [5., 1., 4., 5.], Refused::NotABox),
            (OneBasedInclusive, [f64::NAN, 1., 2., 2.], Refused::NotABox),
            (ZeroBasedInclusive, [0., 0., 10., 4.], Refused::Outside),
            (ZeroBasedInclusive, [-1., 0., 9., 4.], Refused::Outside),
            (Corners, [0., 0., 11.5, 5.], Refused::Outside),
            (Corners, [5., 0., 4.9, 5.], Refused::NotABox),
            (CornerAndExtent, [0., 0., -1., 5.], Refused::NotABox),
            (CornerAndExtent, [0., 0., f64::INFINITY, 5.], Refused::NotABox),
        ];
        for (convention, numbers, want) in refused {
            assert_eq!(convention.read(numbers, size), Err(want), "{convention:?} {numbers:?}");
        }
        assert_eq!(ZeroBasedInclusive.read([0., 0., 99., 99.], None), Ok(BBox::new(0., 0., 100., 100.)));
        assert_eq!(ZeroBasedInclusive.read([-1., 0., 99., 99.], None), Err(Refused::Outside));
    }
}
