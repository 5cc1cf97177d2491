"""Rewards: one file each, no torch, no JAX, no DreamerV3."""
