"""`fabricctl dev`: broker, gateway and demo agent under one command."""
