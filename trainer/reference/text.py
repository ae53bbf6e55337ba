#!/usr/bin/env python3
"""Makes the reference of the text encoders: tiny random networks of every kind, and what transformers computes with them.

Usage: trainer/reference/text.py [--minilm DIR]

Needs torch, transformers, tokenizers, sentencepiece, protobuf and safetensors (made with transformers 5.23, torch 2.11). Writes, beside
itself, text/<name>/ in the layout of the Hugging Face hub (config, weights, tokenizer) with two files more: expected.json (texts
and token ids) and expected.safetensors (last hidden states). With --minilm, a folder with all-MiniLM-L6-v2, also text/minilm.json:
cosine similarities of interaction sentences by mean pooling. The tests in trainer/tests/suite/text.rs compare the trainer with
these files; running this again gives the same ones up to rounding.
"""

import argparse
import collections
import io
import json
import shutil
import tempfile
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (AlbertConfig, AlbertModel, AlbertTokenizer, AutoModel, AutoTokenizer, BertConfig, BertModel,
                          BertTokenizer, MobileBertConfig, MobileBertModel, RobertaConfig, RobertaModel, RobertaTokenizer)

HERE = Path(__file__).resolve().parent / "text"

CORPUS = ["human ride bicycle", "human hold cup", "human sit on dining table", "human no interaction person",
          "human eat pizza", "human kick sports ball", "human throw frisbee", "human carry surfboard", "human talk on cell phone",
          "human ride horse", "human riding horses", "human holding cups", "human carries a backpack", "human sits at tables"]

# The sub-sentences of some images: one, several, one twice, letters that no corpus had, capitals and accents.
IMAGES = [["human ride bicycle"],
          ["human hold cup", "human sit on dining table", "human no interaction person"],
          ["human kick sports ball", "human hold cup", "human kick sports ball"],
          ["Human ride Café", "human eat 2 pizzas!", "human juggle \u2602"]]

MINILM_SENTENCES = ["human ride bicycle", "human hold bicycle", "human ride horse", "human sit on dining table",
                    "human no interaction cup", "human throw frisbee"]


def word_piece(folder):
    # Made by rule: the trainer of `tokenizers` breaks ties by chance.
    counts = collections.Counter(" ".join(CORPUS).split())
    letters = sorted(set("".join(CORPUS)) - {" "})
    pieces = ["##ing", "##cycle"] + sorted(word for word, count in counts.items() if count > 1)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = special + letters + [f"##{letter}" for letter in letters] + [p for p in pieces if len(p) > 1] + ["!", "2"]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    return BertTokenizer(vocab={token: i for i, token in enumerate(vocabulary)})


def byte_pairs(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return RobertaTokenizer(vocab=model["vocab"], merges=merges)


def unigram(folder):
    rules = folder / "rules.tsv"
    # "ﬁ" to "fi", a full-width "A" to "A": a compiled character map, small.
    rules.write_text("FB01\t66 69\nFF21\t41\n")
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3), model_writer=trained, vocab_size=70, model_type="unigram", pad_id=0, unk_id=1,
        bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"], normalization_rule_tsv=str(rules),
        pad_piece="<pad>", hard_vocab_limit=False, minloglevel=2)
    rules.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "spiece.model").write_bytes(trained.getvalue())
        tokenizer = AlbertTokenizer.from_pretrained(scratch)
    own = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    for text in [text for image in IMAGES for text in image] + ["human of\ufb01ce"]:
        plain = text.lower().replace("é", "e")
        assert own.encode(plain) == tokenizer(text, add_special_tokens=False).input_ids, text
    return tokenizer


def randomise(model, seed, gain):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if "LayerNorm" in name or "layer_norm" in name:
                parameter.copy_(0.3 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif "embeddings" in name and parameter.dim() == 2 and "transformation" not in name:
                parameter.copy_(noise)
            elif parameter.dim() == 2:
                parameter.copy_(gain * noise / parameter.shape[1] ** 0.5)
            else:
                parameter.copy_(0.3 * noise)


def expect(folder, model, tokenizer):
    """What the network makes of the images' texts, padded together and each without padding."""
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    separator = tokenizer.sep_token
    images, tensors = [], {}
    with torch.no_grad():
        for i, texts in enumerate(IMAGES):
            once = list(dict.fromkeys(texts))
            ids = tokenizer(separator.join(once)).input_ids
            hidden = model(torch.tensor([ids])).last_hidden_state[0]
            words = [k for k, token in enumerate(ids) if token not in special]
            owner = [sum(token == tokenizer.sep_token_id for token in ids[:k]) for k in words]
            alone = [tokenizer(text).input_ids for text in once]
            states = [model(torch.tensor([text])).last_hidden_state[0] for text in alone]
            tensors[f"words.{i}"] = hidden[words]
            tensors[f"first.{i}"] = torch.stack([state[0] for state in states])
            tensors[f"mean.{i}"] = torch.stack([state.mean(0) for state in states])
            tensors[f"apart.{i}"] = torch.cat([state[1:-1] for state in states])
            images.append({"texts": texts, "ids": ids, "owner": owner, "alone": alone})
        batch = tokenizer([separator.join(dict.fromkeys(texts)) for texts in IMAGES], padding=True, return_tensors="pt")
        hidden = model(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        tensors |= {"padded.ids": batch.input_ids, "padded.seen": batch.attention_mask, "padded.hidden": hidden}
    print(f"{folder.name}: {sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens, hidden state "
          f"{hidden.std():.3f} standard deviation, {hidden.abs().max():.2f} largest")
    (folder / "expected.json").write_text(json.dumps(images, ensure_ascii=False, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "expected.safetensors")


def make(name, model_class, config_class, sizes, make_tokenizer, seed, pickle=False, gain=1.2):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(folder)
    config = config_class(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, attn_implementation="eager", **sizes)
    model = model_class(config, add_pooling_layer=False).eval()
    randomise(model, seed, gain)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if pickle:
        # Without the attributes of a state dict, which libtorch's reader of pickles does not take.
        torch.save(dict(model.state_dict()), folder / "pytorch_model.bin")
    expect(folder, model, tokenizer)


def minilm(folder):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        ids = [tokenizer(text, padding=False, truncation=False).input_ids for text in MINILM_SENTENCES]
        states = [model(torch.tensor([text])).last_hidden_state[0] for text in ids]
    means = torch.nn.functional.normalize(torch.stack([state.mean(0) for state in states]), dim=1)
    cosine = (means @ means.T).tolist()
    document = {"sentences": MINILM_SENTENCES, "ids": ids, "cosine": [[round(c, 6) for c in row] for row in cosine],
                "first_token": [[round(v, 6) for v in state[0, :4].tolist()] for state in states]}
    (HERE / "minilm.json").write_text(json.dumps(document, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minilm", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    body = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
            "max_position_embeddings": 80}
    narrow = {**body, "intermediate_size": 12, "embedding_size": 10, "intra_bottleneck_size": 8,
              "num_feedforward_networks": 3}
    make("bert", BertModel, BertConfig, {**body, "layer_norm_eps": 1e-3}, word_piece, 1, pickle=True)
    make("roberta", RobertaModel, RobertaConfig, {**body, "max_position_embeddings": 82, "type_vocab_size": 1}, byte_pairs, 2)
    make("albert", AlbertModel, AlbertConfig,
         {**body, "embedding_size": 10, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}, unigram, 3)
    make("mobilebert", MobileBertModel, MobileBertConfig, narrow, word_piece, 4, gain=0.6)
    make("mobilebert-layer-norm", MobileBertModel, MobileBertConfig,
         {**narrow, "normalization_type": "layer_norm", "use_bottleneck_attention": True, "layer_norm_eps": 1e-3}, word_piece, 5)
    make("mobilebert-wide", MobileBertModel, MobileBertConfig,
         {**body, "embedding_size": 16, "use_bottleneck": False, "trigram_input": False, "num_feedforward_networks": 1,
          "normalization_type": "layer_norm"}, word_piece, 6)
    if arguments.minilm:
        minilm(arguments.minilm)


if __name__ == "__main__":
    main()
