// A session whose application and whose peer do anything at all. Whatever the
// peer says, the session writes nowhere but where it was granted to, posts no
// more than its links take, and in the end every operation is done.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "fuzz/choices.h"
#include "transport/session/lone_session.h"

namespace nd::transport {
namespace {

using soft::Choices;
using soft::Require;

constexpr size_t kMaxOperations = 24;
constexpr size_t kMaxSteps = 400;
constexpr uint64_t kGrantBase = 0x10000;

class Play {
 public:
  explicit Play(std::span<const uint8_t> input)
      : choices_(input), session_(choices_.OneIn(4)) {}

  void Run() {
    for (size_t i = 0; i < kMaxSteps && !choices_.empty(); ++i) {
      Step();
      CheckWrites();
    }
    for (Stream* const stream : streams_) {
      if (stream != nullptr) stream->Close();
    }
    session_.core().Fail(absl::CancelledError("the end"));
    session_.Complete(0);
    session_.Complete(1);
    session_.Wait(std::chrono::seconds(2));
    Require(session_.ended().has_value(), "the session does not end");
    for (const auto& each : sends_) {
      Require(each->operation.done(), "a send that hangs");
    }
    for (const auto& each : receives_) {
      Require(each->operation.done(), "a receive that hangs");
      each->operation.message().Drop();
    }
    session_.Pump();
  }

 private:
  struct Sending {
    SendOperation operation;
    std::vector<std::byte> bytes;
  };
  struct Receiving {
    ReceiveOperation operation;
    std::vector<std::byte> bytes;
  };

  uint32_t AnyLink() { return choices_.Below(LoneSession::kLinks); }
  Stream* AnyStream() {
    while (Stream* const stream = session_.core().AcceptStream()) {
      streams_.push_back(stream);
    }
    return streams_.empty() ? nullptr
                            : streams_[choices_.Below(static_cast<uint32_t>(
                                  std::min<size_t>(streams_.size(), 256)))];
  }
  MessageClass AnyClass() {
    return static_cast<MessageClass>(choices_.Below(2));
  }
  // What the session asked for or granted, or anything.
  template <typename Payload>
  Payload LastSent(FrameType type) {
    for (auto it = session_.sent().rbegin(); it != session_.sent().rend();
         ++it) {
      if (it->header.type != type) continue;
      if (choices_.OneIn(3)) continue;
      if (auto payload = Payload::Parse(it->payload)) return *payload;
    }
    return Payload{};
  }

  void Step() {
    switch (choices_.Below(16)) {
      case 0:
        if (streams_.size() < 32) {
          auto stream = session_.core().OpenStream(AnyClass(), "s");
          if (stream.ok()) streams_.push_back(*stream);
        }
        break;
      case 1:
        Send();
        break;
      case 2:
        Receive();
        break;
      case 3:
        Application();
        break;
      case 4:
        session_.Complete(AnyLink());
        break;
      case 5:
        session_.Wait(std::chrono::milliseconds(choices_.Byte()));
        break;
      case 6: {
        const uint32_t link = AnyLink();
        if (session_.finished(link)) {
          if (!session_.ended()) session_.Connect(link);
        } else if (choices_.OneIn(4)) {
          session_.Lose(link);
        }
        break;
      }
      case 7:
        session_.GiveImmediate(AnyLink(),
                               choices_.OneIn(4)
                                   ? choices_.Word() << 16u | choices_.Word()
                                   : SomeImmediate());
        break;
      case 8: {
        const auto chosen = choices_.Bytes(choices_.Byte());
        const auto bytes = std::as_bytes(chosen);
        if (choices_.OneIn(4)) {
          session_.GiveRing(AnyLink(), choices_.Below(10), bytes);
        } else {
          session_.GivePacket(AnyLink(), bytes);
        }
        break;
      }
      default:
        PeerFrame();
    }
    session_.Pump();
  }

  uint32_t SomeImmediate() {
    const Grant grant = LastSent<Grant>(FrameType::kGrant);
    return WrittenImmediate{.slot = static_cast<uint16_t>(grant.slot),
                            .transfer = grant.transfer,
                            .mark = choices_.OneIn(2)}
        .Encode();
  }

  void Send() {
    Stream* const stream = AnyStream();
    if (stream == nullptr || sends_.size() == kMaxOperations) return;
    auto& sending = *sends_.emplace_back(std::make_unique<Sending>());
    sending.bytes.resize(size_t{choices_.Byte()} * 16);
    sending.operation.set_piece({.bytes = sending.bytes});
    if (choices_.OneIn(4)) {
      sending.operation.set_deadline(
          session_.now() + std::chrono::milliseconds(choices_.Byte()));
    }
    stream->Send(sending.operation);
  }

  void Receive() {
    Stream* const stream = AnyStream();
    if (stream == nullptr || receives_.size() == kMaxOperations) return;
    auto& receiving = *receives_.emplace_back(std::make_unique<Receiving>());
    if (choices_.OneIn(2)) {
      receiving.bytes.resize(size_t{choices_.Byte()} * 32);
      receiving.operation.set_into({.bytes = receiving.bytes});
    }
    if (choices_.OneIn(4)) {
      receiving.operation.set_deadline(
          session_.now() + std::chrono::milliseconds(choices_.Byte()));
    }
    stream->Receive(receiving.operation);
  }

  void Application() {
    Stream* const stream = AnyStream();
    if (stream == nullptr) return;
    switch (choices_.Below(5)) {
      case 0:
        stream->Finish();
        break;
      case 1:
        stream->Reset(absl::AbortedError("fuzz"));
        break;
      case 2:
        for (const auto& each : receives_) {
          if (each->operation.done()) each->operation.message().Drop();
        }
        break;
      case 3:
        if (!sends_.empty() &&
            OperationAccess::started(sends_.back()->operation) &&
            OperationAccess::stream(sends_.back()->operation) == stream) {
          stream->Cancel(sends_.back()->operation);
        }
        break;
      case 4:
        if (!receives_.empty() &&
            OperationAccess::started(receives_.back()->operation) &&
            OperationAccess::stream(receives_.back()->operation) == stream) {
          stream->Cancel(receives_.back()->operation);
        }
        break;
    }
  }

  // A frame that is mostly what it should be.
  void PeerFrame() {
    static constexpr std::array kTypes = {
        FrameType::kMessage, FrameType::kOpen,    FrameType::kFinish,
        FrameType::kReset,   FrameType::kWindow,  FrameType::kRequest,
        FrameType::kGrant,   FrameType::kWritten, FrameType::kRevoke,
        FrameType::kNotify,  FrameType::kGoodbye, FrameType::kCredit,
        FrameType::kPing,    FrameType::kPong,    FrameType::kGone,
        FrameType::kAbort};
    FrameHeader header{.type = kTypes[choices_.Below(kTypes.size())]};
    if (header.type == FrameType::kAbort && !choices_.OneIn(8)) return;
    // What there was of it, or more.
    header.credits = 8 + choices_.Below(3) * choices_.Byte();
    if (IsSequenced(header.type)) header.message_class = AnyClass();
    if (FactsOf(header.type).of_stream) {
      header.window = 4096u + 16u * choices_.Word();
      header.stream = StreamId{.number = 1 + choices_.Below(4),
                               .message_class = header.message_class,
                               .by_client = !choices_.OneIn(3)}
                          .Encode();
    }
    const uint32_t link = AnyLink();
    switch (header.type) {
      case FrameType::kMessage: {
        const std::vector<std::byte> bytes(size_t{4} * choices_.Byte());
        session_.Give(link, header, bytes);
        break;
      }
      case FrameType::kRequest:
        session_.GivePayload(link, header,
                             Request{.transfer = choices_.Byte(),
                                     .size = 993u + 8u * choices_.Word()});
        break;
      case FrameType::kGrant: {
        const Request asked = LastSent<Request>(FrameType::kRequest);
        session_.GivePayload(
            link, header,
            Grant{.transfer = asked.transfer,
                  .slot = choices_.Byte(),
                  .address = kGrantBase,
                  .rkey = 7,
                  .size = choices_.OneIn(8) ? choices_.Word() : asked.size});
        break;
      }
      case FrameType::kWritten: {
        const Grant grant = LastSent<Grant>(FrameType::kGrant);
        session_.GivePayload(
            link, header,
            Written{.transfer = grant.transfer,
                    .status = static_cast<WrittenStatus>(choices_.Below(3)),
                    .links = choices_.Below(4)});
        break;
      }
      case FrameType::kRevoke:
        session_.GivePayload(
            link, header,
            Revoke{LastSent<Request>(FrameType::kRequest).transfer});
        break;
      case FrameType::kNotify:
        session_.GivePayload(link, header, Notify{.region = choices_.Byte()});
        break;
      case FrameType::kPing:
      case FrameType::kPong:
        session_.GivePayload(link, header, Probe{choices_.Byte()});
        break;
      case FrameType::kGone:
        session_.GivePayload(link, header,
                             Gone{.link = choices_.Below(3),
                                  .incarnation = choices_.Below(4),
                                  .received = choices_.Byte()});
        break;
      case FrameType::kReset:
      case FrameType::kGoodbye:
      case FrameType::kAbort:
        session_.GivePayload(link, header,
                             Reason{.code = choices_.Byte(), .text = "x"});
        break;
      default:
        session_.Give(link, header);
    }
  }

  void CheckWrites() {
    for (; checked_ < session_.writes().size(); ++checked_) {
      const LoneSession::Written& write = session_.writes()[checked_];
      Require(write.to.rkey == 7 && write.to.address >= kGrantBase &&
                  write.to.address + write.length <= kGrantBase + 65536,
              "a WRITE to where nothing was granted");
    }
  }

  Choices choices_;
  LoneSession session_;
  std::vector<Stream*> streams_;
  std::vector<std::unique_ptr<Sending>> sends_;
  std::vector<std::unique_ptr<Receiving>> receives_;
  size_t checked_ = 0;
};

}  // namespace
}  // namespace nd::transport

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nd::transport::Play(std::span(data, size)).Run();
  return 0;
}
