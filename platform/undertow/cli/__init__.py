"""What the scripts in jobs/ share, and the logic of each script."""
