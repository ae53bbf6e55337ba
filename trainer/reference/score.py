#!/usr/bin/env python3
"""Scores a file of predictions by the official rules, independently of the trainer: nothing but Python's own library, and slow.

Usage: trainer/reference/score.py hico-det PREDICTIONS ROOT
       trainer/reference/score.py v-coco PREDICTIONS ROOT [SPLIT]

PREDICTIONS is what `hoi-train score` takes; its scores should all differ, since equal ones are taken in the order of the file
here. ROOT holds instances_test2015.json and known_object_test.json, or vcoco_SPLIT.json and instances_vcoco_all_2014.json, each
also with .gz. Prints a JSON object as `hoi-train score --json` does, with the same keys.
"""

import collections
import gzip
import json
import sys
from pathlib import Path


def document(root, name):
    for opened, path in ((open, Path(root, name)), (gzip.open, Path(root, name + ".gz"))):
        if path.exists():
            return json.load(opened(path, "rt"))
    sys.exit(f"{root} has no {name}")


def lines(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt") as file:
        yield from (json.loads(line) for line in file if line.strip())


def iou(a, b, pixel):
    """pixel = 1 where x2 and y2 are the last pixels inside."""
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]) + pixel)
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]) + pixel)
    areas = sum(max(0, c[2] - c[0] + pixel) * max(0, c[3] - c[1] + pixel) for c in (a, b))
    return w * h / (areas - w * h) if areas > w * h else 0


def mean(values):
    values = [v for v in values if v is not None]
    return 100 * sum(values) / len(values) if values else None


def eleven_points(hits, positives):
    best, right = [0] * 11, 0
    for seen, hit in enumerate(hits, 1):
        right += hit
        for t in range(11):
            if 10 * right >= t * positives:
                best[t] = max(best[t], right / seen)
    return sum(best) / 11


def hico_det(predictions, root):
    truth = document(root, "instances_test2015.json")
    known = {}
    for entry in document(root, "known_object_test.json")["objects"].values():
        for interaction in range(entry["hois"][0], entry["hois"][1] + 1):
            known[interaction] = set(entry["images"])
    pairs = collections.defaultdict(lambda: collections.defaultdict(list))
    for name, a in zip(truth["filenames"], truth["annotation"]):
        for human, thing, interaction in zip(a["boxes_h"], a["boxes_o"], a["hoi"]):
            pairs[interaction][name].append([(b[0] - 1, b[1] - 1, b[2], b[3]) for b in (human, thing)])
    detections = collections.defaultdict(list)
    for line in lines(predictions):
        for t in line["triplets"]:
            detections[t["interaction"]].append((t["score"], line["image"], t["human"], t["object"]))

    def precision(interaction, counts):
        annotated = {name: found for name, found in pairs[interaction].items() if counts(interaction, name)}
        taken, hits = set(), []
        for _, name, human, thing in sorted(detections[interaction], key=lambda d: -d[0]):
            if not counts(interaction, name):
                continue
            overlaps = [min(iou(h, human, 0), iou(o, thing, 0)) for h, o in annotated.get(name, [])]
            best = overlaps.index(max(overlaps)) if overlaps else None
            hits.append(bool(overlaps) and overlaps[best] >= 0.5 and (name, best) not in taken)
            if hits[-1]:
                taken.add((name, best))
        positives = sum(map(len, annotated.values()))
        return eleven_points(hits, positives) if positives else None

    count = len(truth["correspondence"])
    rare = set(truth["rare"])
    scores = {}
    number = lambda name: int(Path(name).stem.split("_")[-1])
    for mode, counts in (("default", lambda k, name: True), ("known_object", lambda k, name: number(name) in known[k])):
        found = [precision(k, counts) for k in range(count)]
        scores[mode] = {"full": mean(found), "rare": mean(found[k] for k in range(count) if k in rare),
                        "non_rare": mean(found[k] for k in range(count) if k not in rare)}
    return scores


def envelope(hits, positives):
    area, right, steps = 0, 0, []
    for seen, hit in enumerate(hits, 1):
        right += hit
        steps.append((right / positives, right / seen))
    best, after = 0, None
    for recall, precision in reversed(steps):
        if after is not None:
            area += (after - recall) * best
        best, after = max(best, precision), recall
    return area + (after * best if steps else 0)


def v_coco(predictions, root, split="test"):
    instances = document(root, "instances_vcoco_all_2014.json")
    sizes = {i["id"]: (i["width"], i["height"]) for i in instances["images"]}
    names = {i["file_name"]: i["id"] for i in instances["images"]}
    people = {c["id"] for c in instances["categories"] if c["name"] == "person"}
    actions = document(root, f"vcoco_{split}.json")
    images, boxes, persons = set(actions[0]["image_id"]), {}, collections.defaultdict(list)
    for a in instances["annotations"]:
        if a["image_id"] not in images:
            continue
        (width, height), (x, y, w, h) = sizes[a["image_id"]], a["bbox"]
        box = [x, y, x + max(0, w - 1), y + max(0, h - 1)]
        box = [min(max(0, v), limit - 1) for v, limit in zip(box, (width, height) * 2)]
        if a["area"] > 0 and box[2] > box[0] and box[3] > box[1]:
            boxes[a["id"]] = box
            if a["category_id"] in people:
                persons[a["image_id"]].append(a["id"])
    annotated = set(actions[0]["ann_id"])
    detections = collections.defaultdict(list)
    for line in lines(predictions):
        for t in line["triplets"]:
            detections[t["verb"]].append((t["score"], names[line["image"]], t["human"], t["role"]))

    def judge(verb, does, role_of, scenario):
        taken, hits = set(), []
        for _, image, human, role in sorted(detections[verb], key=lambda d: -d[0]):
            if not persons[image]:
                continue
            overlaps = [iou(boxes[p], human, 1) for p in persons[image]]
            person = persons[image][overlaps.index(max(overlaps))]
            if person not in annotated:
                continue
            wanted = role_of.get(person, 0) if role_of is not None else None
            if wanted is None:
                role_right = True
            elif wanted == 0:
                role_right = scenario == 2 or role is None or not any(role)
            else:
                role_right = role is not None and iou(boxes[wanted], role, 1) >= 0.5
            right = person in does and max(overlaps) >= 0.5 and role_right
            hits.append(right and person not in taken)
            if right:
                taken.add(person)
        return envelope(hits, len(does)) if does else None

    scores, means, agents = {}, {}, []
    for a in actions:
        rows = len(a["ann_id"])
        does = {p for p, label in zip(a["ann_id"], a["label"]) if label and p in boxes}
        agents.append(judge(a["action_name"], does, None, 1))
        for index, role in enumerate(a["role_name"]):
            if role != "agent":
                ids = a["role_object_id"][index * rows:(index + 1) * rows]
                role_of = {p: r for p, r, label in zip(a["ann_id"], ids, a["label"]) if label}
                verb = f"{a['action_name']} {role}"
                scores[verb] = [judge(verb, does, role_of, scenario) for scenario in (1, 2)]
    for key, kept in (("", lambda verb: verb != "point instr"), ("with_point", lambda verb: True)):
        both = {f"scenario_{s + 1}": mean(pair[s] for verb, pair in scores.items() if kept(verb)) for s in (0, 1)}
        means.update({key: both} if key else both)
    alone = any(detections[a["action_name"]] for a in actions)
    return {**means, "agent": mean(agents) if alone else None}


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("hico-det", "v-coco"):
        sys.exit(__doc__.strip())
    print(json.dumps((hico_det if sys.argv[1] == "hico-det" else v_coco)(*sys.argv[2:])))
