"""The supervision tree: the only place of the VMM that starts tasks or threads.

::

    run                         signals, the end; owns the run state, which outlives the machine
    ├── monitors                one listener per -qmp and -mon
    │   └── client session      reader and writer; a failing client hurts nobody else
    └── machine                 cancelling this scope tears the VM down
        ├── vcpu 0..n           a runner task whose body is a thread, and a canceller that kicks it
        ├── console             the serial line's pump, at a chardev
        └── guest requests      resets and power-offs, obeyed one by one

One way down: configuration. One way up: events and exceptions. May import everything.
"""
