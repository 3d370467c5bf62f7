"""A worker that was taken over: what it tries, and how it is put in the place of a real one."""
