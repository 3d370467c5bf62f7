"""What a worker gives up before it starts the library: Landlock, seccomp, and the rules for both."""
