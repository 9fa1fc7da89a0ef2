"""The library that clients and services of kandinsky-serve share. Never imports torch or ray."""
