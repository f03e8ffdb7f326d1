"""The media layer, piece by piece."""
