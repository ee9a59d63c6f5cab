"""The command line: one verb a file; each parses, makes one call and prints."""
