#!/bin/sh
# Makes the wire between veth0 and veth1 lose packets, in both directions, and
# the tap where the guest has one:
#   netem.sh 1%     each packet is lost with this probability
#   netem.sh off    no packet is lost
# Runs inside the guest, as root.
set -eu
if [ $# -ne 1 ]; then
  echo "usage: netem.sh RATE|off" >&2
  exit 2
fi
devices="veth0 veth1"
if [ -e /sys/class/net/eth0 ]; then
  devices="$devices eth0 ifb0"
  # What comes by the tap takes a turn through ifb0, which can lose it.
  if ! tc qdisc show dev eth0 | grep -q ingress; then
    ip link set ifb0 up
    tc qdisc add dev eth0 ingress
    tc filter add dev eth0 parent ffff: protocol all matchall \
      action mirred egress redirect dev ifb0
  fi
fi
for device in $devices; do
  if [ "$1" != off ]; then
    tc qdisc replace dev $device root netem loss "$1"
  elif tc qdisc show dev $device | grep -q netem; then
    tc qdisc del dev $device root
  fi
done
