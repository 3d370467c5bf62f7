"""Who asks through the HTTP process: tokens, users of the apps, roles, and how often each may change something."""
