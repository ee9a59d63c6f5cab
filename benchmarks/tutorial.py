"""The training loop that everybody copies: the baseline of lab.py and speed_cpu.py.

Pillow, ToTensor and Normalize for each sample, a DataLoader with two workers, float32, NCHW,
batches of 64, Adam as it comes, the running loss read after every batch.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

__all__ = ["tutorial_images_per_s"]

BATCH_SIZE = 64


def tutorial_images_per_s(
    folder: Path,
    make_model: Callable[[tuple[int, ...], int], nn.Module],
    criterion: nn.Module,
    *,
    lr: float,
    warm_up: int,
    batches: int,
) -> float:
    """Of training on the class folders in `folder`, `batches` batches after `warm_up` others.

    `make_model` takes the shape (c, h, w) of a picture and the number of classes.
    """
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))]
    )
    dataset = datasets.ImageFolder(folder, transform)
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, num_workers=2, drop_last=True)
    if len(loader) <= warm_up:
        raise SystemExit(f"{len(loader)} batches are too few: {warm_up} are for the warm-up")
    model = make_model(tuple(dataset[0][0].shape), len(dataset.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    seen, started = 0, 0.0
    for number, (images, labels) in enumerate(loader):
        if number == warm_up:
            seen, started = 0, time.perf_counter()
        if number == warm_up + batches:
            break
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # the running loss of every tutorial
        seen += len(images)
    return seen / (time.perf_counter() - started)
