"""Everything that starts packs and search workers on this machine."""
