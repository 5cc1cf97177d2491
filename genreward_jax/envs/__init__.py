"""Environments in the embodied interface."""
