#!/usr/bin/env python3
"""Writes clip/: tiny random CLIPs of transformers and OpenCLIP, their tokenizers, and what these make of some pictures and texts.

Usage: trainer/reference/clip.py

Needs torch, transformers, open_clip_torch and safetensors (made with torch 2.11, transformers 5.23, open_clip_torch 3.3). clip/vit is
a CLIPModel (vision transformer) in the layout of the Hugging Face hub; clip/resnet an OpenCLIP with ModifiedResNet under OpenAI's
names, in half precision, with a list of merges as OpenAI's. Each has expected.safetensors beside it, and clip/texts.json holds the
texts and their ids, on which both packages agree. clip/script.pt is a small module of torch.jit.save, and clip/script.safetensors its
state dict. The tests in trainer/tests/suite/clip.rs compare the trainer with these files; running this again gives the same ones up
to rounding. Pictures are computed, not stored: see `picture`.
"""

import collections
import gzip
import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

HERE = Path(__file__).resolve().parent / "clip"
CORPUS = "a person riding a bicycle , a person holding a cup , a person sitting at a dining table , riding a horse , holding"
TEXTS = ["a person riding a bicycle", "A  Person is\tHOLDING a cup!", "café & 2 dogs' toys, isn't it?", "\u2602 日本 x2y", ""]
MERGES, CONTEXT, FEATURE, HEAD_WIDTH, GRID = 30, 40, 12, 8, 3


def picture(batch, height, width):
    """Numbers from -1 to 1 that repeat late; the tests compute the same."""
    i = torch.arange(batch * 3 * height * width)
    return (((i * 31 + i * i * 17) % 251).float() / 125 - 1).view(batch, 3, height, width)


def merges():
    """Byte pairs of the corpus, the most frequent first; ties in alphabetical order."""
    words = [(*word[:-1], word[-1] + "</w>") for word in CORPUS.split()]
    found = []
    while len(found) < MERGES:
        counts = collections.Counter(pair for word in words for pair in zip(word, word[1:]))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        found.append(best)
        for n, word in enumerate(words):
            joined, rest = [], list(word)
            while rest:
                both = tuple(rest[:2]) == best
                joined.append("".join(rest[:2]) if both else rest[0])
                rest = rest[2:] if both else rest[1:]
            words[n] = tuple(joined)
    return found


def tokenizers():
    pairs = merges()
    lines = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs)
    letters = list(bytes_to_unicode().values())
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in pairs]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    hub = CLIPTokenizer(vocab=vocabulary, merges=pairs)
    hub.save_pretrained(HERE / "vit")
    (HERE / "vit" / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (HERE / "vit" / "merges.txt").write_text(lines)
    (HERE / "resnet" / "bpe_simple_vocab_16e6.txt").write_text(lines)
    # The package reads the list packed, and would read an empty last line as a merge.
    packed = HERE / "packed.gz"
    packed.write_bytes(gzip.compress(lines.rstrip("\n").encode()))
    openai = SimpleTokenizer(bpe_path=str(packed))
    packed.unlink()
    ids = [hub(text).input_ids for text in TEXTS]
    own = [[openai.sot_token_id, *openai.encode(text), openai.eot_token_id] for text in TEXTS]
    assert ids == own, (ids, own)
    (HERE / "texts.json").write_text(json.dumps({"texts": TEXTS, "ids": ids}, ensure_ascii=False, indent=1) + "\n")
    padded = torch.full((len(ids), max(map(len, ids))), 0)
    for row, text in zip(padded, ids):
        row[: len(text)] = torch.tensor(text)
    return len(tokens), padded


def randomise(model, generator):
    """Every parameter and statistic is drawn, so that no bias is zero and no norm the identity."""
    for name, value in model.state_dict().items():
        if not value.is_floating_point() or name == "logit_scale":
            continue
        if name.endswith("running_var"):
            drawn = torch.rand(value.shape, generator=generator) + 0.5
        elif "embedding" in name and "patch" not in name:
            drawn = torch.randn(value.shape, generator=generator)
        elif value.dim() > 1:
            drawn = torch.randn(value.shape, generator=generator) * (1.5 / value[0].numel()) ** 0.5
        elif name.endswith("weight"):
            drawn = 1 + 0.3 * torch.randn(value.shape, generator=generator)
        else:
            drawn = 0.2 * torch.randn(value.shape, generator=generator)
        value.copy_(drawn.half())


def expect(folder, tensors):
    for name, value in tensors.items():
        if name.startswith("out."):
            print(f"{folder} {name} {list(value.shape)}: standard deviation {value.std():.3f}")
    save_file({name: value.contiguous() for name, value in tensors.items()}, HERE / folder / "expected.safetensors")


def vit(vocabulary, ids):
    body = {"num_hidden_layers": 2, "num_attention_heads": 2, "layer_norm_eps": 1e-4}
    config = CLIPConfig(
        text_config={**body, "hidden_size": 16, "intermediate_size": 24, "vocab_size": vocabulary, "max_position_embeddings": CONTEXT,
                     "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1,
                     "hidden_act": "gelu"},
        vision_config={**body, "hidden_size": 20, "intermediate_size": 28, "image_size": 8 * GRID, "patch_size": 8,
                       "num_attention_heads": 4},
        projection_dim=FEATURE)
    model = CLIPModel(config).eval()
    randomise(model, torch.Generator().manual_seed(1))
    model.save_pretrained(HERE / "vit")

    def features(pictures):
        pooled = model.vision_model(pictures, interpolate_pos_encoding=True).pooler_output
        return model.visual_projection(pooled)

    texts = model.text_projection(model.text_model(ids).pooler_output)
    logits = model(input_ids=ids, pixel_values=picture(2, 8 * GRID, 8 * GRID)).logits_per_image
    expect("vit", {"out.square": features(picture(2, 8 * GRID, 8 * GRID)), "out.wide": features(picture(1, 37, 40)),
                   "out.texts": texts, "out.logits": logits})


def parts(pool, positions, feature_map, shares):
    """Attention over the cells, each counted as often as its share says, one part and one head at a time."""
    batch, channels, height, width = feature_map.shape
    cells = feature_map.flatten(2).transpose(1, 2)
    found = torch.zeros(batch, shares.shape[1], FEATURE)
    per_head = channels // pool.num_heads
    for b in range(batch):
        for k, share in enumerate(shares[b]):
            share = share.double()
            values = cells[b].double()
            mean = (share[:, None] * values).sum(0) / share.sum() if share.sum() > 0 else values.mean(0)
            tokens = torch.cat([mean[None], values]).float() + positions
            counts = torch.cat([torch.ones(1), share.float()])
            heads = []
            query, keys, drawn = pool.q_proj(tokens[:1]), pool.k_proj(tokens), pool.v_proj(tokens)
            for h in range(pool.num_heads):
                part = slice(h * per_head, (h + 1) * per_head)
                logits = (keys[:, part] * query[:, part]).sum(1) / per_head**0.5
                weights = counts * torch.exp(logits - logits.max())
                heads.append((weights[:, None] * drawn[:, part]).sum(0) / weights.sum())
            found[b, k] = pool.c_proj(torch.cat(heads))
    return found


def resnet(vocabulary, ids):
    generator = torch.Generator().manual_seed(2)
    vision = CLIPVisionCfg(layers=(1, 2, 1, 1), width=2, head_width=HEAD_WIDTH, image_size=32 * GRID)
    text = CLIPTextCfg(context_length=CONTEXT, vocab_size=vocabulary, width=16, heads=16 // HEAD_WIDTH, layers=2)
    model = CLIP(FEATURE, vision, text, quick_gelu=True).eval()
    randomise(model, generator)
    saved = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_file({name: value.contiguous() for name, value in saved.items()}, HERE / "resnet" / "model.safetensors")
    visual, pool = model.visual, model.visual.attnpool

    def feature_map(pictures):
        return visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(pictures)))))

    def positions_for(height, width):
        table = pool.positional_embedding
        cells = table[1:].T.reshape(1, -1, GRID, GRID)
        cells = F.interpolate(cells, size=(height, width), mode="bicubic", align_corners=False)
        return torch.cat([table[:1], cells.flatten(2)[0].T])

    square, wide = feature_map(picture(2, 96, 96)), feature_map(picture(2, 65, 128))
    cells = wide.shape[2] * wide.shape[3]
    shares = torch.rand(2, 4, cells, generator=generator)
    shares[:, 0] = 1
    shares[:, 1] = 0
    shares[:, 2, : cells // 2] = 0
    positions = positions_for(*wide.shape[2:])
    drawn = parts(pool, positions, wide, shares)
    table = pool.positional_embedding.clone()
    pool.positional_embedding = torch.nn.Parameter(positions)
    whole = pool(wide)
    pool.positional_embedding = torch.nn.Parameter(table)
    assert (drawn[:, 0] - whole).abs().max() < 1e-5
    expect("resnet", {"out.square.map": square, "out.square": visual(picture(2, 96, 96)), "out.wide.map": wide, "out.wide": whole,
                      "in.shares": shares, "out.parts": drawn, "out.texts": model.encode_text(F.pad(ids, (0, CONTEXT - ids.shape[1])))})


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(2)
        self.scale = torch.nn.Parameter(torch.tensor([0.5, -2.0]).half())

    def forward(self, x):
        return self.norm(x) * self.scale.float()[:, None, None]


class Script(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, bias=False), Inner())
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.5))

    def forward(self, x):
        return self.inner(x) * self.logit_scale


def script(generator):
    module = Script().eval()
    module.inner[1].norm.running_mean.copy_(torch.randn(2, generator=generator))
    torch.jit.script(module).save(str(HERE / "script.pt"))
    save_file(dict(module.state_dict()), HERE / "script.safetensors")


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shutil.rmtree(HERE, ignore_errors=True)
    for name in ["vit", "resnet"]:
        (HERE / name).mkdir(parents=True)
    vocabulary, ids = tokenizers()
    vit(vocabulary, ids)
    resnet(vocabulary, ids)
    script(torch.Generator().manual_seed(3))


if __name__ == "__main__":
    main()
