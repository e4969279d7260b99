// A session's layout as applications wish it, as the control plane agrees on
// it, and as the transport uses it.
#ifndef ND_API_LAYOUT_H_
#define ND_API_LAYOUT_H_

#include "control/layout.h"
#include "nd/session.h"
#include "transport/session/session_layout.h"

namespace nd::api {

control::SessionLayout WishOf(const SessionLayout& layout);
SessionLayout ForApplication(const control::SessionLayout& agreed);
transport::SessionLayout ForTransport(const control::SessionLayout& agreed);

}  // namespace nd::api

#endif  // ND_API_LAYOUT_H_
