#include "ndping/rping/krping.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "ndping/rping/krping_tests.h"
#include "ndping/rping/rping.h"

namespace nd::ndping {
namespace {

constexpr uint32_t kMaxKrpingSize = 128 * 1024;
constexpr uint32_t kMaxTxdepth = 4096;

// What krping does with the kernel's own verbs, and why nobody else can.
struct KernelOnly {
  absl::string_view name;
  absl::string_view why;
};
constexpr std::array<KernelOnly, 5> kKernelOnly = {{
    {"mem_mode",
     "it chooses among the kernel's ways of mapping memory (dma, fastreg, mw); "
     "a program registers memory regions"},
    {"server_inv",
     "the server invalidates the client's fast-registered region, and only the "
     "kernel registers memory by IB_WR_REG_MR; 'ndping register' measures "
     "SEND_WITH_INV on memory windows"},
    {"local_dma_lkey",
     "that L_Key stands for all of physical memory; a program never gets it"},
    {"read_inv",
     "IB_WR_RDMA_READ_WITH_INV is a request of the kernel's verbs alone"},
    {"fr",
     "fast registration (IB_WR_REG_MR) is a request of the kernel's verbs "
     "alone; 'ndping register' measures what a program has instead"},
}};

absl::Status Wrong(absl::string_view option, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", why));
}

// Reads the options into the struct; what depends on several of them is checked
// at the end.
class Parser {
 public:
  absl::StatusOr<KrpingOptions> Parse(absl::string_view text) {
    for (const absl::string_view token :
         absl::StrSplit(text, ',', absl::SkipEmpty())) {
      const std::pair<absl::string_view, absl::string_view> option =
          absl::StrSplit(token, absl::MaxSplits('=', 1));
      const bool has_value = absl::StrContains(token, '=');
      ND_RETURN_IF_ERROR(has_value ? WithValue(option.first, option.second)
                                   : WithoutValue(option.first));
    }
    return Finish();
  }

 private:
  absl::Status WithoutValue(absl::string_view name) {
    if (name == "server" || name == "client") return SetRole(name);
    if (name == "wlat") return SetTest(name, KrpingTest::kWriteLatency);
    if (name == "rlat") return SetTest(name, KrpingTest::kReadLatency);
    if (name == "bw") return SetTest(name, KrpingTest::kBandwidth);
    for (const auto& [flag, member] : kFlags) {
      if (name != flag) continue;
      options_.*member = true;
      return absl::OkStatus();
    }
    ND_RETURN_IF_ERROR(CheckUserSpace(name));
    for (const absl::string_view known : kValued) {
      if (name == known) return Wrong(name, "a value is needed, as in NAME=1");
    }
    return Unknown(name);
  }

  absl::Status WithValue(absl::string_view name, absl::string_view value) {
    if (name == "addr" || name == "addr6") return SetAddress(name, value);
    if (name == "count") return Number(name, value, 0, kMaxInt, options_.count);
    if (name == "size") {
      return Number(name, value, 1, kMaxKrpingSize, options_.size);
    }
    if (name == "port") return Number(name, value, 1, 65535, port_);
    if (name == "tos") return Number(name, value, 0, 255, tos_);
    if (name == "txdepth") {
      return Number(name, value, 1, kMaxTxdepth, options_.txdepth);
    }
    ND_RETURN_IF_ERROR(CheckUserSpace(name));
    for (const auto& [flag, member] : kFlags) {
      if (name == flag) return Wrong(name, "it takes no value");
    }
    for (const absl::string_view flag :
         {"server", "client", "wlat", "rlat", "bw"}) {
      if (name == flag) return Wrong(name, "it takes no value");
    }
    return Unknown(name);
  }

  static absl::Status CheckUserSpace(absl::string_view name) {
    for (const KernelOnly& option : kKernelOnly) {
      if (name != option.name) continue;
      return absl::UnimplementedError(
          absl::StrCat(name, ": not from user space: ", option.why));
    }
    return absl::OkStatus();
  }

  static absl::Status Unknown(absl::string_view name) {
    return Wrong(name,
                 "krping has no such option; it has client server addr= addr6= "
                 "port= count= size= verbose validate wlat rlat bw duplex poll "
                 "tos= txdepth=");
  }

  absl::Status SetRole(absl::string_view name) {
    const bool server = name == "server";
    if (role_ && *role_ != server) return Wrong(name, "it is client or server");
    role_ = server;
    return absl::OkStatus();
  }

  absl::Status SetTest(absl::string_view name, KrpingTest test) {
    if (options_.test != KrpingTest::kPing && options_.test != test) {
      return Wrong(name, "one test at a time: wlat, rlat or bw");
    }
    options_.test = test;
    return absl::OkStatus();
  }

  absl::Status SetAddress(absl::string_view name, absl::string_view value) {
    const auto address = verbs::SocketAddress::Parse(value, 0);
    const int family = name == "addr" ? AF_INET : AF_INET6;
    if (!address.ok() || address->family() != family) {
      return Wrong(name,
                   absl::StrCat("'", value, "' is not a numeric IPv",
                                family == AF_INET ? "4" : "6", " address"));
    }
    address_ = *address;
    return absl::OkStatus();
  }

  // As the kernel's simple_strtoul reads it: a leading 0x or 0 tells the base.
  static bool ReadNumber(absl::string_view text, uint64_t& number) {
    int base = 10;
    if (absl::ConsumePrefix(&text, "0x") || absl::ConsumePrefix(&text, "0X")) {
      base = 16;
    } else if (text.size() > 1 && text[0] == '0') {
      base = 8;
    }
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number, base);
    return error == std::errc() && rest == end;
  }

  static absl::Status Number(absl::string_view name, absl::string_view value,
                             uint32_t low, uint32_t high, uint32_t& out) {
    uint64_t number = 0;
    if (!ReadNumber(value, number)) {
      return Wrong(name, absl::StrCat("'", value, "' is not a whole number"));
    }
    if (number < low || number > high) {
      return Wrong(name, absl::StrCat(value, " is not in ", low, " to ", high));
    }
    out = static_cast<uint32_t>(number);
    return absl::OkStatus();
  }

  absl::StatusOr<KrpingOptions> Finish() {
    if (!role_) return absl::InvalidArgumentError("client or server is needed");
    if (!address_) {
      return absl::InvalidArgumentError(
          "addr= or addr6= is needed, the server's address (a server may say "
          "addr=0.0.0.0 for every device)");
    }
    if (port_ == 0) return absl::InvalidArgumentError("port= is needed");
    const bool test = options_.test != KrpingTest::kPing;
    if (test && options_.count == 0) {
      return absl::InvalidArgumentError(
          "wlat, rlat and bw need count=, the same on both sides");
    }
    if (options_.duplex && options_.test != KrpingTest::kBandwidth) {
      return absl::InvalidArgumentError("duplex: it goes with bw alone");
    }
    options_.server = *role_;
    options_.address = *address_;
    options_.address.set_port(static_cast<uint16_t>(port_));
    options_.tos = static_cast<uint8_t>(tos_);
    return options_;
  }

  static constexpr uint32_t kMaxInt = std::numeric_limits<int32_t>::max();
  static constexpr std::array<absl::string_view, 7> kValued = {
      "addr", "addr6", "port", "count", "size", "tos", "txdepth"};
  using Flag = std::pair<absl::string_view, bool KrpingOptions::*>;
  static constexpr std::array<Flag, 4> kFlags = {
      {{"verbose", &KrpingOptions::verbose},
       {"validate", &KrpingOptions::validate},
       {"duplex", &KrpingOptions::duplex},
       {"poll", &KrpingOptions::poll}}};

  KrpingOptions options_;
  std::optional<bool> role_;
  std::optional<verbs::SocketAddress> address_;
  uint32_t port_ = 0;
  uint32_t tos_ = 0;
};

// krping's verbose lines.
class Printer : public RpingObserver {
 public:
  Printer(const KrpingOptions& options, std::ostream& out)
      : options_(options), out_(out) {}

  void OnPing(const RpingPing& ping) override {
    if (!options_.verbose) return;
    out_ << "krping: " << (options_.server ? "server " : "")
         << "ping data (64B max): |" << ping.text << "|" << std::endl;
  }

 private:
  const KrpingOptions& options_;
  std::ostream& out_;
};

verbs::WaitMode WaitModeOf(const KrpingOptions& options) {
  return options.poll ? verbs::WaitMode::kBusy : verbs::WaitMode::kEvent;
}

absl::Status ServePings(const KrpingOptions& options,
                        const Cancellation& interrupt, std::ostream& out) {
  ND_ASSIGN_OR_RETURN(const auto server,
                      RpingServer::Create({.address = options.address,
                                           .max_clients = 1,
                                           .serve = 1,
                                           .want_text = options.verbose,
                                           .wait = WaitModeOf(options)}));
  out << "krping: waiting for a client at " << server->address().ToString()
      << std::endl;
  Printer printer(options, out);
  absl::Status status = server->Serve(interrupt, &printer);
  out << "krping: " << server->counters().pings << " pings served" << std::endl;
  return status;
}

absl::Status Ping(const KrpingOptions& options, const Cancellation& interrupt,
                  std::ostream& out) {
  Printer printer(options, out);
  const RpingResult result = RunRpingClient({.server = options.address,
                                             .count = options.count,
                                             .size = options.size,
                                             .validate = options.validate,
                                             .want_text = options.verbose,
                                             .tos = options.tos,
                                             .wait = WaitModeOf(options)},
                                            interrupt, printer);
  if (result.transmitted == 0) return result.status;
  const Histogram& times = result.round_trips;
  const auto us = [](uint64_t ns) { return static_cast<double>(ns) / 1e3; };
  out << absl::StrFormat(
             "krping: %d pings of %d bytes came back, %d did not, %d wrong; "
             "round trip min/p50/p99/max %.1f/%.1f/%.1f/%.1f us",
             result.received, options.size,
             result.transmitted - result.received, result.mismatched,
             us(times.min()), us(times.ValueAtPercentile(50)),
             us(times.ValueAtPercentile(99)), us(times.max()))
      << std::endl;
  return result.status;
}

}  // namespace

absl::StatusOr<KrpingOptions> ParseKrpingOptions(absl::string_view text) {
  return Parser().Parse(text);
}

absl::Status RunKrping(const KrpingOptions& options,
                       const Cancellation& interrupt, std::ostream& out) {
  if (options.test != KrpingTest::kPing) {
    return RunKrpingTest(options, interrupt, out);
  }
  return options.server ? ServePings(options, interrupt, out)
                        : Ping(options, interrupt, out);
}

std::string FormatKrpingFigures(KrpingTest test, const KrpingFigures& figures) {
  std::string line =
      absl::StrFormat("krping: delta nsec %d iter %d size %d", figures.delta_ns,
                      figures.iterations, figures.size);
  const double each =
      static_cast<double>(figures.delta_ns) / std::max(1u, figures.iterations);
  if (test == KrpingTest::kReadLatency) {
    return absl::StrFormat("%s\nkrping: %.2f us a READ\n", line, each / 1e3);
  }
  absl::StrAppendFormat(
      &line, " cycle_iters %d sum_post %d sum_poll %d sum_last_poll %d",
      figures.cycle_iters, figures.sum_post, figures.sum_poll,
      figures.sum_last_poll);
  if (test == KrpingTest::kWriteLatency) {
    // One iteration is a WRITE there and a WRITE back.
    return absl::StrFormat("%s\nkrping: %.2f us one way (sums in ns)\n", line,
                           each / 2e3);
  }
  return absl::StrFormat("%s\nkrping: %.3f GB/s (sums in ns)\n", line,
                         each == 0 ? 0 : figures.size / each);
}

}  // namespace nd::ndping
