"""The port to WhatsApp; its adapters are named only in `open_engine`."""

from __future__ import annotations

from wad.engine.port import Engine as Engine
from wad.engine.port import EngineOptions as EngineOptions


def open_engine(kind: str, options: EngineOptions) -> Engine:
    """The engine of this kind; its module is imported on demand."""
    if kind == "neonize":
        from wad.engine.workers import NeonizeEngine

        return NeonizeEngine(options)
    if kind == "simulator":
        from wad.engine.simulator import SimulatorEngine

        return SimulatorEngine()
    raise ValueError(f"unknown engine: {kind!r}")
