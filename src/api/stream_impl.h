// A stream as applications hold it.
#ifndef ND_API_STREAM_IMPL_H_
#define ND_API_STREAM_IMPL_H_

#include <memory>
#include <string>
#include <utility>

#include "api/session_impl.h"
#include "nd/stream.h"
#include "transport/session/stream.h"

namespace nd::api {

// Submitted to close the stream, on whose reactor's thread it then goes.
class StreamImpl final : public transport::Submission {
 public:
  StreamImpl(std::shared_ptr<SessionImpl> session, transport::Stream& stream)
      : Submission(&StreamImpl::Close),
        session_(std::move(session)),
        stream_(stream),
        name_(stream.name()),
        stream_class_(stream.message_class() ==
                              transport::MessageClass::kLatency
                          ? StreamClass::kLatency
                          : StreamClass::kBulk) {}

  SessionImpl& session() const { return *session_; }
  transport::Engine& engine() const { return session_->engine(); }
  transport::Stream& stream() const { return stream_; }
  const std::string& name() const { return name_; }
  StreamClass stream_class() const { return stream_class_; }

 private:
  static void Close(Submission& self) {
    const std::unique_ptr<StreamImpl> impl(&static_cast<StreamImpl&>(self));
    impl->stream_.Close();
  }

  const std::shared_ptr<SessionImpl> session_;
  transport::Stream& stream_;
  const std::string name_;
  const StreamClass stream_class_;
};

}  // namespace nd::api

#endif  // ND_API_STREAM_IMPL_H_
