"""A fake gcloud for PATH: it has one project, keeps its state in a file, and gives the scripted answers.

Run as a program it is gcloud; `installed` puts it into a directory.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

STATE = "WAD_TEST_GCLOUD"
"""The variable that names the file."""


def installed(directory: Path, **state: Any) -> Path:
    """Put it into `directory` as `gcloud`; the file with its state.

    `services` are region -> names; `refuse` parts of commands that fail; `never_ready`, `no_image` as they say; `url`
    is where every service answers.
    """
    file = directory / "gcloud.json"
    file.write_text(json.dumps({"project": "demo", "revision": 1, "calls": [], **state}))
    command = directory / "gcloud"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    command.chmod(0o755)
    return file


def _main(arguments: list[str]) -> int:
    file = Path(os.environ[STATE])
    state = json.loads(file.read_text())
    state["calls"].append(arguments)
    code = _answer(state, arguments)
    file.write_text(json.dumps(state))
    return code


def _answer(state: dict[str, Any], arguments: list[str]) -> int:
    plain = [word for word in arguments if not word.startswith("--")]
    options = dict(word[2:].partition("=")[::2] for word in arguments if word.startswith("--"))
    services = state.get("services", {}).get(options.get("region", ""), [])
    if refused := next((word for word in state.get("refuse", []) if word in plain), ""):
        print(f"WARNING: about to fail\nERROR: (gcloud.run) {refused} was refused", file=sys.stderr)
        return 1
    match plain:
        case ["config", "get-value", "project"]:
            print(state["project"] or "(unset)")
        case ["run", "regions", "list"]:
            print("\n".join(state.get("services", {})))
        case ["run", "services", "list"]:
            print("\n".join(services))
        case ["run", "services", "describe" | "update" as verb, name]:
            if name not in services:
                print(f"ERROR: (gcloud.run) Cannot find service [{name}]", file=sys.stderr)
                return 1
            if verb == "update":
                state["revision"] += 1
            else:
                print(json.dumps(_service(state, name)))
        case _:
            print(f"ERROR: the stand-in does not know {plain}", file=sys.stderr)
            return 2
    return 0


def _service(state: dict[str, Any], name: str) -> dict[str, Any]:
    made = f"{name}-{state['revision']:05}"
    ready = f"{name}-00001" if state.get("never_ready") else made
    image = {} if state.get("no_image") else {"image": "gcr.io/demo/backend"}
    return {
        "spec": {"template": {"spec": {"containers": [image]}}},
        "status": {
            "url": state.get("url", ""),
            "latestReadyRevisionName": ready,
            "latestCreatedRevisionName": made,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
