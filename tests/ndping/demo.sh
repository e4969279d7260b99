#!/bin/sh
# demo.sh NDPING SERVER CLIENT: what `./dev ping` shows, a server at one address
# and ping, lat and bw against it from another.
set -eu
ndping=$1
server_address=$2
client_address=$3

"$ndping" server --address "$server_address" 2>/dev/null &
server=$!
trap 'kill $server; wait $server || :' EXIT
until "$ndping" info "$server_address" >/dev/null 2>&1; do
  kill -0 $server
  sleep 0.1
done

show() {
  printf '\n$ ndping %s\n' "$*"
  "$ndping" "$@"
}

printf '$ ndping server --address %s &\n' "$server_address"
show ping "$server_address" --from "$client_address" --count 5 --interval 200ms --verify
show lat "$server_address" --from "$client_address" --op write --size 8..4K --iterations 500 --verify
show bw "$server_address" --from "$client_address" --op read --size 64K,1M --iterations 200 --verify
