"""What a study will cost, estimated before anything starts: network calls, FLOPs, time, disk and memory.

`work` lists a plan's jobs with the network calls of each, `machines` says what a device does in a second, `disk` what
files will hold, `report` prints all of it. Counting a network's FLOPs imports torch; nothing is computed with it.
"""
