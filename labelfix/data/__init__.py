"""Data: from a source to decoded images and verified labels; imports the leaves of the top only, and no torch."""
