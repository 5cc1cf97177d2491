"""All that touches the official DreamerV3's internals: building, repairs, speed-ups, the agent with FB inside."""
