"""What a submission keeps on disk: its record, its snapshot of the code, and which files may be deleted."""
