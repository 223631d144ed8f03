"""The top: configuration, composition, processes, command line. Imports everything; nobody imports it."""
