"""Forward-backward representation: networks (Flax) and losses, pure functions of arrays."""
