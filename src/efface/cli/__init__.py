"""The command line: the Python calls and nothing else; no logic stands here."""
