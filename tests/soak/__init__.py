"""The long counts that an honest claim needs: ``make soak``.

A campaign is one check run many times. Rounds that have passed are kept in ``.soak/passed.json``, so that an
interrupted soak goes on where it was; every line of ``.soak/soak.log`` states a campaign's count. The checks
are those of the tests, driven over the same sockets.
"""
