"""HAMP around a Hugging Face text classifier: a tiny one, made from nothing, offline.

python examples/text_classifier.py          needs: pip install transformers
"""

from __future__ import annotations

import torch
from torch import Tensor

from hampkit.nn import HampLoss, HampModel

try:
    from transformers import BertConfig, BertForSequenceClassification
except ModuleNotFoundError as missing:
    raise SystemExit(f"this example needs {missing.name}: pip install transformers") from None

WORDS, LENGTH = 50, 12


def made_up(n: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Token numbers (n, 12) with their mask, and labels (n,): whether low or high numbers are more frequent."""
    tokens = torch.randint(1, WORDS, (n, LENGTH), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, (tokens > WORDS // 2).sum(-1).gt(
        LENGTH // 2
    ).long()


def noise(n: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Random inputs of the network, all by name: HAMP releases the answers to these."""
    tokens = torch.randint(1, WORDS, (n, LENGTH), generator=rng)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def main() -> float:
    """Train, wrap, and return the test accuracy of the release, which is that of the network."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=LENGTH, num_labels=2,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss = HampLoss(num_classes=2, gamma=0.5, alpha=0.001)
    texts, y = made_up(1000, 0)
    for step in range(100):
        rows = slice(50 * (step % 20), 50 * (step % 20) + 50)
        optimizer.zero_grad()
        loss(model(**{name: part[rows] for name, part in texts.items()}).logits, y[rows]).backward()
        optimizer.step()
    released = HampModel(model, noise, keyed=True)  # a repeated text gets the same answer
    texts, y = made_up(500, 1)
    answer = released(**texts)
    assert answer.hidden_states is None  # nothing but the modified logits is released
    assert torch.equal(answer.logits, released(**texts).logits)
    return float((answer.logits.argmax(-1) == y).float().mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
