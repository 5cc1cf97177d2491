"""The torch process and its client. Importing this package imports no torch."""
