"""One file per format that events come in; `reader.py` says what each of them offers."""
