"""HAMP in an ONNX service: the release is exported with its noise as an input, and the service draws the noise.

python examples/onnx_service.py          needs: pip install "hampkit[onnx]"
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hampkit.nn import HampModel

try:
    import onnxruntime
    import onnxscript  # noqa: F401  (torch.onnx.export needs it)
except ModuleNotFoundError as missing:
    raise SystemExit(f'this example needs {missing.name}: pip install "hampkit[onnx]"') from None


def export(model: nn.Module, path: Path) -> None:
    """Write the release of a network of 20 features, with any number of rows."""
    released, x = HampModel(model, noise="uniform"), torch.rand(4, 20)
    rows = torch.export.Dim("rows")
    torch.onnx.export(
        released.exportable(), (x, released.noise_for(x)), str(path), dynamo=True, dynamic_shapes=({0: rows}, {0: rows}),
        input_names=["x", "noise"], output_names=["logits"], verbose=False,
    )  # fmt: skip


class Service:
    """Answers with the exported release. Its noise must have the distribution that was chosen for the export."""

    def __init__(self, path: Path, rng: np.random.Generator) -> None:
        self.session, self.rng = onnxruntime.InferenceSession(str(path)), rng

    def __call__(self, x: np.ndarray) -> Any:
        """The modified logits (B, C) of inputs (B, 20) float32."""
        noise = self.rng.random(x.shape, dtype=np.float32)  # anew for every query
        return self.session.run(None, {"x": x, "noise": noise})[0]


def main() -> float:
    """Export a network, and return the share of 1,000 inputs on which the service has its label."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4)).eval()
    with tempfile.TemporaryDirectory() as folder:
        export(model, Path(folder) / "released.onnx")
        service = Service(Path(folder) / "released.onnx", np.random.default_rng())
    x = torch.rand(1000, 20)
    labels = model(x).argmax(-1).numpy()
    answers = service(x.numpy())
    assert not np.array_equal(answers, service(x.numpy()))
    return float((answers.argmax(-1) == labels).mean())


if __name__ == "__main__":
    print(f"same label as the network: {main():.1%}")
