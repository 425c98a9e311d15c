"""Results to and from other tools: export to CSV, Parquet and NumPy files, import of runs from CSV files.

Everything here reads or writes the files of a user. The figures and tables of a report are not here.
"""
