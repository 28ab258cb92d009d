"""Audit a PyTorch module: the same as for any other model, with the network itself as `predict`.

python examples/audit_module.py          writes audit-module/report.html
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

import hampkit


def trained(x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """A network that was trained for too long, on inputs (N, 64) and labels (N,)."""
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


def digits() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Members and non-members, each as inputs (N, 64) and labels (N,)."""
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    order = torch.randperm(len(x))
    return (x[order[:300]], y[order[:300]]), (x[order[300:]], y[order[300:]])


def main() -> float:
    """Audit a network, and return the AUC of the strongest attack."""
    torch.manual_seed(0)
    members, nonmembers = digits()
    net = trained(*members)

    results = hampkit.audit(predict=net, members=members, nonmembers=nonmembers, out="audit-module")
    (model,) = results.models
    best = model.strongest()
    print(f"test accuracy {model.accuracy['test']:.1%}")
    print(f"{best.attack}: AUC {best.auc.value:.3f} [{best.auc.low:.3f}, {best.auc.high:.3f}]")
    print(f"report: {results.files['html']}")
    return best.auc.value


if __name__ == "__main__":
    main()
