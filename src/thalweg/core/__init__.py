"""The machine every rule runs on.  It knows no rule by name and imports torch only."""
