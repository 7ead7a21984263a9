"""How runs stand kills, broken disks, crowds and bad input, in figures."""
