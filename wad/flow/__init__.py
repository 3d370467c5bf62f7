"""The moving parts: the lease's reign, one task an account, the road in and the road out."""
