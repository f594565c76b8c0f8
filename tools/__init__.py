"""What the Makefile needs beside pip: nothing in here is part of an installed edge-router."""
