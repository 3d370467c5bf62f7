"""The command line: commands that are made from the declared operations, a blocking client, and text output."""
