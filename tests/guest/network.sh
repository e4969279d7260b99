#!/bin/sh
# Makes two RDMA devices whose traffic crosses a wire, all in one network
# namespace, because Linux 6.1's rdma_rxe opens its UDP sockets and looks up
# its routes in the initial namespace only:
#
#   rxe0 - veth0 10.98.0.1 fd98::1 ======= veth1 10.98.0.2 fd98::2 - rxe1
#
# The kernel would hand a packet between two of its own addresses straight to
# itself. Routing by rules prevents that: a local address is local only for a
# packet that came in by a veth; what goes out takes the wire.
set -eu

# Duplicate address detection would hold the link-local addresses back for a
# second; a packet from one of our own addresses must be let in. rxe answers a
# READ of any length in one burst, which must fit into the netdev's backlog.
for setting in core/netdev_max_backlog=100000 \
    ipv4/conf/all/rp_filter=0 ipv4/conf/default/rp_filter=0 \
    ipv4/conf/all/accept_local=1 ipv4/conf/default/accept_local=1 \
    ipv6/conf/default/accept_dad=0 \
    ipv6/conf/default/router_solicitations=0; do
  echo "${setting#*=}" > "/proc/sys/net/${setting%=*}"
done

# A netdev MTU of 4200 holds a path MTU of 4096 and its headers. One batch for
# each address family: starting a program costs much on an emulated CPU.
ip -batch - << 'END'
link set lo up
link add veth0 mtu 4200 address 02:00:00:98:00:01 type veth peer name veth1 mtu 4200 address 02:00:00:98:00:02
link set veth0 up
link set veth1 up
addr add 10.98.0.1/24 dev veth0
addr add 10.98.0.2/24 dev veth1
addr add fd98::1/64 dev veth0 nodad
addr add fd98::2/64 dev veth1 nodad
neigh replace 10.98.0.2 lladdr 02:00:00:98:00:02 dev veth0 nud permanent
neigh replace 10.98.0.1 lladdr 02:00:00:98:00:01 dev veth1 nud permanent
neigh replace fd98::2 lladdr 02:00:00:98:00:02 dev veth0 nud permanent
neigh replace fd98::1 lladdr 02:00:00:98:00:01 dev veth1 nud permanent
route add 10.98.0.2/32 dev veth0 src 10.98.0.1 table 100
route add 10.98.0.1/32 dev veth1 src 10.98.0.2 table 100
route add fd98::2/128 dev veth0 src fd98::1 table 100
route add fd98::1/128 dev veth1 src fd98::2 table 100
END

for family in -4 -6; do
  ip $family -batch - << 'END'
rule add pref 1 iif veth0 lookup local
rule add pref 2 iif veth1 lookup local
rule add pref 3 lookup 100
rule add pref 4 lookup local
rule del pref 0
END
done

rdma link add rxe0 type rxe netdev veth0
rdma link add rxe1 type rxe netdev veth1

# The host's tap, where the guest has one; the host is 10.99.0.1 and fd99::1.
if [ -e /sys/class/net/eth0 ]; then
  echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
  ip -batch - << 'END'
link set eth0 mtu 4200 up
addr add 10.99.0.2/24 dev eth0
addr add fd99::2/64 dev eth0 nodad
END
  rdma link add rxe2 type rxe netdev eth0
fi
