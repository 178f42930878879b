"""Images at addresses (https://, s3://, gs://): fetched through fsspec when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

# What fetches each; fsspec comes with torch, the packages behind it do not.
_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_AT_ONCE = 64


def fetch(addresses: Sequence[str]) -> Iterator[tuple[bytes | None, str]]:
    """Yield the bytes at each address in order, and why there are none; a few dozen are fetched at a time."""
    for start in range(0, len(addresses), _AT_ONCE):
        some = addresses[start : start + _AT_ONCE]
        by_protocol: dict[str, list[str]] = {}
        for address in some:
            by_protocol.setdefault(address.partition("://")[0].lower(), []).append(address)
        found: dict[str, tuple[bytes | None, str]] = {}
        for protocol, those in by_protocol.items():
            found |= _fetched(protocol, list(dict.fromkeys(those)))
        yield from (found[address] for address in some)


def _fetched(protocol: str, addresses: list[str]) -> dict[str, tuple[bytes | None, str]]:
    if protocol not in _PACKAGES:
        ways = ", ".join(f"{name}://" for name in _PACKAGES)
        return dict.fromkeys(addresses, (None, f"{protocol}:// is not read; there are {ways}"))
    try:
        import fsspec

        system: Any = fsspec.filesystem(protocol)
    except ImportError:
        package = _PACKAGES[protocol]
        return dict.fromkeys(
            addresses, (None, f"{protocol}:// is read where {package} is: pip install {package}")
        )
    found: dict[str, tuple[bytes | None, str]] = dict.fromkeys(addresses, (None, "cannot be fetched"))
    try:
        # Keys come back without the protocol, in the order that they were asked for.
        contents = system.cat(addresses, on_error="return")
    except Exception as error:  # whatever a service may answer
        return dict.fromkeys(addresses, (None, _reason(error)))
    if not isinstance(contents, dict):
        contents = {addresses[0]: contents}
    for address in addresses:
        content = contents.get(address, contents.get(system._strip_protocol(address)))
        if isinstance(content, bytes):
            found[address] = (content, "")
        elif isinstance(content, Exception):
            found[address] = (None, _reason(content))
    return found


def _reason(error: Exception) -> str:
    """One line without the address, which may hold a key."""
    if isinstance(error, FileNotFoundError):
        return "cannot be fetched: not found"
    return f"cannot be fetched: {type(error).__name__}"
