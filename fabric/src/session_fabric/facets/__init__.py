"""What `Fabric` and `Session` can, by what it is about; they mix it in."""
