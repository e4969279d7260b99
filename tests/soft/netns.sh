#!/bin/sh
# netns.sh CMD...: runs a command in a network namespace of its own, where this
# host has the addresses of the guest's two devices, and 10.98.0.99 is silent. The
# soft device's processes meet only within it. Needs no privileges where user
# namespaces are allowed; root that may have a network namespace keeps the host's
# users.
set -eu
as_root=
unshare --net true 2>/dev/null || as_root='--user --map-root-user'
exec unshare $as_root --net sh -euc '
  ip -batch - << END
link set lo up
addr add 10.98.0.1/32 dev lo
addr add 10.98.0.2/32 dev lo
addr add fd98::1/128 dev lo nodad
addr add fd98::2/128 dev lo nodad
route add 10.98.0.99/32 dev lo src 10.98.0.1
END
  exec "$@"' sh "$@"
