//! Photos as the method sees them: the backbone's map, the proposals, and two closer looks at each human.

use std::sync::mpsc::sync_channel;

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::ObjectClass;
use image::RgbImage;
use image::imageops::{crop_imm, flip_horizontal};
use tch::{Device, Kind, Tensor};

use super::backbone::PhotoBackbone;
use crate::system::rmlr::DetectedPicture;

/// A human's box grows by this before it is cut out: what is held and used lies beside the body.
pub const LOOK_SCALE: f32 = 1.3;

/// Photos that a worker may be ahead.
const AHEAD: usize = 4;

/// How a photo becomes an example.
#[derive(Clone, Copy)]
pub struct PhotoReader<'a> {
    /// The maps.
    pub backbone: &'a PhotoBackbone,
    /// The class of humans.
    pub human: ObjectClass,
    /// Each human is looked at again: what is around it, and around the upper half of it, is cut out and pooled; both are its tokens.
    pub looks: bool,
}

/// Closer looks at each human.
pub const LOOKS: i64 = 2;

/// What is looked at again of a human: all of it, and its upper half, where face and hands are.
fn looked_at(bbox: &BBox) -> [BBox; LOOKS as usize] {
    [*bbox, BBox { y2: 0.5 * (bbox.y1 + bbox.y2), ..*bbox }]
}

/// The part of a picture around a box, grown about its centre, whole pixels, inside the picture.
fn surroundings(pixels: &RgbImage, bbox: &BBox, scale: f32) -> RgbImage {
    let (x, y) = bbox.center();
    let (width, height) = (0.5 * scale * bbox.width(), 0.5 * scale * bbox.height());
    let size = Size::new(pixels.width(), pixels.height());
    let part = BBox::new(x - width, y - height, x + width, y + height).clip(size);
    let (left, top) = ((part.x1.floor() as u32).min(size.width - 1), (part.y1.floor() as u32).min(size.height - 1));
    let right = (part.x2.ceil() as u32).clamp(left + 1, size.width);
    let bottom = (part.y2.ceil() as u32).clamp(top + 1, size.height);
    crop_imm(pixels, left, top, right - left, bottom - top).to_image()
}

fn mirrored(bbox: &BBox, width: f32) -> BBox {
    BBox::new(width - bbox.x2, bbox.y1, width - bbox.x1, bbox.y2)
}

impl PhotoReader<'_> {
    /// Width of the tokens: 0 without looks.
    pub fn tokens(&self) -> i64 {
        if self.looks { LOOKS * self.backbone.channels() } else { 0 }
    }

    /// Reads a photo with its proposals, boxes in its pixels; and mirrored where that is wanted. The picture must not be empty.
    pub fn read(&self, number: u64, pixels: &RgbImage, entities: &[Detection], mirror: bool) -> Vec<DetectedPicture> {
        let humans: Vec<usize> =
            (0..entities.len()).filter(|&i| self.looks && entities[i].class == self.human).collect();
        let mut parts: Vec<RgbImage> = vec![pixels.clone()];
        let boxes = humans.iter().flat_map(|&i| looked_at(&entities[i].bbox));
        parts.extend(boxes.map(|bbox| surroundings(pixels, &bbox, LOOK_SCALE)));
        let count = parts.len() as i64;
        let views = if mirror { 2 } else { 1 };
        if mirror {
            parts.extend(parts.iter().map(flip_horizontal).collect::<Vec<_>>());
        }
        let maps = self.backbone.maps(&parts.iter().collect::<Vec<_>>());
        let size = Size::new(pixels.width(), pixels.height());
        (0..views)
            .map(|view| {
                let first = view * count;
                let looks = maps.narrow(0, first + 1, count - 1);
                let looks =
                    looks.mean_dim([2i64, 3].as_slice(), false, Kind::Float).view([humans.len() as i64, self.tokens()]);
                // Half precision on disk and in memory, whether it comes from a cache or not; so is the map.
                let tokens = Tensor::zeros([entities.len() as i64, self.tokens()], (Kind::Half, Device::Cpu));
                for (row, &human) in humans.iter().enumerate() {
                    tokens.get(human as i64).copy_(&looks.get(row as i64));
                }
                let placed = |e: &Detection| {
                    let bbox = if view == 1 { mirrored(&e.bbox, size.width as f32) } else { e.bbox };
                    Detection { bbox, ..e.clone() }
                };
                DetectedPicture {
                    number,
                    original: size,
                    input: size,
                    feature: maps.get(first).to_kind(Kind::Half),
                    covered: size,
                    entities: entities.iter().map(placed).collect(),
                    tokens,
                }
            })
            .collect()
    }
}

/// Does `work` for 0..count on some threads, each with what `start` makes for it, and hands the results to `sink` in order. A thread's
/// libtorch works on one core.
///
/// # Errors
/// The first error of `start`, `work` (in order) or `sink`.
pub fn in_order<W, T: Send, E: Send>(
    count: usize,
    threads: usize,
    start: impl Fn() -> Result<W, E> + Sync,
    work: impl Fn(&W, usize) -> Result<T, E> + Sync,
    mut sink: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.clamp(1, count.max(1));
    let own = tch::get_num_threads();
    let (start, work) = (&start, &work);
    let result = std::thread::scope(|scope| {
        let channels: Vec<_> = (0..threads)
            .map(|first| {
                let (sender, receiver) = sync_channel(AHEAD);
                scope.spawn(move || {
                    tch::set_num_threads(1);
                    let worker = match start() {
                        Ok(worker) => worker,
                        Err(error) => {
                            let _ = sender.send(Err(error));
                            return;
                        }
                    };
                    for index in (first..count).step_by(threads) {
                        if sender.send(work(&worker, index)).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for index in 0..count {
            match channels[index % threads].recv() {
                Ok(made) => sink(index, made?)?,
                // The thread panicked: the scope passes that on.
                Err(_) => break,
            }
        }
        Ok(())
    });
    tch::set_num_threads(own);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_errors_end_it() {
        let mut seen = Vec::new();
        let sink = |i: usize, square: usize| -> Result<(), String> {
            seen.push((i, square));
            Ok(())
        };
        in_order(10, 3, || Ok(()), |(), i| Ok(i * i), sink).unwrap();
        assert_eq!(seen, (0..10).map(|i| (i, i * i)).collect::<Vec<_>>());
        let mut count = 0;
        let failing = |(): &(), i: usize| if i == 5 { Err(format!("no {i}")) } else { Ok(i) };
        let counted = |_: usize, _: usize| {
            count += 1;
            Ok(())
        };
        assert_eq!(in_order(100, 2, || Ok(()), failing, counted), Err("no 5".to_owned()));
        assert_eq!(count, 5);
        let never = in_order(3, 2, || Err::<(), _>("no start".to_owned()), |(), i| Ok(i), |_, _: usize| Ok(()));
        assert_eq!(never, Err("no start".to_owned()));
    }

    #[test]
    fn looks_are_at_all_of_a_human_and_its_upper_half() {
        let [all, upper] = looked_at(&BBox::new(10.0, 20.0, 30.0, 80.0));
        assert_eq!((all, upper), (BBox::new(10.0, 20.0, 30.0, 80.0), BBox::new(10.0, 20.0, 30.0, 50.0)));
    }

    #[test]
    fn surroundings_stay_inside_the_picture() {
        let pixels = RgbImage::from_fn(40, 20, |x, y| image::Rgb([x as u8, y as u8, 0]));
        // 10 x 10 at (5, 5) grows to 13 x 13 at (3.5, 3.5).
        let part = surroundings(&pixels, &BBox::new(5.0, 5.0, 15.0, 15.0), LOOK_SCALE);
        assert_eq!(part.dimensions(), (14, 14));
        assert_eq!(part.get_pixel(0, 0).0, [3, 3, 0]);
        // At the border, and for boxes without area, at least a pixel stays.
        assert_eq!(surroundings(&pixels, &BBox::new(30.0, 10.0, 40.0, 20.0), LOOK_SCALE).dimensions(), (12, 12));
        assert_eq!(surroundings(&pixels, &BBox::new(40.0, 20.0, 40.0, 20.0), LOOK_SCALE).dimensions(), (1, 1));
    }
}
