"""Audit predictions: a file with the answers of a model is enough, the model itself is not needed.

python examples/audit_predictions.py     writes predictions.csv and audit-predictions/report.html
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import hampkit


def write_predictions(path: Path) -> None:
    """Train a forest on half of the records, and write its probabilities for all of them."""
    data: Any = load_breast_cancer()
    names = [str(data.target_names[k]) for k in data.target]  # malignant, benign
    rows = range(len(names))
    train, _ = train_test_split(rows, test_size=0.5, random_state=0)
    forest = RandomForestClassifier(100, random_state=0).fit(data.data[train], [names[i] for i in train])

    member = set(train)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["record", "diagnosis", "member", *(f"p_{name}" for name in forest.classes_)])
        for i, p in zip(rows, forest.predict_proba(data.data), strict=True):
            writer.writerow([f"patient-{i}", names[i], int(i in member), *p])


def main() -> float:
    """Audit the file, and return the AUC of the strongest attack."""
    write_predictions(Path("predictions.csv"))
    results = hampkit.audit(
        "predictions.csv", label="diagnosis", member="member", id="record", answers="p_*", out="audit-predictions"
    )
    best = results.models[0].strongest()
    print(f"{best.attack}: AUC {best.auc.value:.3f} [{best.auc.low:.3f}, {best.auc.high:.3f}]")
    print(f"report: {results.files['html']}")
    return best.auc.value


if __name__ == "__main__":
    main()
