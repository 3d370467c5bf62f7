"""The state directory: account directories, spools, outgoing files, and who owns them."""
