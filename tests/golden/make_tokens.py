#!/usr/bin/env python3
"""Golden tokens of DEIMv2: what its decoder knows of each detection, and values of a late backbone map, from ONNX Runtime.

The graph sorts its queries by score, and a query can appear under several classes. Here the row of a detection is found by what it says:
the query whose class probability and box are those of the detection. The tensor of indices inside the graph is not read.

    python3 -m venv env && env/bin/pip install numpy pillow onnx onnxruntime
    env/bin/python tests/golden/make_tokens.py        # options as for make_detections.py, which lies beside this file
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

from make_detections import ROOT, planes, resize, sigmoid

MODEL, PHOTO, FLOOR = "deimv2_femto_416", "ride_bicycles.jpg", 0.1
DECODER = "/model/decoder/decoder"
TOKENS = f"{DECODER}/layers.2/norm3/Mul_1_output_0"
LOGITS = f"{DECODER}/lqe_layers.2/Add_output_0"
BOXES = f"{DECODER}/Concat_6_output_0"
FEATURE = "/model/backbone/stages.2/blocks/blocks.0/aggregation/aggregation.1/lab/Add_output_0"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=ROOT / "../shared/data/weights")
    parser.add_argument("--photos", type=Path, default=ROOT / "tests/photos")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()

    card = json.loads((arguments.weights / f"{MODEL}.json").read_text())
    model = onnx.load(arguments.weights / card["file"])
    for name in (TOKENS, LOGITS, BOXES, FEATURE):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.asarray(Image.open(arguments.photos / PHOTO).convert("RGB"))
    height, width = picture.shape[:2]
    feed = {"images": planes(resize(picture, 416, 416) / 255), "orig_target_sizes": np.array([[width, height]], np.int64)}
    names = ["labels", "boxes", "scores", TOKENS, LOGITS, BOXES, FEATURE]
    labels, boxes, scores, tokens, logits, raw, feature = (a[0] for a in session.run(names, feed))

    cx, cy, w, h = raw.astype(np.float64).T
    raw = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1) * [width, height, width, height]
    probabilities = sigmoid(logits)
    detections = []
    for row in np.flatnonzero(scores >= FLOOR):
        far = np.abs(raw - boxes[row]).max(1) + 1e3 * np.abs(probabilities[:, labels[row]] - scores[row])
        query = int(far.argmin())
        assert far[query] < 0.01 and np.sort(far)[1] > 0.1, f"detection {row}: no query, or two, say this"
        detections.append({
            "class": card["labels_coco80"][labels[row]], "score": round(float(scores[row]), 5),
            "box": [round(float(v), 3) for v in boxes[row]], "query": query,
            "token": [round(float(v), 5) for v in tokens[query]],
        })
    # The largest value of every 64th channel.
    cells = [[c, *map(int, np.unravel_index(feature[c].argmax(), feature[c].shape))] for c in range(3, len(feature), 64)]
    document = {
        "model": MODEL, "sha256": card["sha256"], "photo": PHOTO, "score_floor": FLOOR,
        "library versions": {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__},
        "feature": {"shape": list(feature.shape), "mean": float(feature.mean()), "largest": float(np.abs(feature).max()),
                    "cells": [{"at": at, "value": round(float(feature[tuple(at)]), 5)} for at in cells]},
        "queries": len(tokens), "width": tokens.shape[1], "detections": detections,
    }
    text = json.dumps(document, indent=1)
    # One row of numbers a line.
    lines, row = [], None
    for line in text.splitlines():
        if row is not None:
            row.append(line.strip())
            if line.strip().startswith("]"):
                lines.append(" ".join(row).replace("[ ", "[").replace(" ]", "]"))
                row = None
        elif line.endswith("[") and any(k in line for k in ('"box"', '"token"', '"at"', '"shape"')):
            row = [line]
        else:
            lines.append(line)
    (arguments.out / f"tokens_{MODEL}.json").write_text("\n".join(lines) + "\n")
    print(f"{PHOTO}: {len(detections)} detections of {len(tokens)} queries")


if __name__ == "__main__":
    main()
