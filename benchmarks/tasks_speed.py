"""Training speed of detection and segmentation against torchvision's references.

    python benchmarks/tasks_speed.py [--only segmentation] [--batch-size 16] [--steps 4]
        [--repeats N] [--json FILE]

The same backbone, picture size (240×320) and batches: resnet18 under hubel's detector and under
torchvision's FCOS with its feature pyramid; resnet18 under hubel's segmenter and torchvision's FCN
head, mobilenet_v3 (large) under hubel's segmenter and torchvision's LRASPP. A case is some
steps of forward, loss, backward and optimizer. "reference" is how torchvision's own training
scripts run: float32, NCHW, SGD. "hubel" is what `hubel fit` runs on a CPU with such instructions:
bfloat16, channels last, Muon. "reference, hubel's engine" is torchvision's network in the same
arithmetic and memory order, so that what is left is network, loss and optimizer. Pixels are random,
boxes too (twelve a picture); nothing is read from disk.
"""

import time
from collections.abc import Callable

import torch
from common import alternate, machine, parser, table, write_json
from torch import nn
from torchvision.models import resnet18
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.fcos import FCOS
from torchvision.models.segmentation import FCN, lraspp_mobilenet_v3_large
from torchvision.models.segmentation.fcn import FCNHead

from hubel.config import FitConfig
from hubel.models import ModelSpec, build
from hubel.tasks import TASKS
from hubel.train.freezing import make_freezing
from hubel.train.optimizers import make_optimizer
from hubel.train.roles import roles_of

SIZE, CLASSES, BOXES = (240, 320), 11, 12


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batch-size", type=int, default=16)
    options.add_argument("--steps", type=int, default=4)
    options.add_argument("--only", default="", help="comparisons with this in their name")
    args = options.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    torch.manual_seed(0)
    input = torch.randn(args.batch_size, 3, *SIZE)
    mask = torch.randint(0, CLASSES, (args.batch_size, *SIZE)).to(torch.uint8)
    corners = torch.rand(args.batch_size, BOXES, 2) * 0.7
    corners = torch.cat([corners, corners + 0.1 + 0.2 * torch.rand_like(corners)], dim=2)
    classes = torch.randint(0, CLASSES, (args.batch_size, BOXES, 1)).float()
    boxes = torch.cat([classes, corners], dim=2)
    comparisons = {
        "detection, resnet18": (
            lambda: fcos(boxes), lambda: ours("detect", "resnet18", boxes),
        ),
        "segmentation, resnet18": (
            lambda: fcn(mask), lambda: ours("segment", "resnet18", mask),
        ),
        "segmentation, mobilenet_v3_large": (
            lambda: lraspp(mask), lambda: ours("segment", "mobilenet_v3", mask),
        ),
    }  # fmt: skip
    for name, (reference, own) in comparisons.items():
        if args.only not in name:
            continue
        cases = {
            "reference": steps(*reference(), input, args.steps, half=False),
            "reference, hubel's engine": steps(*reference(), input, args.steps, half=True),
            "hubel": steps(*own(), input, args.steps, half=True),
        }
        times = alternate(cases, args.repeats)
        items = args.batch_size * args.steps
        print(f"{name}\n{table(times, baseline='reference', items=items, unit='images')}")
        if args.json:
            place = args.json.with_stem(f"{args.json.stem}-{name.replace(', ', '-')}")
            write_json(place, name, times, baseline="reference", items=items)


Loss = Callable[[torch.Tensor], torch.Tensor]
"""From the input to the loss of the batch, the network's forward pass in it."""


def steps(
    model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, input: torch.Tensor,
    number: int, *, half: bool,
) -> Callable[[], float]:  # fmt: skip
    """A case: the seconds of `number` steps."""
    order = torch.channels_last if half else torch.contiguous_format
    model.to(memory_format=order).train()
    input = input.contiguous(memory_format=order)

    def case() -> float:
        started = time.perf_counter()
        for _ in range(number):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                value = loss(input)
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - started

    return case


def ours(
    task: str, backbone: str, target: torch.Tensor
) -> tuple[nn.Module, Loss, torch.optim.Optimizer]:
    """hubel's network for `task`, with the optimizer of its recipe."""
    zoo = build(ModelSpec(backbone, 3, CLASSES, SIZE))
    model = TASKS[task].network(zoo, CLASSES, (3, *SIZE))
    config = FitConfig()
    roles = roles_of(model, (3, *SIZE), len(target))
    optimizer = make_optimizer(model, config, make_freezing(model, config), roles)
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["lr"]  # a schedule's beginning
    return model, lambda input: TASKS[task].loss(model(input), target), optimizer


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)


def fcos(boxes: torch.Tensor) -> tuple[nn.Module, Loss, torch.optim.Optimizer]:
    """torchvision's FCOS; its own resizing does nothing to pictures of this size."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    model = FCOS(backbone, CLASSES, min_size=min(SIZE), max_size=max(SIZE))
    sides = torch.tensor([SIZE[1], SIZE[0], SIZE[1], SIZE[0]])
    targets = [{"boxes": rows[:, 1:] * sides, "labels": rows[:, 0].long()} for rows in boxes]
    return model, lambda input: sum(model(list(input), targets).values()), sgd(model)


def fcn(mask: torch.Tensor) -> tuple[nn.Module, Loss, torch.optim.Optimizer]:
    """torchvision's FCN head on resnet18's last map."""
    backbone = IntermediateLayerGetter(resnet18(weights=None), {"layer4": "out"})
    model = FCN(backbone, FCNHead(512, CLASSES))
    return model, _entropy(model, mask), sgd(model)


def lraspp(mask: torch.Tensor) -> tuple[nn.Module, Loss, torch.optim.Optimizer]:
    """torchvision's LRASPP on mobilenet_v3_large."""
    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES)
    return model, _entropy(model, mask), sgd(model)


def _entropy(model: nn.Module, mask: torch.Tensor) -> Loss:
    target = mask.long()
    return lambda input: nn.functional.cross_entropy(model(input)["out"], target)


if __name__ == "__main__":
    main()
