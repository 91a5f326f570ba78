"""Small servers of our own, for services that no package can stand in for.

Each is a program: `python -m cookbook.stand_ins.NAME`. It speaks the real protocol, and
refuses what the service would refuse. Its engine, in cookbook/engines/, starts it; the
pages name it, and say what it does not prove.
"""
