"""The microscope: every response that a run has learned from, token by token, as a page on this machine.

colours   what a token can be coloured by, and how deep
text      responses as they are shown: nothing in them can disturb the page
records   steps, groups and responses, from the records in a run's store
pages     addresses, and the page of each
server    on 127.0.0.1 until Ctrl-C
"""
