"""The check that a trial changed nothing: the state of a machine, as lines that are compared before and after it."""

from __future__ import annotations

from typing import Final

from tests.lab.world import World

_LOOK: Final = r"""
dpkg-query -W -f 'package ${Package} ${Version} ${db:Status-Abbrev}\n'
getent passwd; getent group
cut -d' ' -f2,3 /proc/mounts | grep -v ^/run/credentials/ | sort | sed 's/^/mount /'
for unit in wad.service wad.socket wad-http-rpc.socket wad-http.socket wad-http-port.socket; do
    echo "$unit $(systemctl show -P DropInPaths $unit) $(systemctl show -P ActiveState $unit)" \
        "$(systemctl is-enabled $unit)"
done
systemctl list-units --all --no-legend --plain --type=service --state=running,failed | cut -d' ' -f1 |
    grep -v '^wad-http.service$'  # the first connection starts it
find /etc /root /home /opt /srv -xdev -type f -exec md5sum {} +
find /etc /root /home /opt /srv -xdev ! -type f -printf '%p %y %l\n'
find /etc/wad /root /home /opt -xdev -printf '%p %m %u:%g\n'
find /var/lib/wad -maxdepth 0 -printf '%p %m %u:%g\n'
ls /var/lib /var/lib/wad/sessions
"""
_FORGET: Final = r"""
systemctl reset-failed
journalctl --rotate --quiet
rm -f /var/log/journal/*/*@* /run/log/journal/*/*@*
"""


async def look(world: World) -> str:
    """The machine as it is: packages, users, mounts, units, files of an administrator, directories of accounts."""
    found = await world.container.try_run(_LOOK)
    return "\n".join(line for line in found.stdout.splitlines() if not _is_moving(line))


def _is_moving(line: str) -> bool:
    """Whether a line changes without a trial, or is a backup file of a system tool."""
    kept = ("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/ld.so.cache")
    return "/.cache/" in line or line.endswith(kept)


async def forget(world: World) -> None:
    """Remove traces of earlier trials that are not state: the journal, counters of restarts."""
    await world.container.run(_FORGET)
