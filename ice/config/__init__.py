"""The configuration of the suite: ``etc/ice.toml`` in, one frozen value out, or an error naming file, line and key.

:mod:`~ice.config.schema` is what may be written; :mod:`~ice.config.load` reads it; :mod:`~ice.config.changes` compares
two; :mod:`~ice.config.checks` looks at the files it names; :mod:`~ice.config.render` shows it;
:mod:`~ice.config.reference` writes the shipped file and the reference page.
"""
