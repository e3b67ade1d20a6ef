"""OpenUnlearning's experiment settings as a request of ours, with a list of what has no counterpart."""

from efface.run.openunlearning.translate import Translation, Untranslated, translate

__all__ = ["Translation", "Untranslated", "translate"]
