"""An encoder under its head, as one network, and the head alone."""

from __future__ import annotations

import torch
from torch import nn

from labelfix.errors import InputError
from labelfix.networks.encoders import ONNX, build_encoder, feature_shape, num_features
from labelfix.networks.frozen_maps import MapHead, frozen_maps
from labelfix.networks.heads import FeatureHead, FrozenEncoder, FrozenNetwork, Head, TunedNetwork
from labelfix.networks.onnx_encoder import OnnxEncoder


def frozen_encoder(encoder: nn.Module, name: str, image_size: int, head: str) -> FrozenEncoder:
    """An encoder that stays as it is, with the features that a head needs: vectors, or maps under one of `HEADS`.

    Args:
        encoder: (B, 3, H, H) to (B, D).
        name: of it, for messages.
        image_size: H.
        head: empty for pooling, else one of `attention.HEADS`.

    Raises:
        InputError: it has no map, and the head needs one.
    """
    return FrozenEncoder(frozen_maps(encoder, name, image_size) if head else encoder)


def head_on(shape: tuple[int, ...], num_classes: int, head: str) -> FeatureHead:
    """The head on features of a shape: linear on (D,), by attention on (D, h, w)."""
    return MapHead(shape, num_classes, head) if head else Head(shape[0], num_classes)


def encoded_network(
    name: str, num_classes: int, image_size: int, views: int, onnx_shape: tuple[int, ...] = (), head: str = ""
) -> nn.Module:
    """An encoder by its name with random weights, under a head.

    Args:
        name: of the encoder.
        num_classes: K.
        image_size: side of the images in pixels.
        views: of an image that a frozen encoder sees: 1, or 2 with its mirror image; 0 where it is trained too.
        onnx_shape: bytes of the file of an ONNX encoder, and how many features it has.
        head: of a frozen encoder; one that is trained too has a linear one here.

    Raises:
        InputError: as `build_encoder`; an attention head on an encoder without maps.
    """
    if name == ONNX:
        if head:
            raise InputError(
                "--encoder: an ONNX encoder gives no map for an attention head; use --set head=pool"
            )
        size, features = onnx_shape
        encoder: nn.Module = OnnxEncoder(torch.zeros(size, dtype=torch.uint8), "model.safetensors")
        linear = Head(features, num_classes)
        if not views:
            return TunedNetwork(encoder, linear)
        return FrozenNetwork(FrozenEncoder(encoder), linear, mirrored=views == 2)
    encoder = build_encoder(name, image_size)
    if not views:
        return TunedNetwork(encoder, Head(num_features(encoder, image_size), num_classes))
    frozen = frozen_encoder(encoder, name, image_size, head)
    return FrozenNetwork(
        frozen, head_on(feature_shape(frozen, image_size), num_classes, head), mirrored=views == 2
    )
