"""Audit a scikit-learn forest: does it reveal which records it was trained on?

python examples/audit_forest.py          writes audit-forest/report.html
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import hampkit


def main() -> float:
    """Audit a forest with `predict_proba`, and return the AUC of the strongest attack."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.5, random_state=0)
    forest = RandomForestClassifier(100, random_state=0).fit(x_train, y_train)

    results = hampkit.audit(predict=forest, members=(x_train, y_train), nonmembers=(x_test, y_test), out="audit-forest")
    (model,) = results.models
    best = model.strongest()
    print(f"test accuracy {model.accuracy['test']:.1%}")
    print(f"{best.attack}: AUC {best.auc.value:.3f} [{best.auc.low:.3f}, {best.auc.high:.3f}]")
    print(f"report: {results.files['html']}")
    return best.auc.value


if __name__ == "__main__":
    main()
