#!/bin/sh
# Makes the wire between veth0 and veth1 lose packets, in both directions:
#   netem.sh 1%     each packet is lost with this probability
#   netem.sh off    no packet is lost
# Runs inside the guest, as root.
set -eu
if [ $# -ne 1 ]; then
  echo "usage: netem.sh RATE|off" >&2
  exit 2
fi
for device in veth0 veth1; do
  if [ "$1" != off ]; then
    tc qdisc replace dev $device root netem loss "$1"
  elif tc qdisc show dev $device | grep -q netem; then
    tc qdisc del dev $device root
  fi
done
