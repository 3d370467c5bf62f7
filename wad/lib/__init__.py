"""What any program could use: clocks, files, locks, threads, loops, SQLite files.  Nothing here knows WhatsApp."""
