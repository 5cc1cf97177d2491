"""``make bench``: what the reward and the speed-ups cost and save, each comparison alternating inside one run."""
