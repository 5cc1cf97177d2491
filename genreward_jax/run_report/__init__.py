"""``make report``: one page, without a network, of all runs in a folder."""
