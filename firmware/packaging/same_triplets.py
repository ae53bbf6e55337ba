#!/usr/bin/env python3
"""Whether two frames (schema hoi.frame/1) of the same photo, computed on different CPUs, have the same triplets within tolerance.

    firmware/packaging/same_triplets.py EXPECTED SEEN

Both are files with the frame on their first line, as `hoi detect --json` prints it. Exit status: 0 the same, 1 not.
"""

import json
import sys

# Another CPU rounds otherwise: scores may differ by this, edges of boxes by so many pixels.
SCORE_TOLERANCE = 0.03
PIXEL_TOLERANCE = 4.0
# Triplets from this score on are compared; one that is that near to it may be missing on either side.
LEAST_SCORE = 0.2


class Different(Exception):
    """Which triplet is not there twice."""


def triplets(frame):
    """Those of a frame that may be compared."""
    return [t for t in frame["triplets"] if t["score"] >= LEAST_SCORE - SCORE_TOLERANCE]


def same(a, b):
    """Whether two triplets are of the same pair and verb; boxes within the tolerance."""

    def alike(one, other):
        return all(abs(x - y) <= PIXEL_TOLERANCE for x, y in zip(one["box"], other["box"]))

    if a["verb"] != b["verb"] or not alike(a["human"], b["human"]) or (a["object"] is None) != (b["object"] is None):
        return False
    return a["object"] is None or (a["object"]["class"] == b["object"]["class"] and alike(a["object"], b["object"]))


def compare(expected, seen, here, there):
    """Raises `Different` unless both have the same triplets; `here` and `there` say whose they are."""
    for one, others, where in [(expected, seen, there), (seen, expected, here)]:
        for triplet in (t for t in one if t["score"] >= LEAST_SCORE):
            scores = [t["score"] for t in others if same(triplet, t)]
            said = f"{triplet['verb']} {(triplet['object'] or {}).get('class', '-')} {triplet['score']:.3f}"
            if not scores:
                raise Different(f"{said}: not found by {where}")
            if all(abs(score - triplet["score"]) > SCORE_TOLERANCE for score in scores):
                raise Different(f"{said}: {where} says {scores}")


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    frames = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            frames.append(json.loads(file.readline()))
    expected, seen = map(triplets, frames)
    try:
        if not expected:
            raise Different("no triplet is expected: nothing to compare with")
        compare(expected, seen, *sys.argv[1:])
    except Different as difference:
        print(f"same_triplets: {difference}", file=sys.stderr)
        return 1
    print(f"{len(expected)} triplets, the same within {SCORE_TOLERANCE} and {PIXEL_TOLERANCE:.0f} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
