"""One table of settings, and its readers: the command line, config files, variables, the reference page."""

from monoceros.settings.table import Settings, SettingsError

__all__ = ["Settings", "SettingsError"]
