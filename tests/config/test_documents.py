"""The sample file is correct."""

from __future__ import annotations

import re

from tests.config.loaded import NOWHERE, Write, defaults
from wad.config import load
from wad.config.documents import sample


def test_sample_with_every_line_uncommented_gives_the_defaults(write: Write) -> None:
    """The defaults in the sample are the real defaults."""
    text = re.sub(r"(?m)^#(\w)", r"\1", sample())
    loaded = load(write(text), {})
    assert {origin.source.split()[0] for origin in loaded.origins.values()} == {"file"}
    assert loaded.config == load(None, {}, default_file=NOWHERE, hostname="HOSTNAME").config


def test_sample_as_it_is_changes_nothing(write: Write) -> None:
    """The sample can be installed as the file."""
    assert load(write(sample()), {}, hostname="box").config == defaults().config
