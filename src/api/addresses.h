// What applications write as text, as the control plane takes it.
#ifndef ND_API_ADDRESSES_H_
#define ND_API_ADDRESSES_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "control/credentials.h"
#include "nd/session.h"
#include "verbs/address.h"

namespace nd::api {

// "host:port" or "[address]:port", by name or number. INVALID_ARGUMENT says
// what is wrong with it; NOT_FOUND: no such name.
absl::StatusOr<verbs::SocketAddress> FindHost(std::string_view text,
                                              const Deadline& deadline);

control::Credentials CredentialsOf(const TlsFiles& tls);

}  // namespace nd::api

#endif  // ND_API_ADDRESSES_H_
