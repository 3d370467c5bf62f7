"""How the Debian package is made: what can be told without building one."""
