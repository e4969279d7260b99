#!/usr/bin/env bash
# A file goes from one process to another and is the same there.
#
# usage: stream_file.sh STREAM_FILE
set -euo pipefail
folder=$(mktemp -d)
trap 'kill %1 2>/dev/null || true; rm -rf "$folder"' EXIT
head -c 40000001 /dev/urandom >"$folder/file"
"$1" receive 127.0.0.1:7600 "$folder/copy" &
for _ in $(seq 600); do
  grep -q ':1DB0 [0-9A-F:]* 0A' /proc/net/tcp /proc/net/tcp6 && break
  sleep 0.05
done
"$1" send 127.0.0.1:7600 "$folder/file"
wait %1
cmp "$folder/file" "$folder/copy"
