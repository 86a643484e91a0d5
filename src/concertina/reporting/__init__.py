"""The pieces of the report: evidence read from records, findings computed from it, and the page that shows them."""
