"""How many images a call sends through the decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from labelfix.data.images import store


def rows_decoded(build: Callable[[], Any]) -> int:
    """Rows that `build` decodes; 0 where the cache had them all."""
    with patch.object(store, "decode_all", wraps=store.decode_all) as decode:
        build()
    return sum(call.args[0].num_rows for call in decode.call_args_list)
