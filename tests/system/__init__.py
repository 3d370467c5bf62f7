"""The whole system through its public interfaces."""
