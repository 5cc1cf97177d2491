"""Videos and episodes on the disk: read one at a time from other people's formats, and written in one of them."""
