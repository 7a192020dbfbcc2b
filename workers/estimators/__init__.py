"""Neural kernels for scikit-learn: in this process, or on a service.

    from workers.estimators import NTKClassifier, NeuralKernel

    NTKClassifier(depth=3, ridge=1e-3).fit(x, labels).score(x_test, labels_test)
    SVC(kernel=NeuralKernel(depth=3)).fit(x, labels)

Needs scikit-learn (the extra `gramian[svm]`).
"""

from __future__ import annotations

try:
    from workers.estimators.classifier import NTKClassifier
    from workers.estimators.kernel import NeuralKernel
    from workers.estimators.regressor import NTKRegressor
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "sklearn":
        raise
    raise ModuleNotFoundError(
        "The estimators need scikit-learn: pip install 'gramian[svm]'.", name="sklearn"
    ) from error

__all__ = ["NTKClassifier", "NTKRegressor", "NeuralKernel"]
