"""Unlearning methods: objectives, retention, update rules, and the presets that name their combinations."""
