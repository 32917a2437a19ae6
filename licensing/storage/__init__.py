"""What is kept: tables, rows, and the ledger of seats."""
