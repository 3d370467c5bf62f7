"""debian/copyright (DEP-5), made from what is bundled: each distribution's own licence files, and the modules that the
WhatsApp library says it was built from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from wadpack.gobuild import Module
from wadpack.payload import Files

GO_LICENCES: Final[dict[str, tuple[str, str]]] = {
    "filippo.io/edwards25519": ("BSD-3-Clause", "The Go Authors"),
    "github.com/beeper/argo-go": ("MIT", "Beeper"),
    "github.com/coder/websocket": ("MIT", "Anmol Sethi, The Gorilla WebSocket Authors, Sergey Kamardin"),
    "github.com/elliotchance/orderedmap": ("MIT", "Elliot Chance"),
    "github.com/google/uuid": ("BSD-3-Clause", "Google Inc."),
    "github.com/lib/pq": ("MIT", "Blake Mizerany and contributors"),
    "github.com/mattn/go-colorable": ("MIT", "Yasuhiro Matsumoto"),
    "github.com/mattn/go-isatty": ("MIT", "Yasuhiro Matsumoto"),
    "github.com/mattn/go-sqlite3": ("MIT", "Yasuhiro Matsumoto; SQLite itself is in the public domain"),
    "github.com/petermattis/goid": ("Apache-2.0", "Peter Mattis"),
    "github.com/rs/zerolog": ("MIT", "Olivier Poitrey"),
    "github.com/vektah/gqlparser": ("MIT", "Adam Scarr"),
    "go.mau.fi/libsignal": ("GPL-3", "Radical App LLC, Tulir Asokan"),
    "go.mau.fi/util": ("MPL-2.0", "Tulir Asokan"),
    "go.mau.fi/whatsmeow": ("MPL-2.0", "Tulir Asokan"),
    "golang.org/x/crypto": ("BSD-3-Clause", "The Go Authors"),
    "golang.org/x/exp": ("BSD-3-Clause", "The Go Authors"),
    "golang.org/x/net": ("BSD-3-Clause", "The Go Authors"),
    "golang.org/x/sync": ("BSD-3-Clause", "The Go Authors"),
    "golang.org/x/sys": ("BSD-3-Clause", "The Go Authors"),
    "golang.org/x/text": ("BSD-3-Clause", "The Go Authors"),
    "google.golang.org/protobuf": ("BSD-3-Clause", "The Go Authors"),
}  # fmt: skip
"""Licence and holders of what the WhatsApp library is built from, by module without its major version."""

_COMMON: Final = {
    "Apache-2.0": "/usr/share/common-licenses/Apache-2.0",
    "MPL-2.0": "/usr/share/common-licenses/MPL-2.0",
    "GPL-3": "/usr/share/common-licenses/GPL-3",
}
_SIGNS: Final = {
    "Apache-2.0": re.compile(r"Apache License\s+Version 2\.0"),
    "MPL-2.0": re.compile(r"Mozilla Public\s+License"),
}
_HOLDER: Final = re.compile(
    r"^\W*(?:copyright\s+)?(?:\(c\)|©|copyright)\s+(.{3,100})$", re.I | re.M
)


def copyright_file(described: Mapping[str, Files], compiled: Iterable[Module]) -> str:
    """The whole file.  `described`: for each distribution its METADATA and licence files."""
    stanzas = [_HEADER, *_python(described), _go(compiled), *_standalone()]
    return "\n\n".join(stanzas) + "\n"


_HEADER: Final = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: wad
Comment:
 The package brings what wad needs as its publishers built it: the wheels from
 PyPI that requirements.txt names, verified by their hashes, less what a daemon
 never loads.  This file is made from the licence files in those wheels.

Files: *
Copyright: the wad authors
License: Apache-2.0"""


def _python(described: Mapping[str, Files]) -> Iterator[str]:
    for name, files in sorted(described.items()):
        about = next(data for path, data in files.items() if path.endswith("/METADATA")).decode()
        whole = "\n\n".join(
            data.decode("utf-8", "replace")
            for path, data in sorted(files.items())
            if not path.endswith("/METADATA")
        )
        kind = next((kind for kind, sign in _SIGNS.items() if sign.search(whole or about)), "")
        author = _field(about, "Author") or _field(about, "Author-email") or f"the {name} authors"
        holders = _holders(whole) or [author]
        stanza = [
            f"Files: {PLACE}/{_module(files)}*",
            "Copyright:",
            *(f" {each}" for each in holders),
            f"License: {kind or f'{name}-licence'}",
        ]
        if not kind:
            stanza += _indented(whole or _field(about, "License") or "as its publisher states")
        yield "\n".join(stanza)


PLACE: Final = "usr/lib/wad/*"


def _module(files: Files) -> str:
    """What the names of a distribution's description begin with."""
    return next(iter(files)).partition("-")[0]


def _go(compiled: Iterable[Module]) -> str:
    rows = []
    kinds: dict[str, None] = {"Apache-2.0": None}
    for module in compiled:
        kind, holder = GO_LICENCES[plain(module)]
        kinds[kind] = None
        rows.append(f" {module.path} {module.version}: {kind}, {holder}")
    head = [
        f"Files: {PLACE}/neonize-linux-*.so",
        "Copyright: krypton-byte and those named below",
        f"License: {' and '.join(kinds)}",
        "Comment:",
        " A Go library in one file.  Besides neonize itself (Apache-2.0) it says it is built from",
    ]
    return "\n".join([*head, *rows])


def plain(module: Module) -> str:
    """A module's path without its major version."""
    return re.sub(r"/v\d+$", "", module.path)


def _standalone() -> Iterator[str]:
    for name, path in _COMMON.items():
        yield f"License: {name}\n On Debian systems the text is in {path}."
    yield "License: MIT\n" + "\n".join(_indented(_MIT))
    yield "License: BSD-3-Clause\n" + "\n".join(_indented(_BSD))


def _holders(text: str) -> list[str]:
    found = (re.sub(r"\s+", " ", each).strip(" .") for each in _HOLDER.findall(text))
    return sorted(
        {
            each
            for each in found
            if re.search(r"\d{4}|author|google|inc", each, re.I) and "[" not in each
        }
    )


def _field(metadata: str, name: str) -> str:
    found = re.search(rf"^{name}: (.+)$", metadata, re.M)
    return found[1].strip() if found else ""


def _indented(text: str) -> list[str]:
    return [f" {line.rstrip()}" if line.strip() else " ." for line in text.strip().splitlines()]


_MIT: Final = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""
_BSD: Final = """\
Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
disclaimer in the documentation and/or other materials provided with the distribution.
3. Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote
products derived from this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE."""
