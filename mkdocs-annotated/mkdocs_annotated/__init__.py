r"""A MkDocs plugin and theme that shows a package with prose on the left and code on the right.

# mkdocs-annotated

Comments, docstrings and equations are on the left. The code that they describe is on the right,
with the line numbers of the file. A build neither imports nor runs that code.

Each of these packages imports only packages above it. Read them in this order:

* **source**: [parse](source/parse.py) splits a file into rows of prose and code,
  [code](source/code.py) highlights the code, [names](source/names.py) finds the names in it,
  [scopes](source/scopes.py) resolves where they are bound, and [blocks](source/blocks.py) prepares
  the code that readers copy; [files](source/files.py) lists the source files and
  [yaml_file](source/yaml_file.py) reads YAML with line numbers
* **markdown**: [prose](markdown/prose.py) joins the prose of all rows into one Markdown document
  and splits the HTML again; [math](markdown/math.py), [markup](markdown/markup.py),
  [references](markdown/references.py) and [difference](markdown/difference.py) extend Markdown
* **site**: [links](site/links.py) resolves names to definitions, [symbols](site/symbols.py)
  connects symbols with names, [cross_references](site/cross_references.py) applies both to the
  pages, [coverage](site/coverage.py) renders the coverage of a paper, and [search](site/search.py)
  builds the search index
* **pages**: [article](pages/article.py) is a module before rendering, [page](pages/page.py) writes
  its HTML, and [publish](pages/publish.py) replaces the old site
* **beside**: [trace](beside/trace.py) records shapes, [shapes](beside/shapes.py) stores them,
  [exhibits](beside/exhibits.py) reads figures and tables, and [artifacts](beside/artifacts.py)
  loads all of them
* [options](options.py) lists the options, and [plugin](plugin.py) connects everything to MkDocs
"""

__version__ = "0.1.0"
