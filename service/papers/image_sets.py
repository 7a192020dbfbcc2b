"""Images of experiments as pictures: data sets of a service for convolutional kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.papers.data import Images
from service.papers.lab import Lab

CHANNELS = {"cifar10": 3}
"""Planes of colour of the sets that have them; others are grey."""


@dataclass(frozen=True)
class Split:
    """Ids of the two data sets of a service, and how many images each has."""

    train: str
    test: str
    train_images: int
    test_images: int

    @property
    def pairs(self) -> int:
        """Kernels that a regression needs."""
        return self.train_images * (self.train_images + 1) // 2 + self.train_images * (
            self.test_images
        )


def in_colour(images: Images) -> bool:
    return images.identity in CHANNELS


def pictures(images: Images, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows as (n, P, Q, C) in [0, 1]: files hold one plane after the other."""
    channels = CHANNELS.get(images.identity, 1)
    side = round((rows.shape[1] / channels) ** 0.5)
    planes = rows.reshape(len(rows), channels, side, side) / np.float32(255)
    return np.ascontiguousarray(np.moveaxis(planes, 1, -1))


def upload_pictures(lab: Lab, images: Images, train: int, test: int) -> Split:
    """The first `train` and `test` images with their classes, or as many as there are."""
    x, y = pictures(images, images.x_train[:train]), images.y_train[:train]
    x_test, y_test = pictures(images, images.x_test[:test]), images.y_test[:test]
    return Split(
        lab.upload(x, y, name=f"{images.identity}-train-pictures"),
        lab.upload(x_test, y_test, name=f"{images.identity}-test-pictures"),
        len(x),
        len(x_test),
    )
