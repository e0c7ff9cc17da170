"""Flow records for collectors, by IPFIX (RFC 7011)."""
