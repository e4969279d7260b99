#include "soft/cm/sidr.h"

#include "soft/cm/private_data.h"

namespace nd::soft {
namespace {

constexpr Duration kRepeatEvery = IbTime(kCmResponseTimeout);
// Long enough for three repeats of the question.
constexpr Duration kAnswerKept = 4 * kRepeatEvery;

absl::Status NotAsked() {
  return absl::FailedPreconditionError("no question waits for an answer here");
}

}  // namespace

absl::Status SidrTable::Resolve(CmHandle handle, CommId request_id,
                                const SidrResolveOptions& options,
                                CmTurn& turn) {
  if (auto status = CheckPrivateData(options.private_data, kSidrReqUserBytes);
      !status.ok()) {
    return status;
  }
  const CmEndpoints& endpoints = options.endpoints;
  CmSidrReq req{.request_id = request_id,
                .service_id = ServiceId(options.space, endpoints.remote.port)};
  StoreWithHeader(MakeHeader(endpoints), options.private_data,
                  req.private_data);
  queries_.emplace(request_id, handle);
  Lookup& lookup = lookups_[handle];
  lookup = Query{.request_id = request_id,
                 .repeated = {.source = endpoints.local.ip,
                              .destination = endpoints.remote.ip,
                              .mad = {.transaction_id = turn.random.Next(),
                                      .message = req}},
                 .retries_left = kMaxCmRetries + 1};
  Repeat(handle, std::get<Query>(lookup), turn);
  return absl::OkStatus();
}

absl::Status SidrTable::Accept(CmHandle handle,
                               const SidrAcceptOptions& options, CmTurn& turn) {
  if (auto status =
          CheckPrivateData(options.private_data, CmSidrRep::kPrivateBytes);
      !status.ok()) {
    return status;
  }
  Inquiry* const inquiry = FindOpen(handle);
  if (inquiry == nullptr) return NotAsked();
  CmSidrRep rep{.status = static_cast<uint8_t>(SidrStatus::kSuccess),
                .qpn = options.qpn,
                .qkey = options.qkey};
  StorePrivateData(options.private_data, rep.private_data);
  Answer(handle, *inquiry, rep, turn);
  return absl::OkStatus();
}

absl::Status SidrTable::Reject(CmHandle handle, PrivateDataView private_data,
                               CmTurn& turn) {
  if (auto status = CheckPrivateData(private_data, CmSidrRep::kPrivateBytes);
      !status.ok()) {
    return status;
  }
  Inquiry* const inquiry = FindOpen(handle);
  if (inquiry == nullptr) return NotAsked();
  CmSidrRep rep{.status = static_cast<uint8_t>(SidrStatus::kReject)};
  StorePrivateData(private_data, rep.private_data);
  Answer(handle, *inquiry, rep, turn);
  return absl::OkStatus();
}

void SidrTable::Destroy(CmHandle handle, CmTurn& turn) {
  const auto found = lookups_.find(handle);
  if (found == lookups_.end()) return;
  if (Inquiry* const open = FindOpen(handle); open != nullptr) {
    Answer(handle, *open, {.status = static_cast<uint8_t>(SidrStatus::kReject)},
           turn);
  }
  if (auto* const inquiry = std::get_if<Inquiry>(&found->second)) {
    inquiry->abandoned = true;
    return;
  }
  if (const auto* const query = std::get_if<Query>(&found->second)) {
    Finish(handle, query->request_id);
  }
  lookups_.erase(handle);
}

bool SidrTable::HandleReqAgain(const CmSidrReq& req, const CmDatagram& datagram,
                               CmTurn& turn) {
  const auto found = inquiries_.find(
      Asker{.ip = datagram.source, .request_id = req.request_id});
  if (found == inquiries_.end()) return false;
  const auto& inquiry = std::get<Inquiry>(lookups_.at(found->second));
  if (inquiry.answered) turn.out.datagrams.push_back(inquiry.answer);
  return true;
}

void SidrTable::HandleReq(const Question& question, CmTurn& turn) {
  const CmDatagram& datagram = question.datagram;
  const Asker asker{.ip = datagram.source,
                    .request_id = question.req.request_id};
  inquiries_.emplace(asker, question.handle);
  lookups_[question.handle] =
      Inquiry{.asker = asker,
              .service_id = question.req.service_id,
              .answer = {.source = datagram.destination,
                         .destination = datagram.source,
                         .mad = {.transaction_id = datagram.mad.transaction_id,
                                 .message = CmSidrRep{}}}};
  turn.out.events.push_back(
      {.type = CmEventType::kConnectRequest,
       .handle = question.handle,
       .listener = question.listener,
       .endpoints = question.endpoints,
       .private_data = UserData(question.req.private_data)});
}

void SidrTable::HandleRep(const CmSidrRep& rep, const CmDatagram& datagram,
                          CmTurn& turn) {
  const auto found = queries_.find(rep.request_id);
  if (found == queries_.end()) return;
  const CmHandle handle = found->second;
  const auto& query = std::get<Query>(lookups_.at(handle));
  if (query.repeated.destination != datagram.source) return;
  const bool found_it =
      rep.status == static_cast<uint8_t>(SidrStatus::kSuccess);
  turn.out.events.push_back(
      {.type = found_it ? CmEventType::kEstablished : CmEventType::kUnreachable,
       .handle = handle,
       .peer = {.qpn = rep.qpn, .qkey = rep.qkey},
       .sidr_status = rep.status,
       .private_data = AllData(rep.private_data)});
  Finish(handle, rep.request_id);
}

void SidrTable::HandleTimeouts(CmTurn& turn) {
  while (const auto handle = deadlines_.PopDue(turn.now)) {
    HandleTimeout(*handle, turn);
  }
}

bool SidrTable::Contains(CmHandle handle) const {
  const auto found = lookups_.find(handle);
  if (found == lookups_.end()) return false;
  const auto* const inquiry = std::get_if<Inquiry>(&found->second);
  return inquiry == nullptr || !inquiry->abandoned;
}

SidrTable::Inquiry* SidrTable::FindOpen(CmHandle handle) {
  const auto found = lookups_.find(handle);
  if (found == lookups_.end()) return nullptr;
  auto* const inquiry = std::get_if<Inquiry>(&found->second);
  return inquiry != nullptr && !inquiry->answered ? inquiry : nullptr;
}

void SidrTable::Answer(CmHandle handle, Inquiry& inquiry, CmSidrRep rep,
                       CmTurn& turn) {
  rep.request_id = inquiry.asker.request_id;
  rep.service_id = inquiry.service_id;
  inquiry.answer.mad.message = rep;
  inquiry.answered = true;
  turn.out.datagrams.push_back(inquiry.answer);
  deadlines_.Set(handle, turn.now + kAnswerKept);
}

void SidrTable::HandleTimeout(CmHandle handle, CmTurn& turn) {
  Lookup& lookup = lookups_.at(handle);
  if (auto* const query = std::get_if<Query>(&lookup)) {
    Repeat(handle, *query, turn);
  } else if (auto* const inquiry = std::get_if<Inquiry>(&lookup)) {
    Forget(handle, *inquiry);
  }
}

void SidrTable::Repeat(CmHandle handle, Query& query, CmTurn& turn) {
  if (query.retries_left-- > 0) {
    turn.out.datagrams.push_back(query.repeated);
    deadlines_.Set(handle, turn.now + kRepeatEvery);
    return;
  }
  turn.out.events.push_back(
      {.type = CmEventType::kUnreachable, .handle = handle, .timed_out = true});
  Finish(handle, query.request_id);
}

void SidrTable::Forget(CmHandle handle, Inquiry& inquiry) {
  inquiries_.erase(inquiry.asker);
  if (inquiry.abandoned) {
    lookups_.erase(handle);
  } else {
    lookups_[handle] = std::monostate();
  }
}

// A query has its outcome.
void SidrTable::Finish(CmHandle handle, CommId request_id) {
  queries_.erase(request_id);
  deadlines_.Set(handle, std::nullopt);
  lookups_[handle] = std::monostate();
}

}  // namespace nd::soft
