"""The configuration: every setting is declared once, in `settings.py`; everything else is derived from that.

A setting gets its value from the last of these sources that has one: its default, the file (`/etc/wad/wad.toml`, or the
one named by `--config` or `$WAD_CONFIG`), the environment, a systemd credential, the command line.  An empty
environment variable counts as not set.  The sample file, the reference page and `wad config show` are derived, too.
"""

from wad.config.loading import LoadedConfig, examine, load
from wad.config.origin import ValueOrigin
from wad.config.settings import SETTINGS, Config

__all__ = ["SETTINGS", "Config", "LoadedConfig", "ValueOrigin", "examine", "load"]
