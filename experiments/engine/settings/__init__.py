r"""Settings: dataclass fields that are also flags, keys of YAML files and keys of `settings.json`.

# Settings

* [types.py](types.py): the type rules, and dataclasses to dicts and back
* [flags.py](flags.py): the command line and its help
* [config_file.py](config_file.py): YAML files
* [errors.py](errors.py): checks, and how a mistake becomes one line and exit status 2
"""
