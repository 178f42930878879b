"""What training and predictions take on a GPU, and how many kernels a step starts: counted on one that is not there.

    python tests/benchmarks/device_memory.py

Tensors without numbers (tests/pretended_device.py) have the sizes that they would have on a GPU. Not counted is what
torch and cuDNN take for themselves: the context of CUDA (0.3 to 0.6 GB), workspaces of convolutions, and memory that is
held between two uses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from digit_training import make_trainer
from pretended_device import Record, pretended

from labelfix.methods import method_names
from labelfix.networks import NetworkSpec, build

MIB = 1 << 20
NETWORKS = [
    ("small", 32), ("preact-resnet18", 32), ("wide-resnet28-10", 32), ("preact-resnet18", 224), ("resnet18", 224),
    ("resnet50", 224), ("resnet50", 512), ("efficientnet_b0", 224), ("convnext_tiny", 224), ("vit_b_16", 224),
]  # fmt: skip
ROWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=32)
    batch_size = parser.parse_args().batch_size
    print("| network | px | network, gradients, momentum | a row of training: bf16, fp32 | a predicted row, fp32 "
          f"| {batch_size} rows of training, bf16 |\n|{' --- |' * 6}")  # fmt: skip
    for backbone, size in NETWORKS:
        weights, bf16, predicted = passes(backbone, size, torch.bfloat16)
        _, fp32, _ = passes(backbone, size, torch.float32)
        total = 3 * weights + batch_size * bf16
        print(f"| {backbone} | {size} | {3 * weights:.0f} MiB | {bf16:.1f}, {fp32:.1f} MiB | {predicted:.1f} MiB "
              f"| {total / 1024:.2f} GiB |")  # fmt: skip
    print(
        f"\n| method | bytes a row of the data | kernels a step | waits at an epoch's end |\n|{' --- |' * 4}"
    )
    for name in method_names():
        kept, kernels, waits = steps_of(name)
        print(f"| `{name}` | {kept} | {kernels} | {waits} |")


def passes(backbone: str, size: int, precision: torch.dtype) -> tuple[float, float, float]:
    """MiB of the network, of a row that it is trained on, and of a row that it predicts in float32."""
    with pretended("cuda", has_values=False) as record:
        network = build(NetworkSpec(backbone, 10, size)).to(record.device, memory_format=torch.channels_last)
        weights = record.memory
        with torch.autocast("cuda", torch.bfloat16, enabled=precision is torch.bfloat16):
            training = peak(record, network.train(), size)
        with torch.no_grad():
            predicted = peak(record, network.eval(), size)
    return weights / MIB, (training - weights) / ROWS / MIB, (predicted - weights) / ROWS / MIB


def peak(record: Record, network: torch.nn.Module, size: int) -> int:
    """Bytes at most while the network sees some rows."""
    images = torch.zeros(ROWS, 3, size, size, device=record.device).contiguous(
        memory_format=torch.channels_last
    )
    record.reset()
    network(images)
    return record.peak


def steps_of(name: str) -> tuple[str, int, int]:
    """What a method keeps of every row, kernels of the longest step, and waits of the longest end of an epoch.

    Steps that begin an epoch do not count: they may begin a phase too.
    """
    kernels, waits = 0, 0
    with pretended("cuda") as record:
        trainer = make_trainer(name, device=record.device, resident=True)

        def keep_going() -> bool:
            nonlocal kernels
            kernels = max(kernels, record.kernels if trainer.position.step > 1 else 0)
            record.reset()
            return True

        record.reset()
        for _ in trainer.epochs(keep_going):
            waits = max(waits, record.waits.total())
            record.reset()
        buffers = [value for key, value in trainer.method.named_buffers() if not key.startswith("network.")]
        by_class = sum(value.element_size() for value in buffers if value.shape == (200, 10))
        alone = sum(
            value.element_size() * value.numel() // 200 for value in buffers if value.shape[-1:] == (200,)
        )
    return f"{by_class} K + {alone}", kernels, waits


if __name__ == "__main__":
    main()
