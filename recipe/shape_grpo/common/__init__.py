"""What every room uses: stamps of files, the list of methods, and how commands fail."""
