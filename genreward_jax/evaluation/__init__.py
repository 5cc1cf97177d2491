"""Playing and filming a trained policy."""
