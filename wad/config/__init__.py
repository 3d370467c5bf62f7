"""The configuration: every setting is declared once, in `settings.py`, and everything else is made from that.

A setting gets its value from the last of these that has one: its default, the file (`/etc/wad/wad.toml`, or the one
named by `--config` or `$WAD_CONFIG`), the environment, a systemd credential, the command line.  An environment
variable that is empty counts as not set.  The sample file, the reference page and `wad config show` are derived.
"""

from wad.config.loading import LoadedConfig, examine, load
from wad.config.origin import ValueOrigin
from wad.config.settings import SETTINGS, Config

__all__ = ["SETTINGS", "Config", "LoadedConfig", "ValueOrigin", "examine", "load"]
