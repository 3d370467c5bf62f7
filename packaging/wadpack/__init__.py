"""How the Debian package is made: `python -m wadpack`, see `make deb`, `make apt-repo`.

`bundle` says what goes in and what stays out, `wheels` fetches it as locked, `payload` lays it out, `manual` and
`licences` write what is generated, `debianize` turns it all into a source tree and builds it, `repository` makes a
repository of the results.
"""
