# Without this file, a package that another distribution installs as `tests` would take its place.
