#!/usr/bin/env python3
"""Golden detections: an implementation of the detectors' preprocessing and decoding that shares nothing with the Rust one.

It follows the cards beside the weights (anchors, decoding formulae, channel order, class list), runs the graphs in ONNX Runtime and writes
one `detections_<model>.json` a model beside this file.

    python3 -m venv env && env/bin/pip install numpy pillow onnxruntime
    env/bin/python tests/golden/make_detections.py                       # all models, photos decoded by Pillow
    env/bin/python tests/golden/make_detections.py --model yolox_nano    # one model
    env/bin/python tests/golden/make_detections.py --pixels DIR          # DIR/<stem>.png in place of the photos of that stem
    env/bin/python tests/golden/make_detections.py --noise 20            # writes nothing; how far scores move when each pixel is off by 1

Options `--weights` (default ../shared/data/weights, from the repository's root), `--photos` (tests/photos) and `--out` name other folders.

What is computed, the same for all models:
- resize: bilinear, half-pixel centres, two taps a side, no antialiasing, edges clamped, in float, not rounded;
- one class an anchor (the largest score), anchors below 0.05 dropped, the best 300 kept, per-class NMS that drops IoU > 0.5;
- boxes clipped to the picture, xyxy in pixels of the photo, before NMS.
"""

import argparse
import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
from PIL import Image

FLOOR, MOST, NMS_IOU = 0.05, 300, 0.5
ROOT = Path(__file__).resolve().parents[2]
MODELS = [
    "ssdlite_mnv2_coco_300", "nanodet_g_416", "nanodet_plus_m_416", "nanodet_plus_m15x_416", "yolox_nano", "deimv2_femto_416",
]


def resize(picture, width, height):
    """[H, W, 3] -> [height, width, 3] floats: bilinear with half-pixel centres."""
    picture = picture.astype(np.float64)
    for axis, target in ((0, height), (1, width)):
        source = picture.shape[axis]
        centre = (np.arange(target) + 0.5) * source / target - 0.5
        low = np.floor(centre).astype(int)
        weight = (centre - low).reshape([-1 if a == axis else 1 for a in range(3)])
        before = np.take(picture, np.clip(low, 0, source - 1), axis)
        after = np.take(picture, np.clip(low + 1, 0, source - 1), axis)
        picture = before * (1 - weight) + after * weight
    return picture


def planes(picture):
    """[H, W, 3] -> [1, 3, H, W] f32."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def distances(logits, bins):
    """Distribution logits [K, 4 * bins] -> mean bin [K, 4]."""
    logits = logits.astype(np.float64).reshape(-1, 4, bins)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return (p / p.sum(-1, keepdims=True)) @ np.arange(bins)


def cells(n):
    """Columns x and rows y of an n x n grid, row-major."""
    y, x = np.divmod(np.arange(n * n), n)
    return x, y


class Ssd:
    def __init__(self, card):
        self.columns = np.array(card["id91_to_coco80"]["columns"])
        scales = [0.2 + 0.75 * level / 5 for level in range(6)] + [1.0]
        anchors = []
        for level, f in enumerate([19, 10, 5, 3, 2, 1]):
            s = scales[level]
            if level == 0:
                shapes = [(0.1, 1), (s, 2), (s, 0.5)]
            else:
                shapes = [(s, 1), (s, 2), (s, 0.5), (s, 3), (s, 1 / 3), ((s * scales[level + 1]) ** 0.5, 1)]
            for y in range(f):
                for x in range(f):
                    anchors += [((y + 0.5) / f, (x + 0.5) / f, s / r**0.5, s * r**0.5) for s, r in shapes]
        self.cy, self.cx, self.h, self.w = np.array(anchors).T

    def __call__(self, run, picture):
        H, W = picture.shape[:2]
        boxes, logits = run(["boxes", "logits"], {"input": planes(resize(picture, 300, 300) * 2 / 255 - 1)})
        ty, tx, th, tw = boxes[0, :, 0].astype(np.float64).T
        cy, cx = ty / 10 * self.h + self.cy, tx / 10 * self.w + self.cx
        h, w = np.exp(th / 5) * self.h, np.exp(tw / 5) * self.w
        return sigmoid(logits[0][:, self.columns]), np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1) * [W, H, W, H]


def nanodet_input(picture):
    bgr = resize(picture, 416, 416)[..., ::-1]
    return planes((bgr - [103.53, 116.28, 123.675]) / [57.375, 57.12, 58.395])


def nanodet_boxes(picture, cx, cy, stride, d):
    """Centres in input pixels, distances in strides -> boxes in picture pixels."""
    H, W = picture.shape[:2]
    d = d * np.reshape(stride, (-1, 1))
    box = np.stack([cx - d[:, 0], cy - d[:, 1], cx + d[:, 2], cy + d[:, 3]], 1)
    return box / 416 * [W, H, W, H]


class NanodetG:
    def __init__(self, card):
        pass

    def __call__(self, run, picture):
        outputs = run([f"out{i}" for i in range(6)], {"input": nanodet_input(picture)})
        scores, boxes = [], []
        for level, s in enumerate((8, 16, 32)):
            x, y = cells(416 // s)
            scores.append(outputs[level][0])
            d = distances(outputs[3 + level][0], 11)
            boxes.append(nanodet_boxes(picture, (x + 0.5) * s, (y + 0.5) * s, s, d))
        return np.concatenate(scores), np.concatenate(boxes)


class NanodetPlus:
    def __init__(self, card):
        grid = [np.stack([*cells(n), np.full(n * n, 1)], 1) * s for s, n in ((8, 52), (16, 26), (32, 13), (64, 7))]
        self.cx, self.cy, self.stride = np.concatenate(grid).T

    def __call__(self, run, picture):
        scores, dist = run(["scores", "dist"], {"data": nanodet_input(picture)})
        return scores[0], nanodet_boxes(picture, self.cx, self.cy, self.stride, distances(dist[0], 8))


class Yolox:
    def __init__(self, card):
        grid = [np.stack([*cells(416 // s), np.full((416 // s) ** 2, s)], 1) for s in (8, 16, 32)]
        self.x, self.y, self.stride = np.concatenate(grid).T

    def __call__(self, run, picture):
        H, W = picture.shape[:2]
        r = min(416 / W, 416 / H)
        w, h = int(W * r), int(H * r)
        canvas = np.full((416, 416, 3), 114.0)
        canvas[:h, :w] = resize(picture, w, h)[..., ::-1]
        (o,) = run(["output"], {"images": planes(canvas)})
        o = o[0].astype(np.float64)
        cx, cy = (o[:, 0] + self.x) * self.stride, (o[:, 1] + self.y) * self.stride
        bw, bh = np.exp(o[:, 2]) * self.stride, np.exp(o[:, 3]) * self.stride
        box = np.stack([cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2], 1)
        # One scale an axis: the sides of the pasted picture are whole pixels.
        return o[:, 4:5] * o[:, 5:], box * [W / w, H / h, W / w, H / h]


class Deim:
    def __init__(self, card):
        pass

    def __call__(self, run, picture):
        H, W = picture.shape[:2]
        feed = {"images": planes(resize(picture, 416, 416) / 255), "orig_target_sizes": np.array([[W, H]], np.int64)}
        labels, boxes, scores = run(["labels", "boxes", "scores"], feed)
        # One label a row: as a table with that column filled, to share the rest of the way.
        table = np.zeros((len(labels[0]), 80))
        table[np.arange(len(table)), labels[0]] = scores[0]
        return table, boxes[0].astype(np.float64)


FAMILIES = {"ssdlite_mnv2_coco_300": Ssd, "nanodet_g_416": NanodetG, "nanodet_plus_m_416": NanodetPlus,
            "nanodet_plus_m15x_416": NanodetPlus, "yolox_nano": Yolox, "deimv2_femto_416": Deim}


def iou(box, others):
    """One box against many; no area, no overlap."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inter = np.prod(np.clip(high - low, 0, None), 1)
    area = np.prod(np.clip(box[2:] - box[:2], 0, None)) + np.prod(np.clip(others[:, 2:] - others[:, :2], 0, None), 1)
    return inter / np.maximum(area - inter, 1e-12)


def detect(family, run, picture):
    """[(class index, score, box)] by falling score."""
    H, W = picture.shape[:2]
    table, boxes = family(run, picture)
    classes, scores = table.argmax(1), table.max(1)
    boxes = np.clip(boxes, 0, [W, H, W, H])
    best = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= FLOOR][:MOST]
    kept = []
    while best:
        i, best = best[0], np.array(best[1:], int)
        kept.append((int(classes[i]), float(scores[i]), boxes[i]))
        best = list(best[(classes[best] != classes[i]) | (iou(boxes[i], boxes[best]) <= NMS_IOU)])
    return kept


def score_changes(family, run, picture, times, rng):
    """Largest score and box change of detections of at least 0.2 with every pixel value off by -1, 0 or +1, and how many found no partner."""
    moved, shifted, lost = [0.0], [0.0], 0
    before = [d for d in detect(family, run, picture) if d[1] >= 0.2]
    for _ in range(times):
        off = picture.astype(int) + rng.integers(-1, 2, picture.shape)
        after = detect(family, run, np.clip(off, 0, 255).astype(np.uint8))
        for c, score, box in before:
            partners = [d for d in after if d[0] == c and iou(box, d[2][None])[0] > 0.7]
            if partners:
                partner = min(partners, key=lambda d: abs(d[1] - score))
                moved.append(abs(partner[1] - score))
                shifted.append(float(np.abs(partner[2] - box).max()))
            else:
                lost += 1
    return moved, shifted, lost


def write(path, document, photos):
    """One detection a line."""
    head = json.dumps(document, indent=1)[:-2]
    rows = []
    for photo, detections in photos:
        lines = ",\n".join(
            '   {"class": %s, "score": %.5f, "box": [%s]}' % (json.dumps(c), s, ", ".join("%.3f" % v for v in b))
            for c, s, b in detections)
        rows.append("  %s, \"detections\": [%s]}" % (json.dumps(photo)[:-1], f"\n{lines}\n  " if lines else ""))
    path.write_text(head + ',\n "photos": [\n' + ",\n".join(rows) + "\n ]\n}\n")
    json.loads(path.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=MODELS, help="only this model; may be repeated")
    parser.add_argument("--weights", type=Path, default=ROOT / "../shared/data/weights")
    parser.add_argument("--photos", type=Path, default=ROOT / "tests/photos")
    parser.add_argument("--pixels", type=Path, help="folder with PNG copies of the photos")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--noise", type=int, default=0, metavar="N", help="measure N noisy copies of each photo; writes nothing")
    arguments = parser.parse_args()

    names = [p["file"] for p in json.loads((arguments.photos / "licenses.json").read_text())["photos"]]
    pictures = {}
    for name in names:
        path = arguments.pixels / f"{Path(name).stem}.png" if arguments.pixels else arguments.photos / name
        pictures[name] = np.asarray(Image.open(path).convert("RGB"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for model in arguments.model or MODELS:
        card = json.loads((arguments.weights / f"{model}.json").read_text())
        weights = (arguments.weights / card["file"]).read_bytes()
        sha256 = hashlib.sha256(weights).hexdigest()
        if sha256 != card["sha256"]:
            raise SystemExit(f"{card['file']}: sha256 {sha256}, the card says {card['sha256']}")
        run = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"]).run
        family, labels = FAMILIES[model](card), card["labels_coco80"]
        if arguments.noise:
            for name, picture in pictures.items():
                moved, shifted, lost = score_changes(family, run, picture, arguments.noise, np.random.default_rng(0))
                print(f"{model} {name}: score median {np.median(moved):.5f} largest {max(moved):.5f}, "
                      f"box largest {max(shifted):.2f} px, {lost} lost")
            continue
        photos = []
        for name, picture in pictures.items():
            found = [(labels[c], s, b) for c, s, b in detect(family, run, picture)]
            photos.append(({"file": name, "width": picture.shape[1], "height": picture.shape[0]}, found))
        versions = {"python": platform.python_version(), "numpy": np.__version__, "pillow": PIL.__version__,
                    "onnxruntime": onnxruntime.__version__}
        pixels = "PNG copies (--pixels)" if arguments.pixels else "photos decoded by Pillow"
        document = {"model": model, "sha256": sha256, "library versions": versions, "pixels": pixels, "score_floor": FLOOR,
                    "nms_iou": NMS_IOU, "most_before_nms": MOST}
        write(arguments.out / f"detections_{model}.json", document, photos)
        print(f"{model}: {', '.join(str(len(d)) for _, d in photos)} detections")


if __name__ == "__main__":
    main()
