r"""
# The theme

Templates, one style sheet, one script and one font. This module only marks the folder as a
package, which is how MkDocs finds themes.
"""
