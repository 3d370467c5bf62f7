"""What of the locked distributions goes into the package, and what stays out, and why."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

EVERYTHING: Final = ("*",)

BUNDLED: Final[dict[str, tuple[str, ...]]] = {
    # The library itself and its generated protobuf classes; its own Python is not loaded (wad/worker/library.py).
    "neonize": ("neonize/__init__.py", "neonize/proto/*", "neonize/neonize-linux-*.so"),
    "anyio": EVERYTHING,
    "certifi": EVERYTHING,
    "cffi": ("_cffi_backend.*.so",),  # cryptography loads this; the rest is for who compiles
    "charset-normalizer": EVERYTHING,
    "click": EVERYTHING,
    "cryptography": EVERYTHING,
    "google-api-core": EVERYTHING,
    "google-auth": EVERYTHING,
    "google-cloud-core": EVERYTHING,
    "google-cloud-firestore": EVERYTHING,
    "googleapis-common-protos": EVERYTHING,
    "grpcio": EVERYTHING,
    "grpcio-status": EVERYTHING,
    "httptools": EVERYTHING,
    "idna": EVERYTHING,
    "msgpack": EVERYTHING,
    "msgspec": EVERYTHING,
    "prometheus-client": EVERYTHING,
    "proto-plus": EVERYTHING,
    "protobuf": EVERYTHING,
    "pyjwt": EVERYTHING,
    "requests": EVERYTHING,
    "sdnotify": EVERYTHING,
    "segno": EVERYTHING,
    "starlette": EVERYTHING,
    "typing-extensions": EVERYTHING,
    "urllib3": EVERYTHING,
    "uvicorn": EVERYTHING,
}

_PYTHON_OF_NEONIZE: Final = "only neonize's own Python uses it, and that is not loaded"
LEFT_OUT: Final[dict[str, str]] = {
    "beautifulsoup4": _PYTHON_OF_NEONIZE,
    "h11": "uvicorn parses with httptools here",
    "httpcore": _PYTHON_OF_NEONIZE,
    "httpx": _PYTHON_OF_NEONIZE,
    "linkpreview": _PYTHON_OF_NEONIZE,
    "opentelemetry-api": "google-cloud-firestore traces with it only where it is there",
    "phonenumbers": _PYTHON_OF_NEONIZE,
    "pillow": _PYTHON_OF_NEONIZE,
    "pyasn1": "google-auth signs with cryptography here",
    "pyasn1-modules": "google-auth signs with cryptography here",
    "pycparser": "cffi needs it to compile, not to run",
    "python-magic": _PYTHON_OF_NEONIZE,
    "soupsieve": _PYTHON_OF_NEONIZE,
    "tqdm": _PYTHON_OF_NEONIZE,
}

_NEVER: Final = (
    *("*.pyi", "*.pxd", "*.pyx", "*.pxi", "*.c", "*.cpp", "*.h", "*.proto", "*.pyc", "*/py.typed"),
    *("tests/*", "*/tests/*", "*/testing/*", "doc/*", "docs/*", "examples/*"),
    *("google/cloud/firestore_admin_v1/*", "google/cloud/firestore_bundle/*"),
    *("segno/cli.py", "segno/__main__.py"),
)
"""Sources of compiled modules, types for checkers, tests, and services that wad does not use."""


def keeps(name: str, path: str) -> bool:
    """Whether a file of a distribution is bundled; `path` is relative to the directory of modules."""
    wanted = any(fnmatchcase(path, pattern) for pattern in BUNDLED[name])
    return wanted and not any(fnmatchcase(path, pattern) for pattern in _NEVER)
