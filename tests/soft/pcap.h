// Reads the captures of tests/golden/roce: classic pcap files, little-endian,
// of Ethernet frames with IPv4 or IPv6 and UDP.
#ifndef ND_TESTS_SOFT_PCAP_H_
#define ND_TESTS_SOFT_PCAP_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "soft/wire/icrc.h"

namespace nd::soft {

struct CapturedDatagram {
  int number = 0;  // in its file, from 1
  NetHeaders headers;
  std::vector<std::byte> payload;  // of the UDP datagram: BTH to ICRC
};

// All datagrams to UDP port 4791. Throws std::runtime_error, which fails the
// test, when the file is not as expected.
std::vector<CapturedDatagram> ReadPcap(const std::string& path);

// Every capture of tests/golden/roce, sorted.
std::vector<std::string> GoldenCaptures();
std::string GoldenName(const std::string& path);  // "rping_ipv4"

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_PCAP_H_
