"""Checkpoints without pickle: arrays in safetensors, the rest as JSON; people share run directories."""


class Checkpoint:
    pass
