//! DETR: its set loss against slow versions, training on a few scenes, and the command killed in the middle.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hoi_runtime::geometry::{BBox, Size};
use hoi_trainer::dataset::PictureSet;
use hoi_trainer::dataset::augment::Augmentation;
use hoi_trainer::dataset::loader::{Batch, LoaderOptions, batches};
use hoi_trainer::dataset::rendered::{RenderedConfig, RenderedScenes, Split};
use hoi_trainer::loss::{SetLoss, SetTarget, center_to_corners, generalized_iou, match_targets};
use hoi_trainer::system::detr::{DetrModel, DetrPlan, DetrSettings, DetrTask, evaluate, train_detr};
use hoi_trainer::system::run::{RunConfig, RunOptions, Schedule};
use indicatif::ProgressBar;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

fn rows(values: &[[f32; 4]]) -> Tensor {
    Tensor::from_slice(&values.concat()).view([-1, 4])
}

fn target(classes: &[i64], boxes: &[[f32; 4]]) -> SetTarget {
    SetTarget { classes: Tensor::from_slice(classes), boxes: rows(boxes) }
}

#[test]
fn generalized_iou_by_hand() {
    let a = rows(&[[0., 0., 10., 10.], [0., 0., 10., 10.], [0., 0., 10., 10.], [0., 0., 0., 0.], [0., 0., 10., 10.]]);
    let b = rows(&[[0., 0., 10., 10.], [5., 0., 15., 10.], [20., 0., 30., 10.], [0., 0., 0., 0.], [5., 5., 5., 5.]]);
    // The same; half over: 50 / 150; apart: 0 - (300 - 200) / 300; two points in one place; a point inside: 0 - 0.
    let found = Vec::<f32>::try_from(generalized_iou(&a, &b)).unwrap();
    for (found, wanted) in found.iter().zip([1.0, 1.0 / 3.0, -1.0 / 3.0, 0.0, 0.0]) {
        assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
    }
    let corners = center_to_corners(&rows(&[[0.5, 0.4, 0.2, 0.6]]));
    assert!((corners - rows(&[[0.4, 0.1, 0.6, 0.7]])).abs().max().double_value(&[]) < 1e-6);
}

/// Every way to give targets to queries, by recursion.
fn cheapest(cost: &[f64], targets: usize, queries: usize) -> f64 {
    fn go(cost: &[f64], queries: usize, row: usize, rows: usize, taken: &mut [bool], left: usize) -> f64 {
        if left == 0 {
            return 0.0;
        }
        let mut best = f64::INFINITY;
        // With more targets than queries, a row may be left out.
        if rows - row > left {
            best = go(cost, queries, row + 1, rows, taken, left);
        }
        for q in 0..queries {
            if !taken[q] {
                taken[q] = true;
                best = best.min(cost[row * queries + q] + go(cost, queries, row + 1, rows, taken, left - 1));
                taken[q] = false;
            }
        }
        best
    }
    go(cost, queries, 0, targets, &mut vec![false; queries], targets.min(queries))
}

#[test]
fn matching_is_the_cheapest() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..200 {
        let (targets, queries) = (rng.random_range(0..5), rng.random_range(1..6));
        let cost: Vec<f64> = (0..targets * queries).map(|_| rng.random_range(-3.0..7.0)).collect();
        let pairs = match_targets(&cost, targets, queries);
        assert_eq!(pairs.len(), targets.min(queries));
        assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0), "a target once, rising: {pairs:?}");
        let mut used: Vec<usize> = pairs.iter().map(|p| p.1).collect();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), pairs.len(), "a query once");
        let sum: f64 = pairs.iter().map(|&(t, q)| cost[t * queries + q]).sum();
        assert!((sum - cheapest(&cost, targets, queries)).abs() < 1e-5);
    }
    // What is no number is avoided, and cannot hang the matching.
    assert_eq!(match_targets(&[f64::NAN, 1.0, 2.0, f64::INFINITY], 2, 2), [(0, 1), (1, 0)]);
    assert_eq!(match_targets(&[f64::NAN; 4], 2, 2).len(), 2);
}

#[test]
fn set_loss_by_hand() {
    // One picture, two queries, two classes: query 0 on the box of class 1, query 1 apart.
    let logits = Tensor::from_slice(&[0f32, 0., 0., 0., 0., 0.]).view([1, 2, 3]);
    let boxes = rows(&[[0.5, 0.5, 0.2, 0.2], [0.2, 0.5, 0.2, 0.2]]).view([1, 2, 4]);
    let targets = [target(&[1], &[[0.55, 0.5, 0.2, 0.2]])];
    let value = SetLoss::default().forward(&logits, &boxes, &[], &targets);
    // All classes alike: ln 3 whatever the weights. L1 0.05; IoU 0.15 / 0.25, hull 0.25 x 0.2 = union: GIoU 0.6.
    assert!((value.class - 3f64.ln()).abs() < 1e-5);
    assert!((value.l1 - 0.05).abs() < 1e-6 && (value.giou - 0.4).abs() < 1e-5, "{value:?}");
    assert!((value.total.double_value(&[]) - (3f64.ln() + 5.0 * 0.05 + 2.0 * 0.4)).abs() < 1e-5);
    // An earlier layer with the same result counts once more.
    let earlier = [(logits.shallow_clone(), boxes.shallow_clone())];
    let both = SetLoss::default().forward(&logits, &boxes, &earlier, &targets);
    assert!((both.total.double_value(&[]) - 2.0 * value.total.double_value(&[])).abs() < 1e-5);
    assert_eq!((both.class, both.l1), (value.class, value.l1));
    // A confident wrong "no object" on the query that is matched by class: 0.1 against 1.
    let sure = Tensor::from_slice(&[0f32, 0., 4., 0., 0., 4.]).view([1, 2, 3]);
    let p = |k: f64| k - (2.0 + 4f64.exp()).ln();
    let wanted = -(p(0.0) + 0.1 * p(4.0)) / 1.1;
    assert!((SetLoss::default().forward(&sure, &boxes, &[], &targets).class - wanted).abs() < 1e-5);
}

/// The loss with loops, in double precision, for a matching found by trying all.
fn slow_loss(
    logits: &[f64],
    boxes: &[f64],
    queries: usize,
    classes: usize,
    targets: &[(Vec<i64>, Vec<[f32; 4]>)],
) -> f64 {
    let probability = |b: usize, q: usize, c: usize| {
        let row = &logits[(b * queries + q) * classes..][..classes];
        row[c].exp() / row.iter().map(|v| v.exp()).sum::<f64>()
    };
    let bbox = |v: &[f64]| BBox::from_center(v[0] as f32, v[1] as f32, v[2] as f32, v[3] as f32);
    let giou = |a: &BBox, b: &BBox| {
        let hull = f64::from(a.enclosing(b).area());
        f64::from(a.iou(b)) - (hull - f64::from(a.union_area(b))) / hull
    };
    let count: usize = targets.iter().map(|t| t.0.len()).sum();
    let (mut cross, mut weight, mut l1_sum, mut giou_sum) = (0.0, 0.0, 0.0, 0.0);
    for (b, (own, own_boxes)) in targets.iter().enumerate() {
        let found = |q: usize| &boxes[(b * queries + q) * 4..][..4];
        let l1 = |t: usize, q: usize| -> f64 { (0..4).map(|i| (found(q)[i] - f64::from(own_boxes[t][i])).abs()).sum() };
        let overlap = |t: usize, q: usize| giou(&bbox(found(q)), &bbox(&own_boxes[t].map(f64::from)));
        let cost = |t: usize, q: usize| 5.0 * l1(t, q) - probability(b, q, own[t] as usize) - 2.0 * overlap(t, q);
        let costs: Vec<f64> = (0..own.len() * queries).map(|i| cost(i / queries, i % queries)).collect();
        let best = cheapest(&costs, own.len(), queries);
        // Which of all assignments is the cheapest one.
        let mut wanted = vec![classes - 1; queries];
        let mut order: Vec<usize> = (0..queries).collect();
        let pairs = permutations(&mut order, own.len())
            .into_iter()
            .find(|p| (p.iter().enumerate().map(|(t, &q)| costs[t * queries + q]).sum::<f64>() - best).abs() < 1e-9)
            .unwrap();
        for (t, &q) in pairs.iter().enumerate() {
            wanted[q] = own[t] as usize;
            l1_sum += l1(t, q);
            giou_sum += 1.0 - overlap(t, q);
        }
        for (q, &class) in wanted.iter().enumerate() {
            let w = if class == classes - 1 { 0.1 } else { 1.0 };
            cross -= w * probability(b, q, class).ln();
            weight += w;
        }
    }
    let n = count.max(1) as f64;
    cross / weight + 5.0 * l1_sum / n + 2.0 * giou_sum / n
}

fn permutations(items: &mut Vec<usize>, length: usize) -> Vec<Vec<usize>> {
    if length == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for i in 0..items.len() {
        let first = items.remove(i);
        for rest in permutations(items, length - 1) {
            all.push([vec![first], rest].concat());
        }
        items.insert(i, first);
    }
    all
}

#[test]
fn set_loss_agrees_with_the_slow_version() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (pictures, queries, classes) = (3, 4, 5);
    for _ in 0..20 {
        let logits: Vec<f64> = (0..pictures * queries * classes).map(|_| rng.random_range(-2.0..2.0)).collect();
        let mut bbox = || -> [f32; 4] { std::array::from_fn(|i| rng.random_range(0.1..if i < 2 { 0.9 } else { 0.5 })) };
        let boxes: Vec<f64> = (0..pictures * queries).flat_map(|_| bbox().map(f64::from)).collect();
        let own: Vec<(Vec<i64>, Vec<[f32; 4]>)> = (0..pictures)
            .map(|b| ((0..b as i64 * 2).map(|i| i % 4).collect(), (0..b * 2).map(|_| bbox()).collect()))
            .collect();
        let targets: Vec<SetTarget> = own.iter().map(|(c, b)| target(c, b)).collect();
        let tensor = |v: &[f64], last: usize| {
            Tensor::from_slice(v).to_kind(Kind::Float).view([pictures as i64, queries as i64, last as i64])
        };
        let fast = SetLoss::default().forward(&tensor(&logits, classes), &tensor(&boxes, 4), &[], &targets);
        let slow = slow_loss(&logits, &boxes, queries, classes, &own);
        assert!((fast.total.double_value(&[]) - slow).abs() < 1e-4, "{} {slow}", fast.total.double_value(&[]));
    }
}

#[test]
fn pictures_without_boxes_give_finite_gradients() {
    for targets in [vec![target(&[], &[]), target(&[], &[])], vec![target(&[], &[]), target(&[0; 3], &[[0.5; 4]; 3])]] {
        let logits = Tensor::zeros([2, 2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let raw = Tensor::zeros([2, 2, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        // Three targets for two queries: one is left out.
        let value = SetLoss::default().forward(&logits, &raw.sigmoid(), &[], &targets);
        value.total.backward();
        assert!(value.total.double_value(&[]).is_finite());
        for gradient in [logits.grad(), raw.grad()].iter().filter(|g| g.defined()) {
            assert!(gradient.isfinite().all().int64_value(&[]) == 1);
        }
        assert!(logits.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0);
    }
}

fn scenes(count: usize) -> RenderedScenes {
    let config = RenderedConfig { size: Size::new(96, 96), seed: 0, split: Split::Train, count };
    RenderedScenes::new(config).unwrap()
}

fn small(classes: usize) -> DetrSettings {
    let mut settings = DetrPlan::Tiny.settings(classes);
    settings.detector.backbone.stem_width = 8;
    settings.detector.width = 32;
    settings.detector.feed_forward = 64;
    settings.detector.decoder_layers = 2;
    settings.detector.encoder_layers = 1;
    settings.augmentation = Augmentation::exact(Size::new(96, 96), 0.0);
    settings
}

fn batch_of(set: &dyn PictureSet, augmentation: &Augmentation) -> Batch {
    let options = LoaderOptions { batch: set.len(), threads: 1, seed: 0, epoch: 0, shuffle: false, skip_limit: 0 };
    let all: Vec<usize> = (0..set.len()).collect();
    let mut taken = None;
    batches(set, &all, augmentation, &options, |batch| {
        taken = Some(batch);
        Ok::<_, std::convert::Infallible>(())
    })
    .unwrap();
    taken.unwrap()
}

#[test]
fn a_small_detector_learns_a_few_scenes() {
    tch::set_num_threads(1);
    let set = scenes(4);
    let folder = tempfile::tempdir().unwrap();
    let settings = small(set.vocabulary().object_count());
    let run = RunConfig {
        epochs: 60,
        batch: 4,
        learning_rate: 2e-3,
        max_gradient: 1.0,
        schedule: Schedule::Cosine { warmup: 0.05 },
        ..RunConfig::default()
    };
    let task = DetrTask {
        training: &set,
        validation: Some(&set),
        score_every: 30,
        settings: &settings,
        run: &run,
        weights: None,
        data: "four scenes",
        loader_threads: 1,
        device: Device::Cpu,
    };
    let progress = ProgressBar::hidden();
    let out = folder.path().join("run");
    let options =
        RunOptions { folder: &out, resume: false, stop_after: None, checkpoint_every: None, progress: &progress };
    let (model, finished) = train_detr(&task, &options).unwrap();
    assert!(finished);
    let csv = std::fs::read_to_string(out.join("log.csv")).unwrap();
    let column = |name: &str| csv.lines().next().unwrap().split(',').position(|c| c == name).unwrap();
    let value =
        |epoch: usize, name: &str| csv.lines().nth(epoch).unwrap().split(',').nth(column(name)).unwrap().to_owned();
    let loss = |epoch: usize| value(epoch, "loss").parse::<f64>().unwrap();
    assert!(loss(60) < loss(1) / 2.0, "from {} to {}", loss(1), loss(60));
    assert!(value(29, "map50").is_empty() && !value(30, "map50").is_empty());

    // What is written is what is read, and it detects the same.
    model.save(&out, serde_json::json!({"data": "four scenes"})).unwrap();
    let read = DetrModel::load(&out, Device::Cpu).unwrap();
    assert_eq!(read.settings, model.settings);
    let batch = batch_of(&set, &settings.test_augmentation());
    let (a, b) = (model.detect(&batch), read.detect(&batch));
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a.detections, b.detections);
        assert!(a.detections.len() >= 2, "persons and objects are taken whatever their score");
        assert_eq!(a.tokens.size(), [a.detections.len() as i64, 32]);
        assert_eq!(a.feature.size(), [256, 6, 6]);
    }
    // The token of a detection is that of its query.
    let output = read.network.forward_frozen(&batch.images, &batch.padding);
    for (picture, found) in b.iter().enumerate() {
        for (row, detection) in found.detections.iter().enumerate() {
            let fits = (0..16).filter(|&q| {
                let v = Vec::<f32>::try_from(output.boxes.get(picture as i64).get(q)).unwrap();
                let own = BBox::from_center(v[0], v[1], v[2], v[3]).scale(96.0, 96.0).clip(Size::new(96, 96));
                let token = output.tokens.get(picture as i64).get(q);
                own == detection.bbox && token == found.tokens.get(row as i64)
            });
            assert_eq!(fits.count(), 1, "picture {picture}, detection {row}");
        }
    }
    let scores = evaluate(&read, &set, 2, 1).unwrap();
    assert_eq!(scores.pictures, 4);
    assert!(scores.map50 > 0.1 && scores.mean_recall >= scores.map50, "{scores:?}");

    // Another network's weights and a damaged description are refused.
    let description = out.join("config.json");
    let text = std::fs::read_to_string(&description).unwrap();
    for (from, to, expected) in [
        ("\"queries\": 16", "\"queries\": 9", "query_embed.weight is [16, 32], expected [9, 32]"),
        ("hoi.detr/1", "hoi.detr/7", "schema"),
        ("\"width\": 32", "\"width\": 31", "width"),
        ("\"heads\"", "\"tails\"", "tails"),
    ] {
        std::fs::write(&description, text.replace(from, to)).unwrap();
        let error = DetrModel::load(&out, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn hoi_train(arguments: &[&str], out: &Path, settings: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoi-train"));
    command.args(["detr", "--out", out.to_str().unwrap(), "--settings", settings.to_str().unwrap()]);
    command.args(["--scenes", "24", "--validation-scenes", "8", "--batch", "4", "--epochs", "3", "--device", "cpu"]);
    command.args(arguments);
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_command_survives_being_killed() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.json");
    std::fs::write(&settings, serde_json::to_vec(&small(8)).unwrap()).unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let done = hoi_train(&["--json"], &whole, &settings).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let line: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!((0.0..=1.0).contains(&line["map50"].as_f64().unwrap()) && line["pictures"] == 8, "{line}");
    assert_eq!(text(&done).matches(" of 3, loss ").count(), 3, "a line an epoch: {}", text(&done));

    let mut child = hoi_train(&["--checkpoint-every", "1"], &killed, &settings)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    // As soon as the first checkpoint lies there, in the middle of something.
    while !killed.join("checkpoint.json").exists() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(60));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.join("config.json").exists(), "the run had ended before it was killed");
    let state: Value = serde_json::from_slice(&std::fs::read(killed.join("checkpoint.json")).unwrap()).unwrap();
    assert!(killed.join(state["tensors"].as_str().unwrap()).is_file());
    let anew = hoi_train(&[], &killed, &settings).output().unwrap();
    assert!(!anew.status.success() && text(&anew).contains("--resume"), "{}", text(&anew));
    let other = hoi_train(&["--resume", "--learning-rate", "0.5"], &killed, &settings).output().unwrap();
    assert!(!other.status.success() && text(&other).contains("another learning_rate"), "{}", text(&other));
    let resumed = hoi_train(&["--resume"], &killed, &settings).output().unwrap();
    assert!(resumed.status.success(), "{}", text(&resumed));
    let model = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert!(model(&whole) == model(&killed), "the resumed run ends elsewhere");

    let scored = hoi_train(&["--eval-only"], &killed, &settings).output().unwrap();
    assert!(scored.status.success() && text(&scored).contains("mAP50"), "{}", text(&scored));
    let config: Value = serde_json::from_slice(&std::fs::read(whole.join("config.json")).unwrap()).unwrap();
    assert!(config["training"]["command"].as_str().unwrap().starts_with("hoi-train detr --out"));

    // A disk that is full (no file may be longer than 64 blocks of 512 bytes): the checkpoint before stays.
    #[cfg(unix)]
    {
        let full = folder.path().join("full");
        let stopped = hoi_train(&["--stop-after", "1"], &full, &settings).output().unwrap();
        assert!(stopped.status.success(), "{}", text(&stopped));
        let before = std::fs::read(full.join("checkpoint.json")).unwrap();
        let command = hoi_train(&["--resume"], &full, &settings);
        let line: Vec<&str> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(|a| a.to_str().unwrap()).collect();
        let script = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
        let failed = Command::new("sh").args(["-c", script, "sh"]).args(line).output().unwrap();
        assert!(!failed.status.success() && text(&failed).contains("checkpoint.2.0.safetensors"), "{}", text(&failed));
        assert_eq!(std::fs::read(full.join("checkpoint.json")).unwrap(), before);
        let resumed = hoi_train(&["--resume"], &full, &settings).output().unwrap();
        assert!(resumed.status.success(), "{}", text(&resumed));
        assert!(model(&whole) == model(&full));
    }
}

#[test]
fn wrong_calls_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.json");
    let out = folder.path().join("o");
    let fails = |arguments: &[&str], expected: &str| {
        let output = hoi_train(arguments, &out, &settings).output().unwrap();
        assert!(!output.status.success() && text(&output).contains(expected), "{}", text(&output));
    };
    fails(&[], "settings.json");
    std::fs::write(&settings, "{}").unwrap();
    fails(&[], "does not hold a detector's settings");
    std::fs::write(&settings, serde_json::to_vec(&small(5)).unwrap()).unwrap();
    fails(&[], "the detector has 5 classes, the vocabulary 8");
    std::fs::write(&settings, serde_json::to_vec(&small(8)).unwrap()).unwrap();
    fails(&["--weights", "none.pth"], "none.pth");
    fails(&["--precision", "half"], "bf16");
    fails(&["--warmup", "2"], "schedule.warmup is 2");
    fails(&["--eval-only"], "config.json");
}
