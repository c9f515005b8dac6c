"""``stratovirt-qmp``: a shell for QMP, and one command for scripts.

The modules go from text to text: ``syntax`` (what is typed, to a command and its arguments),
``vocabulary`` (what the server says it understands), ``tables`` (a result, for eyes), ``shell`` (one line
carried out), ``terminal`` (prompt, history, completion: the only one that needs prompt_toolkit) and
``script`` (the console script). They stand on the blocking client, so a script does not wait for trio or
prompt_toolkit to load.
"""
