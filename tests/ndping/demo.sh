#!/bin/sh
# What `./dev ping` shows, in the guest: a server, and ping, lat and bw against it.
set -eu
ndping=$1

"$ndping" server --address 10.98.0.2 2>/dev/null &
server=$!
trap 'kill $server; wait $server || :' EXIT
until "$ndping" info 10.98.0.2 >/dev/null 2>&1; do
  kill -0 $server
  sleep 0.1
done

show() {
  printf '\n$ ndping %s\n' "$*"
  "$ndping" "$@"
}

printf '$ ndping server --address 10.98.0.2 &\n'
show ping 10.98.0.2 --from 10.98.0.1 --count 5 --interval 200ms --verify
show lat 10.98.0.2 --from 10.98.0.1 --op write --size 8..4K --iterations 500 --verify
show bw 10.98.0.2 --from 10.98.0.1 --op read --size 64K,1M --iterations 200 --verify
