"""Writes efficientnet_lite.safetensors: a tiny random EfficientNet-Lite of the package efficientnet_lite_pytorch, pictures, and what
it makes of them.

The test suite loads it through the trainer's own weight mapping and compares. Run once, with torch, safetensors and
efficientnet_lite_pytorch 0.1.0:

    python trainer/reference/efficientnet_lite.py

Parameters lie under `model.` (f16, and the network computes with just these values), pictures (bytes, one side odd and one even, so
that padding of both kinds occurs) under `in.`, outputs under `out.`. Stem and head are scaled too here, to keep the file small.
"""

from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import efficientnet_lite
from safetensors.torch import save_file

HERE = Path(__file__).parent
WIDTH, CLASSES = 0.05, 5
# The blocks whose results the maps at strides 2, 4, 8 and 16 are.
TAPS = {0: "tap_2", 2: "tap_4", 4: "tap_8", 10: "tap_16"}


def randomise(model, generator):
    """Every parameter and statistic is drawn, so that no bias is zero and no batch norm the identity."""
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        if name.endswith("running_var"):
            drawn = torch.rand(value.shape, generator=generator) + 0.5
        elif value.dim() > 1:
            drawn = torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        elif "_bn" in name and name.endswith("weight"):
            drawn = 1 + 0.3 * torch.randn(value.shape, generator=generator)
        else:
            drawn = 0.2 * torch.randn(value.shape, generator=generator)
        value.copy_(drawn.half())


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(20231121)
    # Without a picture size the package pads as TensorFlow does for the size at hand.
    blocks, sizes = efficientnet_lite(width_coefficient=WIDTH, depth_coefficient=1.0, image_size=None, num_classes=CLASSES)
    # The package keeps the first stride of a stage as a list, which it never finds equal to 1: in networks as narrow as this one, where
    # channels do not change there, the residual that TensorFlow's code adds would be lost.
    blocks = [block._replace(stride=block.stride[0]) for block in blocks]
    model = EfficientNet(blocks, sizes._replace(fix_head_stem=False)).eval()
    randomise(model, generator)
    tensors = {
        f"model.{name}": value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()
    }
    pictures = torch.randint(0, 256, (2, 3, 45, 48), generator=generator, dtype=torch.uint8)
    tensors["in.pictures"] = pictures
    for number, name in TAPS.items():
        model._blocks[number].register_forward_hook(lambda _, __, y, name=name: tensors.update({f"out.{name}": y.clone()}))
    values = (pictures.float() - 127) / 128
    tensors["out.logits"] = model(values)
    tensors["out.map"] = model.extract_features(values)
    tensors["out.pooled"] = tensors["out.map"].mean((2, 3))
    save_file({name: value.contiguous() for name, value in tensors.items()}, HERE / "efficientnet_lite.safetensors")


if __name__ == "__main__":
    main()
