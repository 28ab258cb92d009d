"""Audit an ONNX file: export a network with torch, and audit the file.

python examples/audit_onnx.py            writes model.onnx and audit-onnx/report.html; needs: pip install "hampkit[onnx]"
"""

from __future__ import annotations

import importlib.util
import sys

import torch
from audit_module import digits, trained

import hampkit


def export(net: torch.nn.Module, path: str) -> None:
    """Write a network of 64 features, with any number of rows."""
    rows = torch.export.Dim("rows")
    torch.onnx.export(
        net.eval(), (torch.rand(4, 64),), path, dynamo=True, dynamic_shapes=({0: rows},), input_names=["x"],
        output_names=["logits"], verbose=False,
    )  # fmt: skip


def main() -> float:
    """Audit the exported network, and return the AUC of the strongest attack."""
    torch.manual_seed(0)
    members, nonmembers = digits()
    export(trained(*members), "model.onnx")

    results = hampkit.audit(predict="model.onnx", members=members, nonmembers=nonmembers, out="audit-onnx")
    best = results.models[0].strongest()
    print(f"{best.attack}: AUC {best.auc.value:.3f} [{best.auc.low:.3f}, {best.auc.high:.3f}]")
    print(f"report: {results.files['html']}")
    return best.auc.value


if __name__ == "__main__":
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")):
        sys.exit('this example needs packages for ONNX: pip install "hampkit[onnx]"')
    main()
