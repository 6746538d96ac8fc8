def print_run(*a): pass
def compare(*a): pass
