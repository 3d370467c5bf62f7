"""What is spoken with systemd."""
