"""bf16 against fp32 on this device: what is found, and how fast.

    python tests/benchmarks/precision.py

Digits with planted noise are scanned twice, once in each precision; the ratio of their training times comes from the
same two runs, so let nothing else run. The first line says whether the processor has bf16 instructions: without them
bf16 is emulated.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import write_digits

import labelfix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noises", nargs="*", default=["symmetric-exclusive:0.4", "pair:0.3"])
    parser.add_argument("--method", default="bmm")
    args = parser.parse_args()
    capabilities = torch.cpu.get_capabilities()
    print("bf16 instructions:", any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16")))
    for noise in args.noises:
        with tempfile.TemporaryDirectory() as folder:
            print(_compared(Path(folder), noise, args.method), flush=True)


def _compared(folder: Path, noise: str, method: str) -> str:
    write_digits(folder / "images", 1797)
    noisy = folder / "noisy.parquet"
    labelfix.corrupt(folder / "images", noise=noise, out=noisy)
    seconds, shown = [], []
    for precision in ("fp32", "bf16"):
        run = labelfix.scan(noisy, method=method, out=folder / precision, device="cpu", precision=precision)
        found = labelfix.evaluate(run.out, truth=noisy)
        seconds.append(run.summary["training_seconds"])
        shown.append(
            f"{precision} AP {found['average_precision']:.4f} labels {found['label_accuracy_corrected']:.4f}"
        )
    return f"{noise}: {'; '.join(shown)}; bf16 is {seconds[0] / seconds[1]:.2f} times as fast"


if __name__ == "__main__":
    main()
