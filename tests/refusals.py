"""Bad input is refused in one line that names what is wrong, whichever function is asked."""

from __future__ import annotations

import pytest

from labelfix.data.manifest import Manifest
from labelfix.errors import InputError


def refuses(function, /, *words, **options):
    """function(**options) raises an InputError for exit code 2: one line, returned, that holds every word."""
    with pytest.raises(InputError) as caught:
        function(**options)
    line = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in line
    for word in words:
        assert str(word) in line, f"{word!r} is not in {line!r}"
    return line


def refuses_source(source, *words, **options):
    """Manifest.read refuses the source so."""
    return refuses(Manifest.read, *words, source=source, **options)
