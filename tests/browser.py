"""A real browser for tests: the machine's Chromium, driven by playwright; tests say so where there is none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def executable() -> str | None:
    """The browser named in LABELFIX_TEST_BROWSER, else the first Chromium on the path."""
    named = os.environ.get("LABELFIX_TEST_BROWSER")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """A headless Chromium; the tests that ask for it are skipped where playwright or a browser is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="no browser tests: playwright is not installed")
    path = executable()
    if path is None:
        pytest.skip("no browser tests: no Chromium on the path, and none in LABELFIX_TEST_BROWSER")
    with api.sync_playwright() as playwright:
        # The sandbox needs rights that containers do not give; the pages are our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page that was opened from a file, with everything that it logged and asked for.

    `close` fails where it asked for anything but itself and data inside it, or where it had an error.
    """

    def __init__(
        self, browser: Any, file: Path, fragment: str = "", script: str = "", **context: Any
    ) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        self.file = file
        self.trouble: list[str] = []
        if script:
            self.context.add_init_script(script)
        self.page = self.tab(fragment)

    def tab(self, fragment: str = "") -> Any:
        """The same file in a new tab of the same browser window."""
        page = self.context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._asked(request.url))
        page.goto(self.file.as_uri() + fragment)
        return page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()

    def downloaded(self) -> str:
        """The decisions, as the button saves them."""
        with self.page.expect_download() as download:
            self.page.click("#download")
        assert download.value.suggested_filename == "decisions.csv"
        return download.value.path().read_text(encoding="utf-8")

    def close(self) -> None:
        self.context.close()
        assert not self.trouble, self.trouble

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.trouble.append(f"console {kind}: {text}")

    def _asked(self, url: str) -> None:
        if url.split("#")[0] != self.file.as_uri() and not url.startswith(("data:", "blob:")):
            self.trouble.append(f"request: {url}")
