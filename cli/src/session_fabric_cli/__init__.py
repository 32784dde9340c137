"""fabricctl: develop with, look into and mend Session Fabric."""

from importlib.metadata import version

__version__ = version("session-fabric-cli")
