"""Command line of the daemon: commands made from the table of operations, a blocking client, and what people see."""
