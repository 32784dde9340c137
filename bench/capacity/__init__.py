"""How much machine and money so many sessions take: a model of measured unit costs, and what checks it."""
