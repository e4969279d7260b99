// Operations as C++20 coroutines await them.
#ifndef ND_COROUTINE_H_
#define ND_COROUTINE_H_

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nd/operation.h"
#include "nd/session.h"
#include "nd/stream.h"

namespace nd {

// A coroutine that nobody waits for: it begins at once, and goes with its end.
//
//   nd::Detached Serve(nd::Stream stream) {
//     for (;;) {
//       absl::StatusOr<nd::Message> request = co_await nd::Receive(stream);
//       if (!request.ok()) co_return;
//       co_await nd::Send(stream, request->bytes());
//     }
//   }
struct Detached {
  struct promise_type {
    Detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

// What the functions below return is awaited once, in the expression that made
// it. The coroutine goes on, when the operation is done, on the thread of the
// session's reactor.
using TimePoint = std::chrono::steady_clock::time_point;

namespace api {

// An operation in the frame of the coroutine that awaits it.
template <typename Op>
class Awaiting {
 public:
  Awaiting() = default;
  Awaiting(const Awaiting&) = delete;
  Awaiting& operator=(const Awaiting&) = delete;

  bool await_ready() const noexcept { return false; }

 protected:
  ~Awaiting() = default;
  // Before it is started: it may be done before that returns.
  Op& ResumeWhenDone(std::coroutine_handle<> coroutine) {
    operation_.OnDone(
        [](Operation&, void* context) {
          std::coroutine_handle<>::from_address(context).resume();
        },
        coroutine.address());
    return operation_;
  }

  Op operation_;
};

}  // namespace api

class SendAwaiting : public api::Awaiting<SendOperation> {
 public:
  SendAwaiting(Stream& stream, std::span<const std::byte> message,
               TimePoint deadline)
      : stream_(stream) {
    operation_.set_piece({.bytes = message});
    operation_.set_deadline(deadline);
  }
  void await_suspend(std::coroutine_handle<> coroutine) {
    stream_.Send(ResumeWhenDone(coroutine));
  }
  absl::Status await_resume() { return operation_.status(); }

 private:
  Stream& stream_;
};

class ReceiveAwaiting : public api::Awaiting<ReceiveOperation> {
 public:
  ReceiveAwaiting(Stream& stream, TimePoint deadline) : stream_(stream) {
    operation_.set_deadline(deadline);
  }
  void await_suspend(std::coroutine_handle<> coroutine) {
    stream_.Receive(ResumeWhenDone(coroutine));
  }
  absl::StatusOr<Message> await_resume() {
    if (!operation_.status().ok()) return operation_.status();
    return std::move(operation_.message());
  }

 private:
  Stream& stream_;
};

class AcceptAwaiting : public api::Awaiting<AcceptOperation> {
 public:
  AcceptAwaiting(Session& session, TimePoint deadline) : session_(session) {
    operation_.set_deadline(deadline);
  }
  void await_suspend(std::coroutine_handle<> coroutine) {
    session_.Accept(ResumeWhenDone(coroutine));
  }
  absl::StatusOr<Stream> await_resume() {
    if (!operation_.status().ok()) return operation_.status();
    return session_.Take(operation_);
  }

 private:
  Session& session_;
};

class AccessAwaiting : public api::Awaiting<AccessOperation> {
 public:
  // `set` says what: operations have no copies. With a stream it is its
  // WriteWithImmediate.
  template <typename Set>
  AccessAwaiting(Session& session, TimePoint deadline, Set set)
      : session_(&session) {
    operation_.set_deadline(deadline);
    set(operation_);
  }
  template <typename Set>
  AccessAwaiting(Stream& stream, TimePoint deadline, Set set)
      : stream_(&stream) {
    operation_.set_deadline(deadline);
    set(operation_);
  }
  void await_suspend(std::coroutine_handle<> coroutine) {
    AccessOperation& operation = ResumeWhenDone(coroutine);
    if (stream_ != nullptr) {
      stream_->WriteWithImmediate(operation);
    } else {
      session_->Access(operation);
    }
  }
  absl::Status await_resume() { return operation_.status(); }

 private:
  Session* session_ = nullptr;
  Stream* stream_ = nullptr;
};

class AtomicAwaiting : public AccessAwaiting {
 public:
  using AccessAwaiting::AccessAwaiting;
  absl::StatusOr<uint64_t> await_resume() {
    if (!operation_.status().ok()) return operation_.status();
    return operation_.value();
  }
};

// `message` stays as it is until the coroutine goes on.
inline SendAwaiting Send(Stream& stream, std::span<const std::byte> message,
                         TimePoint deadline = TimePoint::max()) {
  return {stream, message, deadline};
}
inline ReceiveAwaiting Receive(Stream& stream,
                               TimePoint deadline = TimePoint::max()) {
  return {stream, deadline};
}
inline AcceptAwaiting Accept(Session& session,
                             TimePoint deadline = TimePoint::max()) {
  return {session, deadline};
}

// On regions of the peer's.
inline AccessAwaiting Read(Session& session, const RemoteRegion& region,
                           uint64_t offset, std::span<std::byte> into,
                           TimePoint deadline = TimePoint::max()) {
  return AccessAwaiting(session, deadline, [&](AccessOperation& operation) {
    operation.set_read(region, offset, {.bytes = into});
  });
}
inline AccessAwaiting Write(Session& session, const RemoteRegion& region,
                            uint64_t offset, std::span<const std::byte> from,
                            TimePoint deadline = TimePoint::max()) {
  return AccessAwaiting(session, deadline, [&](AccessOperation& operation) {
    operation.set_write(region, offset, {.bytes = from});
  });
}
inline AccessAwaiting WriteWithImmediate(
    Stream& stream, const RemoteRegion& region, uint64_t offset,
    std::span<const std::byte> from, uint32_t immediate,
    TimePoint deadline = TimePoint::max()) {
  return AccessAwaiting(stream, deadline, [&](AccessOperation& operation) {
    operation.set_write(region, offset, {.bytes = from});
    operation.set_immediate(immediate);
  });
}
inline AtomicAwaiting FetchAdd(Session& session, const RemoteRegion& region,
                               uint64_t offset, uint64_t add,
                               TimePoint deadline = TimePoint::max()) {
  return AtomicAwaiting(session, deadline, [&](AccessOperation& operation) {
    operation.set_fetch_add(region, offset, add);
  });
}
inline AtomicAwaiting CompareSwap(Session& session, const RemoteRegion& region,
                                  uint64_t offset, uint64_t expected,
                                  uint64_t desired,
                                  TimePoint deadline = TimePoint::max()) {
  return AtomicAwaiting(session, deadline, [&](AccessOperation& operation) {
    operation.set_compare_swap(region, offset, expected, desired);
  });
}

}  // namespace nd

#endif  // ND_COROUTINE_H_
