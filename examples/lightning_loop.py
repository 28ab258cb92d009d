"""HAMP in a Lightning training loop: the loss in `training_step`, the release around the trained network.

python examples/lightning_loop.py          needs: pip install lightning
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hampkit.nn import HampLoss, HampModel

try:
    import lightning
except ModuleNotFoundError as missing:
    raise SystemExit(f"this example needs {missing.name}: pip install lightning") from None


class Classifier(lightning.LightningModule):
    """A network of 20 features and 4 classes that is trained with HAMP's loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
        self.loss = HampLoss(num_classes=4, gamma=0.5, alpha=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        return self.loss(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def made_up(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (n, 20) in [0, 1) and labels (n,): the largest of four sums of five features."""
    x = torch.rand(n, 20, generator=torch.Generator().manual_seed(seed))
    return x, x.reshape(n, 4, 5).sum(-1).argmax(-1)


def main() -> float:
    """Train, wrap, and return the test accuracy of the release, which is that of the network."""
    lightning.seed_everything(0)
    loader = DataLoader(TensorDataset(*made_up(2000, 0)), batch_size=50, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=30, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    model = Classifier()
    trainer.fit(model, loader)
    released = HampModel(model.net, noise="uniform")  # what the service answers with
    x, y = made_up(1000, 1)
    assert torch.equal(released(x).argmax(-1), model.net(x).argmax(-1))
    return float((released(x).argmax(-1) == y).float().mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
