"""What holds of every RoCEv2 packet of a capture, and of the packets of an RC
connection to one another (IBA vol. 1, 9; annex A17)."""

import dataclasses
import struct
import subprocess
import zlib
from pathlib import Path

ROCE_PORT = 4791
PSN_HALF, PSN_MASK = 1 << 23, (1 << 24) - 1
WRITES = (6, 7, 8, 9, 10, 11)
READ, ACK, ATOMICS = 12, 17, (19, 20)
ANSWERS = (13, 14, 15, 16, 17, 18)
FULL = (0, 1, 6, 7, 13, 14)  # FIRST and MIDDLE
TAIL = (2, 3, 8, 9, 15, 22)  # LAST
CONTINUES = (1, 2, 3, 7, 8, 9, 22)
ENDS = (2, 3, 4, 5, 8, 9, 10, 11, READ, *ATOMICS, 22, 23)
# Bytes of the extended headers, for each RC opcode.
EXTENDED = {0: 0, 1: 0, 2: 0, 3: 4, 4: 0, 5: 4, 6: 16, 7: 0, 8: 0, 9: 4,
            10: 16, 11: 20, 12: 16, 13: 4, 14: 0, 15: 4, 16: 4, 17: 4, 18: 12,
            19: 28, 20: 28, 22: 4, 23: 4}
RC, UC, UD = 0, 1, 3
DATAGRAMS = {0x64: 8, 0x65: 12}
GSI_QPN, GSI_QKEY, MAD_BYTES = 1, 0x80010000, 256


@dataclasses.dataclass
class Packet:
    frame: int  # as tshark counts
    ip: bytes   # the IP header
    udp: bytes  # and all behind it

    def __post_init__(self) -> None:
        self.is_ipv4 = self.ip[0] >> 4 == 4
        middle = 16 if self.is_ipv4 else 24
        self.source = self.ip[12 if self.is_ipv4 else 8:middle]
        self.destination = self.ip[middle:2 * middle - (12 if self.is_ipv4
                                                        else 8)]
        (self.port,) = struct.unpack_from(">H", self.udp)
        opcode, flags, self.pkey, qpn, psn = struct.unpack_from(
            ">BBHII", self.udp, 8)
        self.transport, self.opcode = opcode >> 5, opcode & 31
        self.solicited, self.pad, self.version = (
            flags >> 7, flags >> 4 & 3, flags & 15)
        self.qpn, self.psn = qpn & PSN_MASK, psn & PSN_MASK
        self.reserved = qpn >> 24 | psn >> 24 & 127
        self.ack_req = psn >> 31
        self.known = (opcode in DATAGRAMS if self.transport == UD
                      else self.opcode in EXTENDED)
        size = (DATAGRAMS.get(opcode, 0) if self.transport == UD
                else EXTENDED.get(self.opcode, 0))
        self.extended = self.udp[20:20 + size]
        self.payload = self.udp[20 + size:len(self.udp) - 4 - self.pad]
        self.padding = self.udp[len(self.udp) - 4 - self.pad:-4]

    def reth(self) -> tuple[int, int, int]:
        """Address, R_Key, length."""
        return struct.unpack_from(">QII", self.extended)


def read_capture(path: Path) -> list[Packet]:
    """The RoCEv2 packets of a capture of Ethernet, in pcap's format."""
    data = path.read_bytes()
    order = "<" if data[:4] == bytes.fromhex("d4c3b2a1") else ">"
    packets, at, frame = [], 24, 0
    while at < len(data):
        captured, original = struct.unpack_from(order + "II", data, at + 8)
        ethernet = data[at + 16:at + 16 + captured]
        at += 16 + captured
        frame += 1
        is_ipv4 = ethernet[12:14] == b"\x08\x00"
        if not is_ipv4 and ethernet[12:14] != b"\x86\xdd":
            continue
        end = 34 if is_ipv4 else 54
        ip = ethernet[14:end]
        if ip[9 if is_ipv4 else 6] == 17 and \
                ethernet[end + 2:end + 4] == struct.pack(">H", ROCE_PORT):
            assert captured == original, f"frame {frame} was cut"
            packets.append(Packet(frame, ip, ethernet[end:]))
    return packets


def icrc(packet: Packet) -> bytes:
    ip, rest = bytearray(packet.ip), bytearray(packet.udp[:-4])
    for changing in (1, 8, 10, 11) if packet.is_ipv4 else (1, 2, 3, 7):
        ip[changing] = 0xff
    if not packet.is_ipv4:
        ip[0] |= 0x0f
    rest[6] = rest[7] = rest[12] = 0xff
    return struct.pack("<I", zlib.crc32(b"\xff" * 8 + ip + rest))


def packet_faults(packet: Packet, path_mtu: int) -> list[str]:
    """The rules of one packet by itself that it breaks."""
    ip, size = packet.ip, len(packet.payload)
    faults = []

    def rule(holds: bool, what: str) -> None:
        if not holds:
            faults.append(what)

    if packet.is_ipv4:
        length, fragment = struct.unpack_from(">HxxH", ip, 2)
        total = sum(struct.unpack(">10H", ip))
        rule(ip[0] == 0x45 and length == 20 + len(packet.udp), "IPv4 length")
        rule(fragment == 0x4000, "DF alone")
        rule((total & 0xffff) + (total >> 16) == 0xffff, "IPv4 checksum")
    else:
        rule(struct.unpack_from(">H", ip, 4)[0] == len(packet.udp),
             "IPv6 length")
    rule(struct.unpack_from(">H", packet.udp, 4)[0] == len(packet.udp),
         "UDP length")
    rule(packet.port >= 0xc000, "source port from 0xc000 on")
    rule(icrc(packet) == packet.udp[-4:], "ICRC")
    rule(packet.known, "opcode")
    rule(packet.version == 0 and packet.reserved == 0, "reserved bits of BTH")
    rule(packet.pkey == 0xffff, "P_Key")
    rule(packet.pad == -size % 4 and not any(packet.padding), "pad")
    if packet.transport == UD:
        qkey, source = struct.unpack_from(">II", packet.extended)
        if packet.qpn == GSI_QPN:
            rule((qkey, source, size) == (GSI_QKEY, GSI_QPN, MAD_BYTES)
                 and packet.payload[:4] == b"\1\7\2\3", "MAD of the CM")
        return faults
    if packet.opcode in FULL:
        rule(size == path_mtu, "FIRST and MIDDLE fill the MTU")
    elif packet.opcode in TAIL:
        rule(1 <= size <= path_mtu, "LAST is not empty")
    rule(size <= path_mtu, "no more than the MTU")
    rule(not packet.solicited or packet.opcode in ENDS, "SE at the end only")
    if packet.transport == UC:
        return faults
    if packet.opcode in ANSWERS:
        rule(not packet.ack_req and not packet.solicited, "answer without A, SE")
        if packet.opcode != 14:
            syndrome = packet.extended[0]
            rule(syndrome == 0x1f or packet.opcode == ACK
                 and (0x60 <= syndrome <= 0x63 or syndrome >> 5 in (0, 1)),
                 f"syndrome {syndrome:#x}")
    elif packet.opcode in ENDS:
        rule(packet.ack_req == 1, "AckReq at the end of a message")
    return faults


def distance(a: int, b: int) -> int:
    return ((a - b + PSN_HALF) & PSN_MASK) - PSN_HALF


class Requests:
    """Those of one end of an RC connection, of which none is missing."""

    def __init__(self, path_mtu: int, first: int) -> None:
        self._path_mtu = path_mtu
        self._next = first
        self._by_psn: dict[int, Packet] = {}
        # By the PSN of an answer: what its READ asks for from there on.
        self._reads: dict[int, tuple[int, int, int]] = {}
        self._message: Packet | None = None  # that is under way
        self._bytes = 0

    def faults(self, packet: Packet) -> list[str]:
        ahead = distance(packet.psn, self._next)
        if ahead < 0:
            return self._repeated(packet)
        self._by_psn[packet.psn] = packet
        self._next = packet.psn + self._note_read(packet) & PSN_MASK
        if ahead > 0:
            self._message = None
            return [f"PSN {packet.psn:#x} leaves out {ahead}"]
        return self._of_message(packet)

    def _note_read(self, packet: Packet) -> int:
        """How many PSNs it takes."""
        if packet.opcode != READ:
            return 1
        address, rkey, length = packet.reth()
        answers = max(1, -(-length // self._path_mtu))
        for i in range(answers):
            done = i * self._path_mtu
            self._reads[packet.psn + i & PSN_MASK] = (
                address + done, rkey, length - done)
        return answers

    def _of_message(self, packet: Packet) -> list[str]:
        continues = packet.opcode in CONTINUES
        if continues != (self._message is not None):
            self._message = None
            return ["the message before has no end" if not continues
                    else "the message has no beginning"]
        if not continues:
            self._message, self._bytes = packet, 0
        first = self._message
        self._bytes += len(packet.payload)
        if packet.opcode not in ENDS:
            return []
        self._message = None
        if (first.opcode in WRITES) != (packet.opcode in WRITES):
            return ["begins as a WRITE or SEND and ends as the other"]
        if first.opcode in WRITES and first.reth()[2] != self._bytes:
            return [f"a WRITE of {self._bytes} bytes, says its RETH"]
        return []

    def _repeated(self, packet: Packet) -> list[str]:
        if packet.opcode == READ:
            tail = self._reads.get(packet.psn)
            return [] if packet.reth() == tail else ["not a READ's tail"]
        # The payload may be another by now: the memory is the application's.
        before = self._by_psn.get(packet.psn)
        same = before is not None and (
            before.opcode, before.extended, len(before.payload)) == (
            packet.opcode, packet.extended, len(packet.payload))
        return [] if same else ["another packet had that PSN"]


def rule_faults(packets: list[Packet], path_mtu: int,
                ours: set[bytes]) -> list[str]:
    """What breaks the rules, each with its frame. Requests from the addresses
    `ours`, all of which were captured, are held to those of connections too."""
    faults = []
    streams: dict[tuple[bytes, int], Requests] = {}
    for packet in packets:
        found = packet_faults(packet, path_mtu)
        if (not found and packet.source in ours and packet.transport == RC
                and packet.opcode not in ANSWERS):
            to = (packet.destination, packet.qpn)
            stream = streams.setdefault(to, Requests(path_mtu, packet.psn))
            found = stream.faults(packet)
        faults += [f"frame {packet.frame}: {what}" for what in found]
    return faults


def tshark_faults(path: Path) -> list[str]:
    """What tshark cannot decode. It takes short messages for RPCs by chance."""
    done = subprocess.run(
        ["tshark", "-r", path, "--disable-heuristic", "rpcrdma_infiniband",
         "-Y", "_ws.malformed || (udp.dstport == 4791 && !infiniband)"],
        text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
