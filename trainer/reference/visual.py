"""Writes visual.safetensors: tiny random networks of `transformers` and PyTorch, their inputs and their outputs; and archive.pth
and older.pth: a state dict in both forms of `torch.save`.

The test suite loads them through the trainer's own weight mapping and compares. Run once, with torch and transformers:

    python trainer/reference/visual.py

Weights lie under `detr.` (the keys a saved DetrForObjectDetection has), `encoder.` (torch.nn.TransformerEncoderLayer) and
`attention.` (torch.nn.MultiheadAttention, keys and values narrower than queries); inputs under `in.`, outputs under `out.`.
The pictures are bytes; the networks see (x / 255 - 0.5) * 4.
"""

import tempfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig, ResNetModel

HERE = Path(__file__).parent
STEM, WIDTH, HEADS, INNER, QUERIES, CLASSES = 4, 16, 2, 24, 6, 3
DEPTHS = [1, 2, 1, 1]


def randomise(module, generator):
    """Every parameter and statistic is drawn, so that no bias is zero and no batch norm the identity."""
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            continue
        if name.endswith("running_var"):
            drawn = torch.rand(value.shape, generator=generator) + 0.5
        elif value.dim() > 1:
            fan = value[0].numel()
            drawn = torch.randn(value.shape, generator=generator) * (1.5 / fan) ** 0.5
        elif "norm" in name and name.endswith("weight"):
            drawn = 1 + 0.3 * torch.randn(value.shape, generator=generator)
        else:
            drawn = 0.2 * torch.randn(value.shape, generator=generator)
        value.copy_(drawn)


def detector(generator, tensors):
    backbone = ResNetConfig(
        embedding_size=STEM,
        hidden_sizes=[4 * STEM, 8 * STEM, 16 * STEM, 32 * STEM],
        depths=DEPTHS,
        layer_type="bottleneck",
        hidden_act="relu",
        out_features=["stage4"],
    )
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=WIDTH,
        num_queries=QUERIES,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=INNER,
        decoder_ffn_dim=INNER,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        num_labels=CLASSES,
    )
    detr = DetrForObjectDetection(config).eval()
    randomise(detr, generator)
    with tempfile.TemporaryDirectory() as folder:
        detr.save_pretrained(folder)
        saved = load_file(Path(folder) / "model.safetensors")
    tensors |= {f"detr.{name}": value for name, value in saved.items()}

    pictures = torch.randint(0, 256, (2, 3, 96, 128), generator=generator, dtype=torch.uint8)
    seen = torch.ones(2, 96, 128, dtype=torch.long)
    seen[1, 70:] = 0
    seen[1, :, 90:] = 0
    # The batch's padding is grey.
    pictures = torch.where(seen[:, None] == 1, pictures, torch.full_like(pictures, 127))
    values = (pictures.float() / 255 - 0.5) * 4
    # After the first decoder layer. (With `auxiliary_loss` the package feeds normalised tokens into the next layer, which DETR does
    # not.)
    after = {}
    detr.model.decoder.layers[0].register_forward_hook(lambda _, __, tokens: after.update(first=tokens))
    out = detr(pixel_values=values, pixel_mask=seen)
    first = detr.model.decoder.layernorm(after["first"])
    body = "model.backbone.conv_encoder.model."
    resnet = ResNetModel(backbone).eval()
    alone = {name.removeprefix(body): value for name, value in saved.items() if name.startswith(body)}
    missing, unexpected = resnet.load_state_dict(alone, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    tensors |= {
        "in.pictures": pictures,
        "in.padding": (seen == 0).to(torch.uint8),
        "out.feature": resnet(values).last_hidden_state,
        "out.tokens": out.last_hidden_state,
        "out.logits": out.logits,
        "out.boxes": out.pred_boxes,
        "out.first.logits": detr.class_labels_classifier(first),
        "out.first.boxes": detr.bbox_predictor(first).sigmoid(),
    }


def layers(generator, tensors):
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True
    tokens = torch.randn(2, 7, WIDTH, generator=generator)
    encoder = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, INNER, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    ).eval()
    randomise(encoder, generator)
    encoded = encoder(tokens, src_key_padding_mask=padding)
    # On padding, the optimised path writes zeros.
    encoded = encoded.masked_fill(padding[..., None], 0)

    words = torch.randn(2, 7, 10, generator=generator)
    query = torch.randn(2, 3, WIDTH, generator=generator)
    attention = torch.nn.MultiheadAttention(WIDTH, HEADS, kdim=10, vdim=10, batch_first=True).eval()
    randomise(attention, generator)
    drawn, _ = attention(query, words, words, key_padding_mask=padding)
    tensors |= {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {f"attention.{name}": value for name, value in attention.state_dict().items()}
    tensors |= {
        "in.tokens": tokens,
        "in.tokens.padding": padding.to(torch.uint8),
        "in.words": words,
        "in.query": query,
        "out.encoded": encoded,
        "out.drawn": drawn,
    }


def state_dicts():
    base = torch.arange(24, dtype=torch.float32)
    state = OrderedDict(
        {
            "whole.weight": torch.nn.Parameter(base.view(4, 6) / 4),
            # Views of one storage, the second with other strides.
            "part.weight": base[6:12].view(2, 3),
            "part.turned": base.view(4, 6).t()[1:3],
            "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
            "brain": torch.tensor([1.5, -0.25], dtype=torch.bfloat16),
            "double": torch.tensor([0.125], dtype=torch.float64),
            "count": torch.tensor(70000),
            "flag": torch.tensor([True, False]),
        }
    )
    rest = {"epoch": 3, "loss": 0.5, "args": Namespace(lr=1e-4, tags={"a", "b"}), "optimizer": {"state": {0: base[:2].clone()}}}
    whole = {"model": state, **rest}
    torch.save(whole, HERE / "archive.pth")
    torch.save(whole, HERE / "older.pth", _use_new_zipfile_serialization=False)


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(20231113)
    tensors = {}
    detector(generator, tensors)
    layers(generator, tensors)
    state_dicts()
    save_file({name: value.contiguous() for name, value in tensors.items()}, HERE / "visual.safetensors")


if __name__ == "__main__":
    main()
