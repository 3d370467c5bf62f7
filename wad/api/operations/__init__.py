"""Every operation, one module a subject; `wad.api.operation.operations()` finds them."""
