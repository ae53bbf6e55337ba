//! V-COCO's folder.

use std::path::Path;

use super::{Count, Finding, PictureCheck};
use crate::dataset::v_coco::{
    ACTIONS, ActionRoles, Source, Split, VCoco, VCocoImage, official_positives, picture_folder, picture_names,
};

/// Persons that do each action, in the order of [`ACTIONS`], as the official files label them.
const POSITIVES_TRAIN: [u64; 26] = [
    1838, 2150, 935, 252, 300, 1770, 164, 301, 319, 243, 167, 236, 159, 152, 127, 305, 210, 190, 239, 220, 678, 63, 65,
    15, 51, 176,
];
/// The same for `val`.
const POSITIVES_VAL: [u64; 26] = [
    2163, 2448, 1054, 236, 356, 2055, 203, 376, 381, 228, 187, 262, 141, 161, 173, 317, 248, 310, 259, 269, 867, 70,
    77, 23, 65, 212,
];
/// The same for `test`: `#pos` of the official evaluator.
const POSITIVES_TEST: [u64; 26] = [
    3608, 4118, 1916, 556, 597, 3347, 349, 521, 635, 387, 285, 472, 244, 246, 269, 687, 410, 424, 486, 417, 1415, 82,
    180, 31, 111, 277,
];

/// Published numbers of a split: images, images without a pair, pairs of the 24 action-roles.
fn published(split: Split) -> [Option<u64>; 3] {
    match split {
        Split::Train => [Some(2_533), None, Some(6_400)],
        Split::Val => [Some(2_867), None, Some(7_417)],
        Split::Trainval => [Some(5_400), Some(431), Some(13_817)],
        Split::Test => [Some(4_946), Some(414), Some(12_402)],
    }
}

fn published_positives(split: Split) -> [u64; 26] {
    match split {
        Split::Train => POSITIVES_TRAIN,
        Split::Val => POSITIVES_VAL,
        Split::Trainval => std::array::from_fn(|i| POSITIVES_TRAIN[i] + POSITIVES_VAL[i]),
        Split::Test => POSITIVES_TEST,
    }
}

fn positive_counts(split: Split, found: &[usize]) -> Vec<Count> {
    let rows = ACTIONS.iter().zip(published_positives(split)).zip(found);
    rows.map(|((action, expected), found)| Count::new(format!("persons that {}", action.name), expected, *found))
        .collect()
}

fn pair_counts(split: Split, source: &Source, images: &[VCocoImage]) -> Vec<Count> {
    let counted = ActionRoles::WithoutPoint.list();
    let pairs = |image: &VCocoImage| image.pairs.iter().filter(|pair| counted.contains(&pair.action_role)).count();
    let [expected_images, expected_empty, expected_pairs] = published(split);
    let mut counts = vec![
        Count::new("images", expected_images, images.len()),
        Count::new("images without a pair", expected_empty, images.iter().filter(|image| pairs(image) == 0).count()),
        Count::new("pairs of 24 action-roles", expected_pairs, images.iter().map(pairs).sum()),
    ];
    if !matches!(source, Source::Pairs(_)) {
        let mut found = vec![0; ACTIONS.len()];
        let persons = images.iter().flat_map(|image| &image.persons);
        for action in persons.flat_map(|person| &person.actions) {
            found[action.action] += 1;
        }
        counts.extend(positive_counts(split, &found));
    }
    counts
}

/// Looks for everything that is read of V-COCO below `root`; `progress` is called once for each picture that is looked for.
///
/// Needed are the annotations of `trainval` and `test`, in any format.
pub fn check_v_coco(root: &Path, pictures: &PictureCheck, progress: &mut dyn FnMut()) -> Vec<Finding> {
    let data = match VCoco::open(root) {
        Ok(data) => data,
        Err(error) => return vec![Finding::failed("folder", &error)],
    };
    let mut findings = Vec::new();
    let mut looked_for = Vec::new();
    for split in [Split::Trainval, Split::Test] {
        let what = format!("annotation, {}", split.name());
        match data.source(split).and_then(|source| Ok((data.images(split)?, source))) {
            Ok((images, source)) => {
                let paths: Vec<String> = source.paths().iter().map(|path| path.display().to_string()).collect();
                let limit = match source {
                    Source::Official { .. } => "",
                    Source::Qpic(_) | Source::Pairs(_) => "; not enough for the official role AP",
                };
                let note = format!("{}, {}{limit}", paths.join(", "), source.name());
                findings.push(Finding::found(&what, note, pair_counts(split, &source, &images)));
                looked_for.push((split, images));
            }
            Err(error) => findings.push(Finding::failed(&what, &error)),
        }
    }
    for split in [Split::Train, Split::Val, Split::Trainval, Split::Test] {
        let Some(paths) = data.official_annotation(split) else { continue };
        let paired = matches!(data.source(split), Ok(Source::Official { .. }));
        if paired || (split == Split::Trainval && paths.len() > 1) {
            continue;
        }
        let what = format!("official labels, {}", split.name());
        findings.push(match official_positives(&paths) {
            Ok((images, positives)) => {
                let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                let note = format!("{}; COCO's instances, which they point into, are not here", names.join(", "));
                let mut counts = vec![Count::new("images", published(split)[0], images)];
                counts.extend(positive_counts(split, &positives));
                Finding::found(&what, note, counts)
            }
            Err(error) => Finding::failed(&what, &error),
        });
    }
    let folder = picture_folder(&pictures.root);
    for (split, images) in looked_for {
        let wanted: Vec<_> = images.iter().map(|image| (picture_names(image).to_vec(), image.size)).collect();
        findings.push(pictures.look(&format!("pictures, {}", split.name()), &folder, &wanted, progress));
    }
    findings
}
