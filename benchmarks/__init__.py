"""Numbers that Clew promises, each measured beside a floor or a peer in the same run."""
