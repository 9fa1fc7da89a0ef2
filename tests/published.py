"""Rewrites a checkpoint that save_pretrained wrote into the files that the hub's old ones hold."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Names of an autoencoder's attention weights, now and in files made before diffusers 0.17."""


def age(folder: Path) -> None:
    """Ages `folder`/prior and `folder`/decoder in place."""
    prior, movq = folder / "prior", folder / "decoder" / "movq"
    for part, prefix, positions in (
        ("text_encoder", "text_model.", "max_position_embeddings"),
        ("image_encoder", "vision_model.", "num_hidden_layers"),
    ):
        weights = load_file(prior / part / "model.safetensors")
        assert any(key.startswith(prefix) for key in weights)
        count = json.loads((prior / part / "config.json").read_text())[positions]
        weights[f"{prefix}embeddings.position_ids"] = torch.arange(count)[None]
        torch.save(weights, prior / part / "pytorch_model.bin")
        (prior / part / "model.safetensors").unlink()
    weights = load_file(movq / "diffusion_pytorch_model.safetensors")
    torch.save({_aged(key): value for key, value in weights.items()}, _bin(movq))
    (movq / "diffusion_pytorch_model.safetensors").unlink()
    _age_image_processor(prior / "image_processor" / "preprocessor_config.json")
    _age_tokenizer(prior / "tokenizer")


def age_multilingual(decoder: Path, sentencepiece: bytes) -> None:
    """Ages the text encoder and tokenizer of a Kandinsky 2.1 decoder folder in place.

    Args:
        decoder: the folder.
        sentencepiece: the tokenizer as a sentencepiece model.
    """
    encoder, tokenizer = decoder / "text_encoder", decoder / "tokenizer"
    weights = load_file(encoder / "model.safetensors")
    count = json.loads((encoder / "config.json").read_text())["max_position_embeddings"]
    weights["transformer.embeddings.position_ids"] = torch.arange(count)[None]
    torch.save(weights, encoder / "pytorch_model.bin")
    (encoder / "model.safetensors").unlink()
    (tokenizer / "tokenizer.json").unlink()
    (tokenizer / "sentencepiece.bpe.model").write_bytes(sentencepiece)
    config = json.loads((tokenizer / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "XLMRobertaTokenizerFast"
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(config))


def _aged(key: str) -> str:
    for new, old in ATTENTION.items():
        if ".attentions." in key:
            key = key.replace(f".{new}.", f".{old}.")
    return key


def _bin(folder: Path) -> Path:
    return folder / "diffusion_pytorch_model.bin"


def _age_image_processor(file: Path) -> None:
    config = json.loads(file.read_text())
    config["feature_extractor_type"] = "CLIPFeatureExtractor"
    del config["image_processor_type"]
    config["size"] = config["size"]["shortest_edge"]
    config["crop_size"] = config["crop_size"]["height"]
    file.write_text(json.dumps(config))


def _age_tokenizer(folder: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "tokenizer.json").unlink()
