"""The HTTP process as the daemon sees it: started, supervised, answered."""
