"""Judging rewards before they are trained on."""
