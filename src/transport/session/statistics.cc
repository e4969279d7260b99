#include "transport/session/statistics.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "transport/session/session_core.h"

namespace nd::transport {
namespace {

Duration Since(const Operation* operation, Instant now) {
  if (operation == nullptr) return {};
  return std::max(Duration::zero(),
                  now - OperationAccess::started_at(*operation));
}

Latencies LatenciesOf(const CoarseHistogram& histogram) {
  const auto at = [&histogram](double percentile) {
    return Duration(histogram.ValueAtPercentile(percentile));
  };
  Latencies latencies{.count = histogram.count(),
                      .min = Duration(histogram.min()),
                      .mean = Duration(static_cast<int64_t>(histogram.mean())),
                      .p50 = at(50),
                      .p90 = at(90),
                      .p99 = at(99),
                      .p999 = at(99.9),
                      .max = Duration(histogram.max())};
  for (const CoarseHistogram::Bucket& each : histogram.Buckets()) {
    latencies.buckets.push_back({.low = Duration(each.low),
                                 .high = Duration(each.high),
                                 .count = each.count});
  }
  return latencies;
}

std::string Text(Duration time) {
  return absl::FormatDuration(absl::FromChrono(time));
}

std::string Text(const Stalls& stalls) {
  std::string text;
  const auto add = [&text](const char* lack, const Stall& stall) {
    if (stall.count == 0) return;
    absl::StrAppend(&text, text.empty() ? "" : ", ", lack, " ", stall.count,
                    " times, ", Text(stall.time));
  };
  add("connection", stalls.connection);
  add("credit", stalls.credit);
  add("depth", stalls.depth);
  add("window", stalls.window);
  add("transfers", stalls.transfers);
  add("memory", stalls.memory);
  return text.empty() ? "nothing" : text;
}

void Append(std::string& text, const char* name, const ClassStatistics& its) {
  const Latencies& took = its.send_latency;
  absl::StrAppend(&text, name, ": sent ", its.sent.messages, " messages, ",
                  its.sent.bytes, " bytes, received ", its.received.messages,
                  " messages, ", its.received.bytes, " bytes, copied aside ",
                  its.copied_aside, "; sent again ", its.resent_frames,
                  " frames, ", its.rewritten_messages,
                  " long messages; waited for ", Text(its.stalls), "\n");
  if (took.count == 0) return;
  absl::StrAppend(&text, name, ": a send took ", Text(took.min), " to ",
                  Text(took.max), ", mean ", Text(took.mean), ", p50 ",
                  Text(took.p50), ", p90 ", Text(took.p90), ", p99 ",
                  Text(took.p99), ", p99.9 ", Text(took.p999), "\n");
}

}  // namespace

std::string Describe(const SessionStatistics& statistics) {
  std::string text;
  Append(text, "latency class", statistics.latency);
  Append(text, "bulk class", statistics.bulk);
  for (size_t i = 0; i < statistics.connections.size(); ++i) {
    const ConnectionStatistics& its = statistics.connections[i];
    absl::StrAppend(
        &text, "connection ", i, its.up ? "" : " (down)", ": made ", its.made,
        " times of ", its.begun, ", lost ", its.lost, "; sent ",
        its.packets_sent, " packets, ", its.frames_sent, " frames, ",
        its.bytes_sent, " bytes, received ", its.packets_received, " packets, ",
        its.frames_received, " frames, ", its.bytes_received,
        " bytes; written ", its.bytes_written, " bytes in ", its.writes,
        " requests; sent again ", its.resent_frames, " frames; waited for ",
        "credit ", its.credit_stalls, " times, for depth ", its.depth_stalls,
        "; credits ", its.credits, ", under way ", its.under_way, "\n");
  }
  absl::StrAppend(&text, "streams ", statistics.streams, ", oldest send ",
                  Text(statistics.oldest_send), ", oldest receive ",
                  Text(statistics.oldest_receive), "\naccesses ",
                  statistics.accesses.messages, " of ",
                  statistics.accesses.bytes, " bytes, oldest ",
                  Text(statistics.oldest_access), "\n");
  return text;
}

// Of a stream, or of all: of messages that wait, are in frames, or are written.
Duration SessionCore::OldestSend(const Stream* stream, Instant now) const {
  Duration oldest{};
  const auto look = [&](const Stream& its, const Operation* operation) {
    if (stream != nullptr && stream != &its) return;
    oldest = std::max(oldest, Since(operation, now));
  };
  for (const auto& [id, each] : streams_) look(*each, each->to_send_.first());
  for (const Lane& lane : lanes_) {
    for (uint64_t i = lane.entries.begin(); i != lane.entries.end(); ++i) {
      const Entry& entry = lane.entries[i];
      if (entry.operation != nullptr) look(*entry.stream, entry.operation);
    }
  }
  for (const Outgoing& transfer : outgoing_) {
    if (transfer.stream != nullptr) look(*transfer.stream, transfer.operation);
  }
  return oldest;
}

SessionStatistics SessionCore::Statistics(Instant now) {
  timed_.Stamp(now);
  SessionStatistics result;
  const auto fill = [now](const Lane& lane, ClassStatistics& its) {
    const ClassCounters& counters = lane.counters;
    its.sent = counters.sent;
    its.received = counters.received;
    its.resent_frames = counters.resent_frames;
    its.rewritten_messages = counters.rewritten_messages;
    its.copied_aside = counters.copied_aside;
    its.stalls = counters.of_gone_streams;
    lane.stall.AddTo(its.stalls, now);
    its.send_latency = LatenciesOf(lane.latencies);
  };
  fill(LaneOf(MessageClass::kLatency), result.latency);
  fill(LaneOf(MessageClass::kBulk), result.bulk);
  write_stall_.AddTo(result.bulk.stalls, now);
  for (const auto& [id, stream] : streams_) {
    ClassStatistics& its = stream->message_class() == MessageClass::kLatency
                               ? result.latency
                               : result.bulk;
    stream->send_stall_.AddTo(its.stalls, now);
    stream->receive_stall_.AddTo(its.stalls, now);
    result.oldest_receive = std::max(result.oldest_receive,
                                     Since(stream->receiving_.oldest(), now));
  }
  for (const Link& link : links_) {
    ConnectionStatistics& its = result.connections.emplace_back(link.counters);
    its.up = link.state == Link::State::kUp;
    its.credits = its.up ? link.credits - link.sent : 0;
    its.under_way = link.works.size();
  }
  result.streams = streams_.size();
  result.oldest_send = OldestSend(nullptr, now);
  result.accesses = accessed_;
  result.oldest_access = Since(to_access_.first(), now);
  for (const Access& access : accesses_) {
    result.oldest_access =
        std::max(result.oldest_access, Since(access.operation, now));
  }
  return result;
}

StreamStatistics Stream::Statistics(Instant now) {
  core_.timed_.Stamp(now);
  StreamStatistics result{.sent = counters_.sent,
                          .received = counters_.received,
                          .resent_frames = counters_.resent_frames,
                          .rewritten_messages = counters_.rewritten_messages,
                          .window = send_limit_ - sent_cost_,
                          .oldest_send = core_.OldestSend(this, now),
                          .oldest_receive = Since(receiving_.oldest(), now)};
  send_stall_.AddTo(result.stalls, now);
  receive_stall_.AddTo(result.stalls, now);
  return result;
}

}  // namespace nd::transport
