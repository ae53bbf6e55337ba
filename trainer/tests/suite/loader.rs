//! Batches from outside: where boxes end up, the same result for any number of threads, bad pictures in the middle of an epoch.

use std::path::PathBuf;

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::{ObjectClass, Verb, Vocabulary, VocabularySpec};
use hoi_trainer::dataset::augment::{Augmentation, Augmented, Resize};
use hoi_trainer::dataset::loader::{Batch, LoaderError, LoaderOptions, LoaderReport, batches};
use hoi_trainer::dataset::{AnnotatedPicture, DatasetError, EntityLabel, PairLabel, PictureSet};
use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Kind;

/// Pictures with one bright rectangle each, sizes and boxes from the index; those in `bad` cannot be read.
struct Rectangles {
    count: usize,
    bad: Vec<usize>,
    vocabulary: Vocabulary,
}

impl Rectangles {
    fn new(count: usize, bad: &[usize]) -> Self {
        let spec = VocabularySpec {
            human: "person".into(),
            objects: vec!["person".into(), "cup".into()],
            verbs: vec!["hold".into()],
            background_verb: None,
            valid: std::collections::BTreeMap::from([("cup".to_owned(), vec!["hold".to_owned()])]),
            alone: Vec::new(),
        };
        Self { count, bad: bad.to_vec(), vocabulary: Vocabulary::new(spec).unwrap() }
    }
}

impl PictureSet for Rectangles {
    fn len(&self) -> usize {
        self.count
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn name(&self, index: usize) -> String {
        format!("rectangle_{index}")
    }

    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError> {
        // Earlier pictures take longer, so that threads overtake each other.
        std::thread::sleep(std::time::Duration::from_millis(if index.is_multiple_of(3) { 4 } else { 0 }));
        if self.bad.contains(&index) {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(DatasetError::Read { path: PathBuf::from(self.name(index)), source });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
        Ok(AnnotatedPicture { name: self.name(index), number: 100 + index as u64, ..rectangle(&mut rng) })
    }
}

/// A dark picture with a bright rectangle; its box is the only entity, and human and object of the only pair.
fn rectangle(rng: &mut ChaCha8Rng) -> AnnotatedPicture {
    let (width, height) = (rng.random_range(30..90_u32), rng.random_range(30..90_u32));
    let (x1, y1) = (rng.random_range(0..width - 8), rng.random_range(0..height - 8));
    let (x2, y2) = (rng.random_range(x1 + 8..=width), rng.random_range(y1 + 8..=height));
    let pixels = RgbImage::from_fn(width, height, |x, y| {
        let inside = (x1..x2).contains(&x) && (y1..y2).contains(&y);
        Rgb(if inside { [200, 170, 150] } else { [60, 90, 70] })
    });
    let bbox = BBox::new(x1 as f32, y1 as f32, x2 as f32, y2 as f32);
    let pair = PairLabel { human: bbox, object: bbox, class: ObjectClass(1), verb: Verb(0) };
    let entity = EntityLabel { bbox, class: ObjectClass(1) };
    AnnotatedPicture { name: "rectangle".into(), number: 0, pixels, entities: vec![entity], pairs: vec![pair] }
}

/// Every pixel brighter than halfway between dark and bright has its centre in the box, and they reach its edges within a pixel.
fn assert_bright_is_in_the_box(augmented: &Augmented, what: &str) {
    let Size { width, height } = augmented.input;
    let red = &augmented.values[..(width * height) as usize];
    let (low, high) = red.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let Some(entity) = augmented.entities.first() else {
        assert!(augmented.pairs.is_empty(), "{what}: a pair without its entity");
        assert!(high - low < 1e-4, "{what}: something bright and no box");
        return;
    };
    let b = entity.bbox;
    assert_eq!((augmented.pairs[0].human, augmented.pairs[0].object), (b, b), "{what}");
    if high - low < 1e-4 {
        assert_eq!(b, augmented.input.bbox(), "{what}: all the same and a box that is not all");
        return;
    }
    let mut seen = [f32::MAX, f32::MAX, f32::MIN, f32::MIN];
    for y in 0..height {
        for x in 0..width {
            if red[(y * width + x) as usize] > (low + high) / 2.0 + 1e-3 {
                let (cx, cy) = (x as f32 + 0.5, y as f32 + 0.5);
                let inside = cx > b.x1 - 1e-2 && cx < b.x2 + 1e-2 && cy > b.y1 - 1e-2 && cy < b.y2 + 1e-2;
                assert!(inside, "{what}: pixel {x}, {y} of {} is outside {b:?}", augmented.input);
                seen = [seen[0].min(cx), seen[1].min(cy), seen[2].max(cx), seen[3].max(cy)];
            }
        }
    }
    for (edge, reached) in <[f32; 4]>::from(b).into_iter().zip(seen) {
        assert!((edge - reached).abs() <= 1.01, "{what}: {b:?}, but bright is {seen:?}");
    }
}

#[test]
fn a_painted_rectangle_stays_in_its_box() {
    let short = Resize::ShortSide { short: 200, long: 320 };
    let exact = Resize::Exact(Size::new(160, 160));
    let augmentations = [
        Augmentation { resize: short, ..Augmentation::training() },
        Augmentation { resize: exact, ..Augmentation::training() },
        Augmentation { resize: short, ..Augmentation::test() },
        Augmentation::exact(Size::new(160, 120), 0.5),
    ];
    let (mut vanished, mut cut) = (0, 0);
    for seed in 0..150 {
        for (i, augmentation) in augmentations.iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let picture = rectangle(&mut rng);
            let (original, area) =
                (picture.entities[0].bbox, (picture.pixels.width() * picture.pixels.height()) as f32);
            let augmented = augmentation.apply(picture, &mut rng);
            assert_bright_is_in_the_box(&augmented, &format!("seed {seed}, augmentation {i}"));
            match augmented.entities.first() {
                None => vanished += 1,
                Some(e) => {
                    let share = e.bbox.area() / (augmented.input.width * augmented.input.height) as f32;
                    cut += usize::from((share - original.area() / area).abs() > 0.02);
                    assert!(i < 2 || (share - original.area() / area).abs() < 0.02);
                }
            }
        }
    }
    assert!(vanished > 0 && cut > 40, "{vanished} vanished, {cut} cut: the crops were not tried");
}

#[test]
fn exact_by_hand() {
    // 4 x 2, the left half bright; mirrored: the right half. Stretched to 8 x 4: everything doubles.
    let pixels = RgbImage::from_fn(4, 2, |x, _| Rgb(if x < 2 { [255, 255, 255] } else { [0, 0, 0] }));
    let bbox = BBox::new(0., 0., 2., 1.);
    let entity = EntityLabel { bbox, class: ObjectClass(0) };
    let picture = AnnotatedPicture { name: "half".into(), number: 1, pixels, entities: vec![entity], pairs: vec![] };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let straight = Augmentation::exact(Size::new(8, 4), 0.0).apply(picture.clone(), &mut rng);
    assert_eq!(straight.entities[0].bbox, BBox::new(0., 0., 4., 2.));
    assert_eq!((straight.original, straight.input), (Size::new(4, 2), Size::new(8, 4)));
    // (1 - 0.485) / 0.229 and (0 - 0.406) / 0.225.
    assert!((straight.values[0] - 2.248_908).abs() < 1e-5, "{}", straight.values[0]);
    assert!((straight.values[2 * 32 + 7] + 1.804_444).abs() < 1e-5, "{}", straight.values[71]);
    let mirrored = Augmentation::exact(Size::new(8, 4), 1.0).apply(picture, &mut rng);
    assert_eq!(mirrored.entities[0].bbox, BBox::new(4., 0., 8., 2.));
    assert!((mirrored.values[7] - 2.248_908).abs() < 1e-5);
}

const OPTIONS: LoaderOptions = LoaderOptions { batch: 4, threads: 1, seed: 7, epoch: 0, shuffle: true, skip_limit: 0 };

fn collect(
    set: &Rectangles,
    indices: &[usize],
    options: LoaderOptions,
) -> (Vec<Batch>, Result<LoaderReport, LoaderError<String>>) {
    let mut all = Vec::new();
    let augmentation = Augmentation { resize: Resize::ShortSide { short: 64, long: 100 }, ..Augmentation::training() };
    let report = batches(set, indices, &augmentation, &options, |batch| {
        all.push(batch);
        Ok(())
    });
    (all, report)
}

fn same(a: &[Batch], b: &[Batch]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.targets == b.targets && a.images.equal(&b.images) && a.padding.equal(&b.padding))
}

#[test]
fn one_and_three_threads_give_the_same_batches() {
    let set = Rectangles::new(23, &[5, 11]);
    let indices: Vec<usize> = (0..23).filter(|i| *i != 2).collect();
    let options = LoaderOptions { skip_limit: 2, ..OPTIONS };
    let (one, report) = collect(&set, &indices, options);
    let report = report.unwrap();
    assert_eq!((report.pictures, report.skipped.len(), one.len()), (20, 2, 5));
    assert!(one.iter().all(|batch| batch.targets.len() == 4));
    for threads in [0, 2, 3, 64] {
        let (other, other_report) = collect(&set, &indices, LoaderOptions { threads, ..options });
        assert!(same(&one, &other), "{threads} threads");
        let names = |report: &LoaderReport| report.skipped.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&report), names(&other_report.unwrap()));
    }
    // Another epoch has another order and other crops; each picture still comes once.
    let (next, _) = collect(&set, &indices, LoaderOptions { epoch: 1, ..options });
    let order = |all: &[Batch]| all.iter().flat_map(|b| b.targets.iter().map(|t| t.index)).collect::<Vec<_>>();
    assert_ne!(order(&one), order(&next));
    let mut sorted = order(&next);
    sorted.sort_unstable();
    assert_eq!(sorted, indices.iter().copied().filter(|i| !set.bad.contains(i)).collect::<Vec<_>>());
    let (unshuffled, _) = collect(&set, &indices, LoaderOptions { shuffle: false, ..options });
    assert_eq!(order(&unshuffled), sorted);
}

#[test]
fn padding_is_right_and_below() {
    let set = Rectangles::new(8, &[]);
    let (all, _) = collect(&set, &(0..8).collect::<Vec<_>>(), OPTIONS);
    for batch in &all {
        let (b, c, h, w) = batch.images.size4().unwrap();
        assert_eq!((b, c), (4, 3));
        assert_eq!(batch.padding.size(), [b, h, w]);
        assert_eq!((batch.images.kind(), batch.padding.kind()), (Kind::Float, Kind::Bool));
        assert_eq!(h, i64::from(batch.targets.iter().map(|t| t.input.height).max().unwrap()));
        assert_eq!(w, i64::from(batch.targets.iter().map(|t| t.input.width).max().unwrap()));
        for (i, target) in batch.targets.iter().enumerate() {
            let (own_h, own_w) = (i64::from(target.input.height), i64::from(target.input.width));
            let padding = batch.padding.get(i as i64);
            assert_eq!(i64::try_from(padding.sum(Kind::Int64)).unwrap(), h * w - own_h * own_w);
            let content = padding.narrow(0, 0, own_h).narrow(1, 0, own_w);
            assert_eq!(i64::try_from(content.sum(Kind::Int64)).unwrap(), 0);
            let values = batch.images.get(i as i64);
            let outside = (values.abs() * padding.to_kind(Kind::Float)).max();
            assert_eq!(f64::try_from(outside).unwrap(), 0.0);
        }
    }
    assert!(all.iter().any(|batch| i64::try_from(batch.padding.sum(Kind::Int64)).unwrap() > 0));
}

#[test]
fn one_bad_picture_too_many_is_named() {
    let set = Rectangles::new(12, &[3, 6, 8]);
    let indices: Vec<usize> = (0..12).collect();
    let options = LoaderOptions { shuffle: false, skip_limit: 2, threads: 3, ..OPTIONS };
    let (all, report) = collect(&set, &indices, options);
    match report.unwrap_err() {
        LoaderError::TooManySkipped { count: 3, limit: 2, name, source } => {
            assert_eq!(name, "rectangle_8");
            assert!(source.to_string().contains("rectangle_8"), "{source}");
        }
        other => panic!("{other}"),
    }
    // 0 1 2 4 had been handed over; 5 7 were waiting for the rest of their batch.
    assert_eq!(all.iter().flat_map(|b| b.targets.iter().map(|t| t.index)).collect::<Vec<_>>(), [0, 1, 2, 4]);
}

#[test]
fn what_the_consumer_says_ends_the_epoch() {
    let set = Rectangles::new(40, &[]);
    let indices: Vec<usize> = (0..40).collect();
    let options = LoaderOptions { threads: 3, ..OPTIONS };
    let mut taken = 0;
    let augmentation = Augmentation::exact(Size::new(16, 16), 0.0);
    let report = batches(&set, &indices, &augmentation, &options, |_| {
        taken += 1;
        if taken == 2 { Err("the loss is not a number") } else { Ok(()) }
    });
    assert!(matches!(report, Err(LoaderError::Consumer("the loss is not a number"))));
    assert_eq!(taken, 2);
}

#[test]
fn options_that_cannot_be_used_are_refused() {
    let set = Rectangles::new(3, &[]);
    let refused = |indices: &[usize], options| collect(&set, indices, options).1.unwrap_err().to_string();
    assert!(refused(&[0], LoaderOptions { batch: 0, ..OPTIONS }).contains("at least 1"));
    assert!(refused(&[0, 3], OPTIONS).contains("3 is outside the set, which has 3 pictures"));
    let (all, report) = collect(&set, &[], OPTIONS);
    assert!(all.is_empty() && report.unwrap().pictures == 0);
}
