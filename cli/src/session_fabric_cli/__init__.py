"""fabricctl: develop with, look into and mend Session Fabric."""
