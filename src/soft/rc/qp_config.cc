#include "soft/rc/qp_config.h"

namespace nd::soft {

bool MayMove(Transport transport, QpState from, QpState to) {
  switch (to) {
    case QpState::kReset:
    case QpState::kErr:
      return true;
    case QpState::kInit:
      return from == QpState::kReset || from == QpState::kInit;
    case QpState::kRtr:
      return from == QpState::kInit;
    case QpState::kRts:
      return from == QpState::kRtr || from == QpState::kRts ||
             from == QpState::kSqd ||
             (from == QpState::kSqe && transport != Transport::kRc);
    case QpState::kSqd:
      return from == QpState::kRts || from == QpState::kSqd;
    case QpState::kSqe:
      return false;
  }
  return false;
}

}  // namespace nd::soft
