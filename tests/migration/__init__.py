"""The files of a snapshot: whole whatever happens, refused by name when they are not."""
