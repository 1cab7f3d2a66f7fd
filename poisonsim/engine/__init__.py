"""Engine: turns histories and rule tables into counts of distinct states."""
