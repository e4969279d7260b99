#!/bin/sh
# lossy.sh RATE CMD...: runs a command while the wire loses packets, see
# netem.sh. Ends with its status.
set -eu
netem=$(dirname "$0")/netem.sh
rate=$1
shift
trap '"$netem" off' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
"$netem" "$rate"
"$@"
