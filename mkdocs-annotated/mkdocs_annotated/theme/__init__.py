r"""The theme: templates, one style sheet, one script and one font.

This module only makes the folder a package, so that MkDocs finds the theme.
"""
