"""Verbs of the command line, one small file each: parse and call."""
