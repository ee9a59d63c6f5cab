"""What tasks compare epochs by and evaluations are made of: overlaps, matches, precision."""
