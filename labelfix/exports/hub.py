"""The Hugging Face hub: what an export to `hf` is pushed as, with a card that lists what changed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from labelfix.errors import InputError
from labelfix.results.markdown import markdown

_REPOSITORY = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_MOST_CHANGES = 200


def check_push(to: str, path: Path, push: str | None) -> None:
    """Refuse a push that cannot be, before anything is written.

    Raises:
        InputError: another target, a single file, no name of a repository, or no huggingface_hub (extra `hf`).
    """
    if push is None:
        return
    if to != "hf" or path.suffix:
        raise InputError(f"--push {push}: only a folder of --to hf is pushed; name a folder with --out")
    if not _REPOSITORY.fullmatch(push):
        raise InputError(f"--push {push} is no repository of datasets; write OWNER/NAME")
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise InputError(f"--push {push} is done by huggingface_hub: pip install 'labelfix[hf]'") from None


def write_card(
    folder: Path, metadata: dict[str, Any], rows: int, left_out: int, changes: Counter[Any]
) -> None:
    """Write the README.md of a dataset: where its labels come from, and which were changed to which, how often.

    Args:
        folder: of the dataset.
        metadata: of the corrections.
        rows: in the dataset.
        left_out: rows of the source that are not in it.
        changes: how many rows went from a given label (None: none) to another.
    """
    total = changes.total()
    lines = [
        "---", "task_categories:", "- image-classification", "tags:", "- labelfix", "---", "",
        "# Corrected labels", "",
        f"{rows:,} images in {len(metadata['class_names']):,} classes. labelfix"
        f" {markdown(metadata['labelfix_version'])} changed {total:,} labels (method"
        f" {markdown(metadata['method'])}, seed {metadata['seed']}) and left {left_out:,} rows of the source out.", "",
    ]  # fmt: skip
    if changes:
        lines += ["| given label | label | rows |", "| --- | --- | --- |"]
    for (given, label), count in sorted(changes.items(), key=lambda item: (-item[1], str(item[0])))[
        :_MOST_CHANGES
    ]:
        lines.append(f"| {'(none)' if given is None else markdown(given)} | {markdown(label)} | {count:,} |")
    if len(changes) > _MOST_CHANGES:
        lines.append(f"\n{len(changes) - _MOST_CHANGES:,} rarer changes are not listed.")
    (folder / "README.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def push_folder(folder: Path, repository: str) -> str:
    """Push a folder as a dataset; made if it is not there. By the user's own login (`hf auth login`).

    Returns:
        The address of the dataset.

    Raises:
        InputError: whatever the hub has against it, in a line.
    """
    from huggingface_hub import HfApi

    try:
        hub = HfApi()
        hub.create_repo(repository, repo_type="dataset", exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=str(folder), repo_type="dataset")
    except Exception as error:  # the hub has errors of many kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(
            f"--push {repository}: {folder} is written, but not pushed ({reason}); log in with `hf auth login`, or"
            " upload it yourself"
        ) from None
    return f"https://huggingface.co/datasets/{repository}"
