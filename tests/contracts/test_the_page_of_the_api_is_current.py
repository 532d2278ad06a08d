"""docs/api.md is made from what the routes say of themselves."""

from __future__ import annotations

import pathlib

from tests.rigs.api_page import PAGE, document, page


async def test_the_page_is_what_the_document_says(tmp_path: pathlib.Path) -> None:
    assert PAGE.read_text() == page(document(str(tmp_path))), "run make api-page"
