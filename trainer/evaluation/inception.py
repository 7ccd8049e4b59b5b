"""Inception v3 (Szegedy et al. 2015) as published FIDs use it: pictures in, 2,048 numbers each out.

Names are those of torchvision's and of pytorch-fid's weights. Its pooling is that of the TensorFlow graph behind the published figures:
averages leave the padding out, and the last block takes a maximum. Features of another pooling give another, incomparable distance.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXELS = 299
WIDTH = 2048
AVERAGE = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
MAXIMUM = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
SHRINK = partial(F.max_pool2d, kernel_size=3, stride=2)

Size = int | tuple[int, int]
Path = list[str | tuple[str, ...]]


class Convolution(nn.Module):
    """Convolution without bias, batch norm with the running statistics, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: Size = 1, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Paths side by side, their channels concatenated. A path names convolutions one after the other; "pool" is the block's pooling,
    and a tuple is a fork whose ends are concatenated."""

    def __init__(self, paths: list[Path], pool=AVERAGE, **convolutions: Convolution) -> None:
        super().__init__()
        self._paths, self._pool = paths, pool
        for name, convolution in convolutions.items():
            self.add_module(name, convolution)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._along(path, x) for path in self._paths], dim=1)

    def _along(self, path: Path, x: Tensor) -> Tensor:
        for name in path:
            if isinstance(name, tuple):
                x = torch.cat([self.get_submodule(end)(x) for end in name], dim=1)
            else:
                x = self._pool(x) if name == "pool" else self.get_submodule(name)(x)
        return x


def square(inputs: int, pooled: int) -> Mixed:
    """35 × 35 cells: 1×1, 5×5, and two 3×3 in a row."""
    return Mixed(
        [["branch1x1"], ["branch5x5_1", "branch5x5_2"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"], ["pool", "branch_pool"]],
        branch1x1=Convolution(inputs, 64),
        branch5x5_1=Convolution(inputs, 48),
        branch5x5_2=Convolution(48, 64, 5, padding=2),
        branch3x3dbl_1=Convolution(inputs, 64),
        branch3x3dbl_2=Convolution(64, 96, 3, padding=1),
        branch3x3dbl_3=Convolution(96, 96, 3, padding=1),
        branch_pool=Convolution(inputs, pooled),
    )


def to_17() -> Mixed:
    """35 × 35 → 17 × 17 cells."""
    return Mixed(
        [["branch3x3"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"], ["pool"]],
        SHRINK,
        branch3x3=Convolution(288, 384, 3, 2),
        branch3x3dbl_1=Convolution(288, 64),
        branch3x3dbl_2=Convolution(64, 96, 3, padding=1),
        branch3x3dbl_3=Convolution(96, 96, 3, 2),
    )


def long(inner: int) -> Mixed:
    """17 × 17 cells: 7×7 taken apart into rows and columns."""
    across, down = partial(Convolution, size=(1, 7), padding=(0, 3)), partial(Convolution, size=(7, 1), padding=(3, 0))
    double: Path = [f"branch7x7dbl_{i}" for i in range(1, 6)]
    return Mixed(
        [["branch1x1"], ["branch7x7_1", "branch7x7_2", "branch7x7_3"], double, ["pool", "branch_pool"]],
        branch1x1=Convolution(768, 192),
        branch7x7_1=Convolution(768, inner),
        branch7x7_2=across(inner, inner),
        branch7x7_3=down(inner, 192),
        branch7x7dbl_1=Convolution(768, inner),
        branch7x7dbl_2=down(inner, inner),
        branch7x7dbl_3=across(inner, inner),
        branch7x7dbl_4=down(inner, inner),
        branch7x7dbl_5=across(inner, 192),
        branch_pool=Convolution(768, 192),
    )


def to_8() -> Mixed:
    """17 × 17 → 8 × 8 cells."""
    return Mixed(
        [["branch3x3_1", "branch3x3_2"], [f"branch7x7x3_{i}" for i in range(1, 5)], ["pool"]],
        SHRINK,
        branch3x3_1=Convolution(768, 192),
        branch3x3_2=Convolution(192, 320, 3, 2),
        branch7x7x3_1=Convolution(768, 192),
        branch7x7x3_2=Convolution(192, 192, (1, 7), padding=(0, 3)),
        branch7x7x3_3=Convolution(192, 192, (7, 1), padding=(3, 0)),
        branch7x7x3_4=Convolution(192, 192, 3, 2),
    )


def wide(inputs: int, pool) -> Mixed:
    """8 × 8 cells: 3×3 forked into rows and columns."""
    row, column = partial(Convolution, size=(1, 3), padding=(0, 1)), partial(Convolution, size=(3, 1), padding=(1, 0))
    return Mixed(
        [
            ["branch1x1"],
            ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")],
            ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")],
            ["pool", "branch_pool"],
        ],
        pool,
        branch1x1=Convolution(inputs, 320),
        branch3x3_1=Convolution(inputs, 384),
        branch3x3_2a=row(384, 384),
        branch3x3_2b=column(384, 384),
        branch3x3dbl_1=Convolution(inputs, 448),
        branch3x3dbl_2=Convolution(448, 384, 3, padding=1),
        branch3x3dbl_3a=row(384, 384),
        branch3x3dbl_3b=column(384, 384),
        branch_pool=Convolution(inputs, 192),
    )


class Inception(nn.Module):
    """(n, 3, height, width) in [−1, 1] → (n, 2048): resized bilinearly to 299 px, averaged over the last 8 × 8 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = square(192, 32), square(256, 64), square(288, 64)
        self.Mixed_6a = to_17()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = long(128), long(160), long(160), long(192)
        self.Mixed_7a = to_8()
        self.Mixed_7b, self.Mixed_7c = wide(1280, AVERAGE), wide(2048, MAXIMUM)

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images, (PIXELS, PIXELS), mode="bilinear", align_corners=False)
        x = SHRINK(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = SHRINK(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean(dim=(2, 3))


def may_differ(key: str) -> bool:
    """Keys that weights may have or lack: both classifiers, whose outputs are not used, and counters that old files did not save."""
    return key.startswith(("fc.", "AuxLogits.")) or key.endswith("num_batches_tracked")
