r"""Read Python files: rows of prose and code, names with their scopes, and coloured tokens.

# Reading Python source

The modules here read files and text. They do not import or run the code they read, and they know
neither Markdown nor HTML pages. They may import only each other and [errors](../errors.py).

In reading order:

* [files](files.py) finds the Python files of a package and gives each its address on the site
* [scan](scan.py) classifies lines: block comment, docstring, blank line or code
* [parse](parse.py) pairs prose with code, row by row
* [scopes](scopes.py) and [names](names.py) find every name and the scope that binds it
* [code](code.py) colours the code
* [blocks](blocks.py) removes the comments from code that readers copy
* [yaml_file](yaml_file.py) reads YAML files with line numbers
"""
