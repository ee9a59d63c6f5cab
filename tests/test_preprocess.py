"""`Preprocess` equals torchvision's pipeline and numpy's statistics."""

import numpy as np
import pytest
import torch
from fakes import MemoryStore, random_pixels

from hubel.data.preprocess import Preprocess, fit_preprocess


def test_equals_torchvisions_transforms():
    pixels = random_pixels(3, (8, 10), 3)
    preprocess = Preprocess((8, 10), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    mine = preprocess(torch.from_numpy(pixels))
    pipeline = preprocess.transform()
    theirs = torch.stack([pipeline(picture) for picture in pixels])
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(7, 5), (3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_statistics_are_numpys_over_the_training_split(size, dtype):
    pixels = random_pixels(20, size, 2).astype(dtype)
    train = np.array([0, 3, 5, 7, 11])
    preprocess = fit_preprocess(MemoryStore(pixels), train)
    values = pixels[train].reshape(-1, 2).astype(np.float64) / (255 if dtype == np.uint8 else 1)
    np.testing.assert_allclose(preprocess.mean, values.mean(0), rtol=1e-9)
    np.testing.assert_allclose(preprocess.std, values.std(0), rtol=1e-9)
    out = preprocess(torch.from_numpy(pixels[train]))
    assert out.shape == (5, 2, *size)
    torch.testing.assert_close(out.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        out.transpose(0, 1).flatten(1).std(1, correction=0), torch.ones(2), rtol=1e-5, atol=1e-5
    )


def test_a_constant_channel_stays_finite():
    preprocess = fit_preprocess(MemoryStore(np.full((4, 3, 3, 1), 9, np.uint8)), np.arange(4))
    assert preprocess.std == (1.0,)
    assert torch.isfinite(preprocess(torch.full((1, 3, 3, 1), 9, dtype=torch.uint8))).all()


def test_json_round_trip():
    preprocess = Preprocess((8, 9), (0.1,), (0.2,), 1.0)
    assert Preprocess.from_json(preprocess.to_json()) == preprocess
