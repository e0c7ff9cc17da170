"""Mode xdp: hooks on interfaces, flow tables, what the interfaces count themselves."""
