"""Missions: the file, or the picture, that makes a team out of people who hold it."""
