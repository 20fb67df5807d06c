"""The models that the experiments compare, built from their settings."""
