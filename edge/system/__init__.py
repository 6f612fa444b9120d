"""The machine: what is known of it, processes of our own on it, and whose folders are whose."""
