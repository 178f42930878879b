"""The options of a scan, resolved: everything needed to run it again, and to JSON."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from labelfix import processes
from labelfix.data.images.store import auto_image_size
from labelfix.data.manifest import Manifest
from labelfix.data.own_numbers import Numbers
from labelfix.data.readers.several_labels import column_names
from labelfix.devices import largest_image, resolve_backbone, resolve_device, resolve_precision
from labelfix.errors import InputError
from labelfix.estimation.judgement import Thresholds
from labelfix.methods import AUTO, auto_methods, method_class, multi_label_methods
from labelfix.methods.base import FAST_HEAD, FAST_TUNE, MethodSettings
from labelfix.networks.encoders import LITE0, ONNX, encoder_and_weights, encoder_facts, is_encoder
from labelfix.output_paths import holding

OWN_FEATURES = "features"  # where a backbone is named: there is none, the user's features are what is seen
_GLYPHS_BELOW = 32  # pixels
_HELD_OUT_ROWS, _HELD_OUT_SHARES = 500, (0.02, 0.2)
_SHARE = re.compile(r"\d*\.?\d+")
_SMALLEST, _LARGEST = 8, 1024  # pixels
_OF_A_PROBE = ("backbone", "preset", "settings", "tune", "image_size", "flip", "folds", "holdout")
_PACKAGES = ("labelfix", "torch", "torchvision", "numpy", "scipy", "pillow", "pyarrow", "scikit-learn")


@dataclass(frozen=True)
class ScanConfig:
    """What a scan does, with every `auto` replaced by what it means here.

    Attributes:
        method: name of the method.
        preset: name of the preset that the settings started from.
        settings: of the method, complete.
        seed: of everything random, >= 0.
        backbone: name of the network, or of the encoder that it stands on.
        tune: "all" where every weight is trained, "none" where only a head on the features of an encoder is.
        flip: whether training images are mirrored.
        weights: "none", "imagenet" or the path of a file.
        weights_sha256: of that file, else empty.
        image_size: side of the network's input in pixels; of features that of the stored images, 0 without any.
        precision: "fp32" or "bf16".
        device: "cpu", "cuda:N" or "mps".
        rows: only the first so many rows, None for all.
        folds: trainings that each hold out a part of the rows, whose evidence then rests on what they never saw;
            0 for the usual single training.
        holdout: share of the rows that a single training leaves out, to tell what it remembers of labels.
        check_trusted: whether findings are checked on a half of the --trusted file, where enough of it differs.
        thresholds: of the verdicts, what is not estimated from the data.
        features: path of the user's own features that heads are trained on; None without any, and in memory.
        features_sha256: of that file or array; None without any.
        task: "single" for one label a row, "multi" for several.
        probe: of the linear probe beside the network; None without one.
    """

    method: str
    preset: str
    settings: MethodSettings
    seed: int
    backbone: str
    tune: str
    flip: bool
    weights: str
    weights_sha256: str
    image_size: int
    precision: str
    device: str
    rows: int | None
    folds: int
    holdout: float
    check_trusted: bool
    thresholds: Thresholds
    features: str | None = None
    features_sha256: str | None = None
    task: str = "single"
    probe: ScanConfig | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; without the task where it is the usual one, as runs always were, and without no probe.

        Of a probe what may be other than of the scan.
        """
        plain = {"settings": self.settings.model_dump(), "thresholds": asdict(self.thresholds)}
        found = {**vars(self), **plain}
        if self.probe is not None:
            own = self.probe.to_json()
            found["probe"] = {name: own[name] for name in _OF_A_PROBE}
        usual = (("task", "single"), ("probe", None))
        return {name: value for name, value in found.items() if (name, value) not in usual}

    @property
    def network_head(self) -> str:
        """`NetworkSpec.head`: empty but where a row may have several labels."""
        return self.settings.network_head

    @property
    def is_frozen(self) -> bool:
        """Whether an encoder stays as it is, and what is trained is a head on its features."""
        return self.tune == "none"

    @property
    def precision_type(self) -> torch.dtype:
        """The torch type of `precision`."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


class ScanOptions(BaseModel):
    """The options of `labelfix scan`, by the names of the command line.

    Attributes:
        method: one of `labelfix methods`, or auto: see `candidates`.
        out: run folder; None for `runs/<source name>-<method>`, beside the source where the current folder lies in it.
            An unfinished run there is resumed.
        seed: of everything random, >= 0.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32 or bf16.
        preset: fast, paper, or another preset of the method.
        epochs: scales all phases of the preset to so many epochs; None leaves them.
        folds: cross-fitting: train so many times (2 or more), each time without a part of the rows, and score every
            row by a network that never saw it; None for the method's default, which is none for most, and of no more
            than there are rows or groups to hold out.
        holdout: share of the rows that a single training leaves out, 0 to 0.5, to tell what the network remembers of
            the given labels; auto: 500 rows, but at least a fiftieth and at most a fifth.
        batch_size: rows of a training step; None for the preset's.
        backbone: auto, or a network by name.
        encoder: a pretrained network that images are seen through: none, lite0, timm:NAME, FILE.onnx, or auto: lite0
            or none by a trial on some of the images, see `labelfix.training.trial`; with `tune` alone lite0.
        tune: what of the encoder is trained: none (a head on its features), all, or auto: none on a CPU.
        weights: none, imagenet, or a file of weights.
        image_size: auto, or the side of the network's input in pixels.
        rows: only the first so many rows; None for all.
        pred_probs: the user's own out-of-sample probabilities, a file or an array (N, K): nothing is trained then, see
            `labelfix.pred_probs`; None to train.
        features: the user's own features, a file or an array (N, D), on which heads are trained as on those of an
            encoder; None for the images themselves.
        no_images: the source is a table without images, for `features` or `pred_probs`.
        class_order: the classes in the order of the columns of `pred_probs`: names with commas, a file with a name a
            line, or a sequence; None for the order of the classes of the source, or the names in the file.
        trusted: file of verified labels, see `labelfix.data.verified_labels`; None for none.
        check_trusted: whether half of that file, where 20 or more of its labels differ from the given ones, is kept
            from training to calibrate the scores and check the corrections on; None for yes, but with a method that
            learns from verified samples in a stream of their own.
        test: source of labelled images for the accuracy after every epoch; None for the rows of a test split. The
            names of its columns are those of the source where it has them, else the usual ones.
        root: folder that a manifest's relative paths start from; None for the manifest's.
        image_column: of a manifest or Parquet file; None for the usual names.
        label_column: of a manifest or Parquet file; None for the usual names.
        label_columns: columns with a number from 0 to 1 for a class each: names with commas, a JSON list of names, or
            a sequence; None for a label column.
        label_separator: what stands between the labels of a row, in texts; None for one label.
        task: "single" for one label a row, "multi" for any number of them, "auto" for what the source holds.
        merge_classes: whether classes whose names look alike are one.
        class_map: names that classes are to go by: a file, or a mapping, see `labelfix.data.class_names`.
        settings: settings of the method, and thresholds of the verdicts (`estimation.judgement.Thresholds`), by name,
            values as text (`--set`) or as they are.
        overwrite: replace a finished run, or an unfinished one with other options.
    """

    model_config = ConfigDict(frozen=True)

    method: str = AUTO
    out: str | Path | None = None
    seed: int = Field(0, ge=0, description="must be 0 or more")
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="use auto, fp32 or bf16")
    preset: str = "fast"
    epochs: int | None = None
    folds: int | None = Field(
        None, ge=2, description="must be at least 2; leave it out for the method's default"
    )
    holdout: Literal["auto"] | Annotated[float, Field(ge=0, le=0.5)] = Field(
        "auto", description="use auto, or a share of the rows from 0 to 0.5"
    )
    batch_size: int | None = Field(None, ge=1, description="must be at least 1")
    backbone: str = "auto"
    encoder: str = "auto"
    tune: Literal["auto", "none", "all"] = Field("auto", description="use auto, none or all")
    weights: str = "none"
    image_size: Literal["auto"] | Annotated[int, Field(ge=_SMALLEST, le=_LARGEST)] = Field(
        "auto", description=f"must be between {_SMALLEST} and {_LARGEST} pixels"
    )
    rows: int | None = Field(None, ge=1, description="must be at least 1")
    pred_probs: Any = None
    class_order: Any = None
    features: Any = None
    no_images: bool = False
    trusted: str | Path | None = None
    check_trusted: bool | None = Field(None, description="use True, False or None")
    test: Any = None
    root: str | Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    label_columns: tuple[str, ...] | None = None
    label_separator: str | None = None
    task: Literal["auto", "single", "multi"] = Field("auto", description="use auto, single or multi")
    merge_classes: bool = False
    class_map: str | Path | dict[str, str] | None = None
    settings: Mapping[str, Any] = Field(default_factory=dict)
    overwrite: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ScanOptions:
        """From keyword arguments.

        Raises:
            InputError: an unknown name, or a value of another type or out of range.
        """
        for name in options:
            if name not in cls.model_fields:
                raise InputError(f"scan has no option {name}; there are {', '.join(cls.model_fields)}")
        try:
            return cls(**options)
        except ValidationError as error:
            problem = error.errors()[0]
            name = str(problem["loc"][0])
            wanted = cls.model_fields[name].description or problem["msg"]
            raise InputError(f"--{name.replace('_', '-')} {options[name]}: {wanted}") from None

    @field_validator("image_size", mode="before")
    @classmethod
    def _check_number(cls, size: Any) -> Any:
        if size != "auto" and not str(size).isdecimal():
            raise InputError(f"--image-size {size}: use auto or a number of pixels")
        return size

    @field_validator("holdout", mode="before")
    @classmethod
    def _as_share(cls, share: Any) -> Any:
        return float(share) if isinstance(share, str) and _SHARE.fullmatch(share) else share

    @field_validator("label_columns", mode="before")
    @classmethod
    def _as_names(cls, names: Any) -> Any:
        return column_names(names) if isinstance(names, str) else names

    @field_validator("encoder", "weights", mode="before")
    @classmethod
    def _as_text(cls, name: Any) -> Any:
        return str(name) if isinstance(name, Path) else name

    @property
    def may_try_encoder(self) -> bool:
        """Whether `--encoder auto` asks the images: nothing else that was given names the network or its weights."""
        return (
            (self.encoder, self.backbone, self.weights, self.tune, self.preset)
            == ("auto", "auto", "none", "auto", "fast")
            and self.features is None
            and not self.no_images
        )

    @property
    def _named_encoder(self) -> str:
        """What `auto` means where the images are not asked: `--tune` wants one, all else none.

        What names the network (`--backbone`, `--weights`, `--preset`) may have all of itself trained.

        Raises:
            InputError: a network that is no encoder is to stay as it is.
        """
        if self.tune == "none" and self.backbone != "auto":
            raise InputError(
                f"--tune none: only an encoder can stay as it is, and --backbone {self.backbone} is none; leave one of"
                " them out, or name an encoder with --encoder"
            )
        is_named = (self.backbone, self.weights, self.preset) != ("auto", "none", "fast")
        return LITE0 if self.tune == "none" or (self.tune == "all" and not is_named) else "none"

    def check_task(self) -> None:
        """Refuse several labels a row where the method takes one.

        Raises:
            InputError: names the option and the methods that take them.
        """
        asked = {
            "--label-columns": self.label_columns,
            "--label-separator": self.label_separator,
            "--task multi": self.task == "multi",
        }
        given = next((option for option, value in asked.items() if value), None)
        if given is None:
            return
        if self.task == "single":
            raise InputError(f"{given}: --task single takes one label per row; leave one of them out")
        if self.pred_probs is not None:
            raise InputError(
                f"{given}: --pred-probs takes one label per row; leave it out to train a network"
            )
        if not self._may_take_several:
            which = " or ".join(multi_label_methods())
            raise InputError(
                f"{given}: --method {self.method} takes one label per row; for several use --method {which}"
            )

    @property
    def label_lists(self) -> dict[str, Any]:
        """How `Manifest.read` takes several labels a row; where the method takes one, they are refused."""
        if not self._may_take_several:
            return {"task": "single"}
        return {
            "task": self.task,
            "label_columns": self.label_columns,
            "label_separator": self.label_separator,
        }

    @property
    def _may_take_several(self) -> bool:
        return self.method == AUTO or self.method in multi_label_methods()

    def candidates(self, task: str) -> tuple[ScanOptions, ...]:
        """The same options with every method that `--method auto` compares, where heads are trained in folds.

        The first is what `auto` is elsewhere: where a whole network is trained, with several labels a row, and where a
        setting or a preset says how to train.

        Args:
            task: "single" or "multi".
        """
        if self.method != AUTO:
            return (self,)
        names = auto_methods(task)
        if self.preset != "fast" or without_thresholds(self.settings)[1]:
            names = names[:1]
        return tuple(self._with_method(name, is_compared=len(names) > 1) for name in names)

    def _with_method(self, name: str, *, is_compared: bool) -> ScanOptions:
        own = method_class(name).when_compared if is_compared else {}
        return self.model_copy(update={"method": name, "settings": {**self.settings, **own}})

    @property
    def checks_trusted(self) -> bool:
        """Whether a half of the --trusted file is kept to check on; unasked not by methods that learn from it."""
        if self.check_trusted is not None:
            return self.check_trusted
        return not method_class(self.method).needs_trusted

    @property
    def asked(self) -> dict[str, str]:
        """Options that may be `auto`, as they were given."""
        names = ("image_size", "backbone", "tune", "encoder")
        return {name: str(getattr(self, name)) for name in names}

    def resolve(
        self,
        manifest: Manifest,
        earlier: Mapping[str, Any] | None = None,
        features: Numbers | None = None,
    ) -> ScanConfig:
        """Replace every `auto` by what it means for these images on this machine.

        Args:
            manifest: of the source.
            earlier: what `auto` was resolved to in the unfinished run that is resumed, by option; there it means
                the same again, also on another device.
            features: of the user, as they were read; None without any.

        Raises:
            InputError: an option that does not fit.
        """
        if features is not None:
            return self._on_features(manifest, features)
        if self.encoder == "auto":
            return self.model_copy(update={"encoder": self._named_encoder}).resolve(manifest, earlier)
        device = resolve_device(self.device)
        encoder, weights = encoder_and_weights(self.encoder, self.weights)
        self._check_encoder(encoder)
        digest = weights_sha256(weights, "--encoder" if encoder == ONNX else "--weights")
        chosen = {"image_size": self.image_size, "backbone": self.backbone, "tune": self.tune}
        earlier = earlier or {}
        # A run through an encoder says nothing of one without.
        if is_encoder(earlier.get("backbone", "")) == (encoder != "none"):
            chosen |= {name: earlier[name] for name in earlier.keys() & chosen if chosen[name] == "auto"}
        tune = _what_is_tuned(str(chosen["tune"]), device, encoder)
        size = self._image_size(chosen["image_size"], manifest, device, tune, encoder, weights)
        backbone = str(chosen["backbone"]) if encoder == "none" else encoder
        thresholds, changes = without_thresholds(self.settings)
        is_vector = tune == "none" and encoder == ONNX
        settings = self._settings(self._preset(tune), manifest.task, changes, is_vector=is_vector)
        backbone = resolve_backbone(backbone, device, size)
        folds = self._folds(tune)
        return ScanConfig(
            method=self.method,
            preset=self._preset(tune),
            settings=settings,
            seed=self.seed,
            backbone=backbone,
            tune=tune,
            flip=self._flips(settings, manifest, size),
            weights=weights,
            weights_sha256=digest,
            image_size=size,
            precision=resolve_precision(self.precision, device, backbone),
            device=device,
            rows=self.rows,
            folds=folds,
            holdout=self._holdout(manifest, folds, settings),
            check_trusted=self.checks_trusted,
            thresholds=thresholds,
            task=manifest.task,
        )

    def with_probe(self, config: ScanConfig, manifest: Manifest, encoder: str) -> ScanConfig:
        """The same with a linear probe beside it: the method's head on an encoder as it was published, in folds.

        Predictions averaged over a training remember the labels, and the probe's never saw them. There is none where
        folds tell as much, where nothing is left out to weigh the two by, or where findings are read another way.

        Args:
            config: what `resolve` made of these options.
            manifest: of the source.
            encoder: by its name, or "none".
        """
        is_read = getattr(config.settings, "score_from", "") == "trajectory"
        if encoder == "none" or config.is_frozen or not config.holdout or not is_read:
            return config
        settings = {name: value for name, value in self.settings.items() if name == "flip"}
        options: dict[str, Any] = {"encoder": encoder, "tune": "none", "preset": "fast", "settings": settings}
        options |= {"epochs": None, "batch_size": None, "holdout": "auto"}
        return replace(config, probe=self.model_copy(update=options).resolve(manifest))

    def _settings(
        self, preset: str, task: str, changes: Mapping[str, Any], *, is_vector: bool
    ) -> MethodSettings:
        """Of the method, see `resolve_settings`.

        Raises:
            InputError: also an attention head where no image has a map of features.
        """
        found = resolve_settings(self.method, preset, self.epochs, self.batch_size, changes, task)
        if is_vector and found.network_head:
            raise InputError(
                "--set head=attention: --features, and an ONNX encoder, give one vector for an image and no map; use"
                " head=pool, or --encoder lite0 or timm:NAME"
            )
        return found

    def _on_features(self, manifest: Manifest, features: Numbers) -> ScanConfig:
        """The same for heads on the user's own features."""
        device = resolve_device(self.device)
        for name in ("backbone", "encoder", "tune", "weights", "test"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise InputError(
                    f"--{name}: with --features heads are trained on them; leave one of them out"
                )
        preset = FAST_HEAD if self.preset == "fast" else self.preset
        size = self.image_size if manifest.has_images else 0
        thresholds, changes = without_thresholds(self.settings)
        settings = self._settings(preset, manifest.task, changes, is_vector=True)
        folds = self._folds("none")
        return ScanConfig(
            method=self.method,
            preset=preset,
            settings=settings,
            seed=self.seed,
            backbone=OWN_FEATURES,
            tune="none",
            flip=False,
            weights="none",
            weights_sha256="",
            image_size=auto_image_size(manifest, largest_image("cpu")) if size == "auto" else size,
            precision=resolve_precision(self.precision, device, OWN_FEATURES),
            device=device,
            rows=self.rows,
            folds=folds,
            holdout=self._holdout(manifest, folds, settings),
            check_trusted=self.checks_trusted,
            thresholds=thresholds,
            features=str(self.features) if isinstance(self.features, str | Path) else None,
            features_sha256=features.sha256,
            task=manifest.task,
        )

    def _folds(self, tune: str) -> int:
        """How many; of heads none where a share is to be left out instead."""
        method = method_class(self.method)
        if self.folds is not None:
            return self.folds
        return method.head_folds if tune == "none" and self.holdout == "auto" else method.default_folds

    def _holdout(self, manifest: Manifest, folds: int, settings: MethodSettings) -> float:
        """The share of rows that is left out of training; none where every row is held out once, or none is judged.

        Raises:
            InputError: asked for with folds.
        """
        if self.holdout != "auto":
            if folds and self.holdout:
                raise InputError(
                    f"--holdout {self.holdout:g}: with {folds} folds every row is held out once; leave one of them out"
                )
            return self.holdout
        if folds or getattr(settings, "score_from", "") == "method":
            return 0.0
        least, most = _HELD_OUT_SHARES
        share = min(max(_HELD_OUT_ROWS / max(manifest.num_rows, 1), least), most)
        return round(1 / round(1 / round(share, 4)), 4)  # one of so many parts

    def _check_encoder(self, encoder: str) -> None:
        """Refuse options that do not go together.

        Raises:
            InputError: names them.
        """
        if encoder == "none":
            if self.tune == "none":
                raise InputError("--tune none: only an encoder can stay as it is; name one with --encoder")
            if is_encoder(self.backbone):
                raise InputError(
                    f"--backbone {self.backbone}: that is an encoder; use --encoder {self.backbone}"
                )
            return
        if self.backbone != "auto":
            raise InputError(
                f"--backbone {self.backbone}: --encoder {self.encoder} is the network; give one of them"
            )
        if self.weights == "imagenet":
            raise InputError(
                f"--weights imagenet: --encoder {self.encoder} has weights of its own; leave it out"
            )
        if encoder == ONNX and self.tune == "all":
            raise InputError(
                f"--tune all: {self.encoder} cannot be trained, its format only runs; use --tune none"
            )
        if encoder != ONNX and self.weights != "none" and Path(self.weights).suffix != ".safetensors":
            raise InputError(
                f"--weights {self.weights}: with --encoder {self.encoder} give a .safetensors file"
            )

    def _preset(self, tune: str) -> str:
        """The preset by its full name: what is fast depends on what is trained."""
        if self.preset != "fast" or self.encoder == "none":
            return self.preset
        return FAST_HEAD if tune == "none" else FAST_TUNE

    def _image_size(
        self, size: str | int, manifest: Manifest, device: str, tune: str, encoder: str, weights: str
    ) -> int:
        if size != "auto":
            return int(size)
        if self.encoder == "none":
            return auto_image_size(manifest, largest_image(device))
        facts = encoder_facts(encoder, weights)
        found = facts.tuned_size if tune == "all" and device == "cpu" else facts.image_size
        if not _SMALLEST <= found <= _LARGEST:
            raise InputError(
                f"--encoder {self.encoder}: it is made for images of {found} px; take one for {_SMALLEST} to {_LARGEST}"
            )
        return found

    def _flips(self, settings: MethodSettings, manifest: Manifest, size: int) -> bool:
        """Whether training images are mirrored: images that are small themselves are mostly glyphs."""
        if settings.flip != "auto":
            return settings.flip
        return (size if self.encoder == "none" else auto_image_size(manifest, _GLYPHS_BELOW)) >= _GLYPHS_BELOW

    def run_path(self, manifest: Manifest, method: str | None = None) -> Path:
        """The run folder; by default below the current folder, or beside the source where that is in the source.

        Args:
            manifest: of the source.
            method: that the folder is called after; None for the one that is chosen.
        """
        if self.out is not None:
            return Path(self.out)
        place = Path("runs") / f"{manifest.name}-{method or self.method}"
        return place if holding(place, manifest.places) is None else manifest.source.parent / place


def _what_is_tuned(tune: str, device: str, encoder: str) -> str:
    """What is trained: "all" without an encoder; else `auto` is a head, and on a GPU all of what can be trained."""
    if encoder in ("none", ONNX):
        return "none" if encoder == ONNX else "all"
    return "all" if tune == "all" or (tune == "auto" and device != "cpu") else "none"


def without_thresholds(settings: Mapping[str, Any]) -> tuple[Thresholds, dict[str, Any]]:
    """The thresholds among settings, and the others.

    Raises:
        InputError: a threshold that is no number, or out of range.
    """
    names = [field.name for field in fields(Thresholds)]
    found: dict[str, float] = {}
    for name in filter(settings.__contains__, names):
        try:
            found[name] = float(settings[name])
        except (TypeError, ValueError):
            raise InputError(f"--set {name}={settings[name]}: expected a number") from None
    try:
        thresholds = Thresholds(**found)
    except InputError as error:
        raise InputError(f"--set {error}") from None
    return thresholds, {name: value for name, value in settings.items() if name not in names}


def resolve_settings(
    method: str,
    preset: str,
    epochs: int | None,
    batch_size: int | None,
    changes: Mapping[str, str],
    task: str = "single",
) -> MethodSettings:
    """Settings of a method: the preset, then --epochs and --batch-size, then every --set.

    Raises:
        InputError: an unknown method, preset or setting, or a value that does not fit.
    """
    presets = method_class(method, task).presets()
    if preset not in presets:
        raise InputError(f"--preset {preset}: {method} has the presets {', '.join(presets)}")
    settings = presets[preset]
    if epochs is not None:
        try:
            settings = settings.with_epochs(epochs)
        except ValueError as error:
            raise InputError(f"--epochs {epochs}: {error}") from None
    if batch_size is not None:
        settings = settings.model_copy(update={"batch_size": batch_size})
    settings = settings.changed(changes)
    settings.check()
    return settings


def weights_sha256(weights: str, option: str = "--weights") -> str:
    """SHA-256 of the weights file that an option names, so that a resumed run can tell a change of it; else empty.

    Raises:
        InputError: no such file.
    """
    if weights in ("none", "imagenet"):
        return ""
    try:
        with Path(weights).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        ways = "use none, imagenet or a file" if option == "--weights" else "check the path"
        raise InputError(f"{option} {weights}: {error.strerror}; {ways}") from None


def environment(method: str | None, backbone: str = "small", device: str = "cpu") -> dict[str, Any]:
    """What the bytes of a result depend on beside the options: package versions, machine type, threads, the GPU.

    Without a method (None) the findings are of predictions that are there already.
    """
    packages = () if method is None else method_class(method).packages
    runs = () if not is_encoder(backbone) else ("onnxruntime" if backbone == ONNX else "timm",)
    return {
        "packages": {
            **{name: _version(name) for name in (*_PACKAGES, *packages)},
            # By the module: onnxruntime comes in packages of several names.
            **{name: import_module(name).__version__ for name in runs},
        },
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        **({"processes": processes.count()} if processes.count() > 1 else {}),
        **_gpu(device),
    }


@cache
def _version(package: str) -> str:
    """Of what is installed; read once, as every scan of a process asks."""
    return version(package)


def _gpu(device: str) -> dict[str, Any]:
    """The GPU and what runs on it; empty on a processor."""
    if device == "mps":
        return {"gpu": {"name": "mps", "macos": platform.mac_ver()[0]}}
    if device == "cpu":
        return {}
    name, cudnn = torch.cuda.get_device_name(device), torch.backends.cudnn.version()
    return {"gpu": {"name": name, "cuda": torch.version.cuda, "cudnn": cudnn}}
