#include "transport/frame/golden_packets.h"

#include <cstdint>

namespace nd::transport {
namespace {

uint8_t Digit(char digit) {
  return static_cast<uint8_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

}  // namespace

Bytes Hex(std::initializer_list<std::string_view> fragments) {
  Bytes bytes;
  for (std::string_view rest : fragments) {
    for (; !rest.empty(); rest.remove_prefix(rest[0] == ' ' ? 1 : 2)) {
      if (rest[0] == ' ') continue;
      bytes.push_back(
          static_cast<std::byte>(Digit(rest[0]) << 4 | Digit(rest[1])));
    }
  }
  return bytes;
}

std::vector<GoldenPacket> GoldenPackets() {
  return {
      {.name = "message",
       .digest = false,
       .bytes = Hex({
           "01 01 00 00",     // version 1, Message, no flags, latency
           "01 00 00 00",     // stream 1
           "04 03 02 01",     // sequence 0x1020304
           "05 00 00 00",     // length 5
           "40 00 00 00",     // credits 0x40
           "03 02 01 00",     // window 0x10203
           "00 00 00 00",     // no digest
           "00 00 00 00",     // reserved
           "68 65 6c 6c 6f",  // "hello"
       }),
       .frames = {{{.type = FrameType::kMessage,
                    .stream = 1,
                    .sequence = 0x1020304,
                    .length = 5,
                    .credits = 0x40,
                    .window = 0x10203},
                   "hello"}}},
      {.name = "message of no bytes, bulk",
       .digest = false,
       .bytes = Hex({
           "01 01 00 01",  // version 1, Message, no flags, bulk
           "fe ff ff 7f",  // stream 2147483646
           "ff ff ff ff",  // sequence 0xffffffff
           "00 00 00 00",  // length 0
           "fe ff ff ff",  // credits 0xfffffffe
           "fd ff ff ff",  // window 0xfffffffd
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
       }),
       .frames = {{{.type = FrameType::kMessage,
                    .message_class = MessageClass::kBulk,
                    .stream = 2147483646,
                    .sequence = 0xffffffff,
                    .credits = 0xfffffffe,
                    .window = 0xfffffffd},
                   ""}}},
      {.name = "open",
       .digest = false,
       .bytes = Hex({
           "01 02 00 01",  // version 1, Open, no flags, bulk
           "03 00 00 00",  // stream 3
           "00 00 00 00",  // sequence 0x0
           "03 00 00 00",  // length 3
           "41 00 00 00",  // credits 0x41
           "00 00 10 00",  // window 0x100000
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
           "6c 6f 67",     // "log"
       }),
       .frames = {{{.type = FrameType::kOpen,
                    .message_class = MessageClass::kBulk,
                    .stream = 3,
                    .length = 3,
                    .credits = 0x41,
                    .window = 0x100000},
                   "log"}}},
      {.name = "open without a name",
       .digest = false,
       .bytes = Hex({
           "01 02 00 00",  // version 1, Open, no flags, latency
           "05 00 00 00",  // stream 5
           "01 00 00 00",  // sequence 0x1
           "00 00 00 00",  // length 0
           "41 00 00 00",  // credits 0x41
           "00 00 10 00",  // window 0x100000
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
       }),
       .frames = {{{.type = FrameType::kOpen,
                    .stream = 5,
                    .sequence = 0x1,
                    .credits = 0x41,
                    .window = 0x100000},
                   ""}}},
      {.name = "finish",
       .digest = false,
       .bytes = Hex({
           "01 03 00 00",  // version 1, Finish, no flags, latency
           "01 00 00 00",  // stream 1
           "02 00 00 00",  // sequence 0x2
           "00 00 00 00",  // length 0
           "42 00 00 00",  // credits 0x42
           "03 03 01 00",  // window 0x10303
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
       }),
       .frames = {{{.type = FrameType::kFinish,
                    .stream = 1,
                    .sequence = 0x2,
                    .credits = 0x42,
                    .window = 0x10303},
                   ""}}},
      {.name = "reset",
       .digest = false,
       .bytes = Hex({
           "01 04 00 00",  // version 1, Reset, no flags, latency
           "01 00 00 00",  // stream 1
           "03 00 00 00",  // sequence 0x3
           "08 00 00 00",  // length 8
           "43 00 00 00",  // credits 0x43
           "03 03 01 00",  // window 0x10303
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
           "08 00 00 00",  // RESOURCE_EXHAUSTED
           "66 75 6c 6c",  // "full"
       }),
       .frames = {{{.type = FrameType::kReset,
                    .stream = 1,
                    .sequence = 0x3,
                    .length = 8,
                    .credits = 0x43,
                    .window = 0x10303},
                   Reason{.code = 8, .text = "full"}}}},
      {.name = "window",
       .digest = false,
       .bytes = Hex({
           "01 05 00 01",  // version 1, Window, no flags, bulk
           "02 00 00 00",  // stream 2
           "04 00 00 00",  // sequence 0x4
           "00 00 00 00",  // length 0
           "44 00 00 00",  // credits 0x44
           "04 03 02 00",  // window 0x20304
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
       }),
       .frames = {{{.type = FrameType::kWindow,
                    .message_class = MessageClass::kBulk,
                    .stream = 2,
                    .sequence = 0x4,
                    .credits = 0x44,
                    .window = 0x20304},
                   ""}}},
      {.name = "request",
       .digest = false,
       .bytes = Hex({
           "01 06 00 01",              // version 1, Request, no flags, bulk
           "03 00 00 00",              // stream 3
           "05 00 00 00",              // sequence 0x5
           "10 00 00 00",              // length 16
           "45 00 00 00",              // credits 0x45
           "10 00 00 00",              // window 0x10
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "0d 0c 0b 0a",              // transfer
           "00 00 00 00",              // reserved
           "00 00 00 00 01 00 00 00",  // size
       }),
       .frames = {{{.type = FrameType::kRequest,
                    .message_class = MessageClass::kBulk,
                    .stream = 3,
                    .sequence = 0x5,
                    .length = 16,
                    .credits = 0x45,
                    .window = 0x10},
                   Request{.transfer = 0x0a0b0c0d, .size = 0x100000000}}}},
      {.name = "grant",
       .digest = false,
       .bytes = Hex({
           "01 07 00 01",              // version 1, Grant, no flags, bulk
           "03 00 00 00",              // stream 3
           "06 00 00 00",              // sequence 0x6
           "20 00 00 00",              // length 32
           "46 00 00 00",              // credits 0x46
           "11 00 00 00",              // window 0x11
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "0d 0c 0b 0a",              // transfer
           "fe ff 00 00",              // slot
           "05 04 03 02 01 7f 00 00",  // address
           "ef cd ab 00",              // rkey
           "00 00 00 00",              // reserved
           "89 67 45 23 01 00 00 00",  // size
       }),
       .frames = {{{.type = FrameType::kGrant,
                    .message_class = MessageClass::kBulk,
                    .stream = 3,
                    .sequence = 0x6,
                    .length = 32,
                    .credits = 0x46,
                    .window = 0x11},
                   Grant{.transfer = 0x0a0b0c0d,
                         .slot = 0xfffe,
                         .address = 0x7f0102030405,
                         .rkey = 0xabcdef,
                         .size = 0x123456789}}}},
      {.name = "written: done",
       .digest = false,
       .bytes = Hex({
           "01 08 00 01",  // version 1, Written, no flags, bulk
           "03 00 00 00",  // stream 3
           "07 00 00 00",  // sequence 0x7
           "10 00 00 00",  // length 16
           "47 00 00 00",  // credits 0x47
           "12 00 00 00",  // window 0x12
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
           "0d 0c 0b 0a",  // transfer
           "00 00 00 00",  // status: done
           "aa 36 91 8a",  // digest
           "00 00 00 00",  // reserved
       }),
       .frames = {{{.type = FrameType::kWritten,
                    .message_class = MessageClass::kBulk,
                    .stream = 3,
                    .sequence = 0x7,
                    .length = 16,
                    .credits = 0x47,
                    .window = 0x12},
                   Written{.transfer = 0x0a0b0c0d,
                           .status = WrittenStatus::kDone,
                           .digest = 0x8a9136aa}}}},
      {.name = "written: cancelled",
       .digest = false,
       .bytes = Hex({
           "01 08 00 01",  // version 1, Written, no flags, bulk
           "03 00 00 00",  // stream 3
           "08 00 00 00",  // sequence 0x8
           "10 00 00 00",  // length 16
           "47 00 00 00",  // credits 0x47
           "12 00 00 00",  // window 0x12
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
           "0d 0c 0b 0a",  // transfer
           "01 00 00 00",  // status: cancelled
           "00 00 00 00",  // digest
           "00 00 00 00",  // links
       }),
       .frames = {{{.type = FrameType::kWritten,
                    .message_class = MessageClass::kBulk,
                    .stream = 3,
                    .sequence = 0x8,
                    .length = 16,
                    .credits = 0x47,
                    .window = 0x12},
                   Written{.transfer = 0x0a0b0c0d,
                           .status = WrittenStatus::kCancelled,
                           .digest = 0x0}}}},
      {.name = "written: revoked",
       .digest = false,
       .bytes = Hex({
           "01 08 00 01",  // version 1, Written, no flags, bulk
           "03 00 00 00",  // stream 3
           "09 00 00 00",  // sequence 0x9
           "10 00 00 00",  // length 16
           "47 00 00 00",  // credits 0x47
           "12 00 00 00",  // window 0x12
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
           "0d 0c 0b 0a",  // transfer
           "02 00 00 00",  // status: revoked
           "00 00 00 00",  // digest
           "05 00 00 00",  // links 0 and 2
       }),
       .frames = {{{.type = FrameType::kWritten,
                    .message_class = MessageClass::kBulk,
                    .stream = 3,
                    .sequence = 0x9,
                    .length = 16,
                    .credits = 0x47,
                    .window = 0x12},
                   Written{.transfer = 0x0a0b0c0d,
                           .status = WrittenStatus::kRevoked,
                           .digest = 0x0,
                           .links = 5}}}},
      {.name = "revoke",
       .digest = false,
       .bytes = Hex({
           "01 09 00 01",  // version 1, Revoke, no flags, bulk
           "03 00 00 00",  // stream 3
           "0a 00 00 00",  // sequence 0xa
           "08 00 00 00",  // length 8
           "48 00 00 00",  // credits 0x48
           "13 00 00 00",  // window 0x13
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
           "0d 0c 0b 0a",  // transfer
           "00 00 00 00",  // reserved
       }),
       .frames = {{{.type = FrameType::kRevoke,
                    .message_class = MessageClass::kBulk,
                    .stream = 3,
                    .sequence = 0xa,
                    .length = 8,
                    .credits = 0x48,
                    .window = 0x13},
                   Revoke{.transfer = 0x0a0b0c0d}}}},
      {.name = "notify",
       .digest = false,
       .bytes = Hex({
           "01 0a 00 00",              // version 1, Notify, no flags, latency
           "05 00 00 00",              // stream 5
           "0b 00 00 00",              // sequence 0xb
           "20 00 00 00",              // length 32
           "49 00 00 00",              // credits 0x49
           "00 20 00 00",              // window 0x2000
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "88 77 66 55 44 33 22 11",  // region
           "00 10 00 00 00 00 00 00",  // offset
           "00 00 00 00 02 00 00 00",  // size
           "01 00 fe ca",              // immediate
           "00 00 00 00",              // reserved
       }),
       .frames = {{{.type = FrameType::kNotify,
                    .stream = 5,
                    .sequence = 0xb,
                    .length = 32,
                    .credits = 0x49,
                    .window = 0x2000},
                   Notify{.region = 0x1122334455667788,
                          .offset = 0x1000,
                          .size = 0x200000000,
                          .immediate = 0xcafe0001}}}},
      {.name = "goodbye",
       .digest = false,
       .bytes = Hex({
           "01 0b 00 00",  // version 1, Goodbye, no flags, latency
           "00 00 00 00",  // the session
           "0c 00 00 00",  // sequence 0xc
           "07 00 00 00",  // length 7
           "4a 00 00 00",  // credits 0x4a
           "00 00 00 00",  // no window
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
           "00 00 00 00",  // OK
           "62 79 65",     // "bye"
       }),
       .frames = {{{.type = FrameType::kGoodbye,
                    .sequence = 0xc,
                    .length = 7,
                    .credits = 0x4a},
                   Reason{.code = 0, .text = "bye"}}}},
      {.name = "credit",
       .digest = false,
       .bytes = Hex({
           "01 10 00 00",  // version 1, Credit, no flags, no class
           "00 00 00 00",  // no stream
           "00 00 00 00",  // no sequence
           "00 00 00 00",  // length 0
           "04 03 02 01",  // credits 0x1020304
           "00 00 00 00",  // no window
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
       }),
       .frames = {{{.type = FrameType::kCredit, .credits = 0x1020304}, ""}}},
      {.name = "ping",
       .digest = false,
       .bytes = Hex({
           "01 11 00 00",              // version 1, Ping, no flags, no class
           "00 00 00 00",              // no stream
           "00 00 00 00",              // no sequence
           "08 00 00 00",              // length 8
           "4b 00 00 00",              // credits 0x4b
           "00 00 00 00",              // no window
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "08 07 06 05 04 03 02 01",  // number
       }),
       .frames = {{{.type = FrameType::kPing, .length = 8, .credits = 0x4b},
                   Probe{.number = 0x0102030405060708}}}},
      {.name = "pong",
       .digest = false,
       .bytes = Hex({
           "01 12 00 00",              // version 1, Pong, no flags, no class
           "00 00 00 00",              // no stream
           "00 00 00 00",              // no sequence
           "08 00 00 00",              // length 8
           "4c 00 00 00",              // credits 0x4c
           "00 00 00 00",              // no window
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "08 07 06 05 04 03 02 01",  // number
       }),
       .frames = {{{.type = FrameType::kPong, .length = 8, .credits = 0x4c},
                   Probe{.number = 0x0102030405060708}}}},
      {.name = "gone",
       .digest = false,
       .bytes = Hex({
           "01 13 00 00",  // version 1, Gone, no flags, no class
           "00 00 00 00",  // no stream
           "00 00 00 00",  // no sequence
           "0c 00 00 00",  // length 12
           "4d 00 00 00",  // credits 0x4d
           "00 00 00 00",  // no window
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
           "03 00 00 00",  // link
           "11 00 00 00",  // incarnation
           "f0 ff ff ff",  // received
       }),
       .frames =
           {{{.type = FrameType::kGone, .length = 12, .credits = 0x4d},
             Gone{.link = 3, .incarnation = 0x11, .received = 0xfffffff0}}}},
      {.name = "abort",
       .digest = false,
       .bytes = Hex({
           "01 14 00 00",  // version 1, Abort, no flags, no class
           "00 00 00 00",  // no stream
           "00 00 00 00",  // no sequence
           "12 00 00 00",  // length 18
           "4e 00 00 00",  // credits 0x4e
           "00 00 00 00",  // no window
           "00 00 00 00",  // no digest
           "00 00 00 00",  // reserved
           "03 00 00 00",  // INVALID_ARGUMENT
           "61 20 77 72 6f 6e 67 20 64 69 67 65 73 74",  // "a wrong digest"
       }),
       .frames = {{{.type = FrameType::kAbort, .length = 18, .credits = 0x4e},
                   Reason{.code = 3, .text = "a wrong digest"}}}},
      {.name = "message with a digest",
       .digest = true,
       .bytes = Hex({
           "01 01 01 00",     // version 1, Message, digest, latency
           "01 00 00 00",     // stream 1
           "04 03 02 01",     // sequence 0x1020304
           "05 00 00 00",     // length 5
           "40 00 00 00",     // credits 0x40
           "03 02 01 00",     // window 0x10203
           "72 52 7b 17",     // digest
           "00 00 00 00",     // reserved
           "68 65 6c 6c 6f",  // "hello"
       }),
       .frames = {{{.type = FrameType::kMessage,
                    .stream = 1,
                    .sequence = 0x1020304,
                    .length = 5,
                    .credits = 0x40,
                    .window = 0x10203},
                   "hello"}}},
      {.name = "credit with a digest",
       .digest = true,
       .bytes = Hex({
           "01 10 01 00",  // version 1, Credit, digest, no class
           "00 00 00 00",  // no stream
           "00 00 00 00",  // no sequence
           "00 00 00 00",  // length 0
           "40 00 00 00",  // credits 0x40
           "00 00 00 00",  // no window
           "93 4d e7 69",  // digest
           "00 00 00 00",  // reserved
       }),
       .frames = {{{.type = FrameType::kCredit, .credits = 0x40}, ""}}},
      {.name = "several frames",
       .digest = false,
       .bytes = Hex({
           "01 02 00 00",              // version 1, Open, no flags, latency
           "01 00 00 00",              // stream 1
           "00 00 00 00",              // sequence 0x0
           "08 00 00 00",              // length 8
           "40 00 00 00",              // credits 0x40
           "00 00 10 00",              // window 0x100000
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "61 20 73 74 72 65 61 6d",  // "a stream"
           "01 01 00 00",              // version 1, Message, no flags, latency
           "01 00 00 00",              // stream 1
           "01 00 00 00",              // sequence 0x1
           "05 00 00 00",              // length 5
           "40 00 00 00",              // credits 0x40
           "00 00 10 00",              // window 0x100000
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "68 65 6c 6c 6f",           // "hello"
           "00 00 00",                 // padding
           "01 01 00 00",              // version 1, Message, no flags, latency
           "01 00 00 00",              // stream 1
           "02 00 00 00",              // sequence 0x2
           "07 00 00 00",              // length 7
           "40 00 00 00",              // credits 0x40
           "00 00 10 00",              // window 0x100000
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "31 32 33 34 35 36 37",     // "1234567"
           "00",                       // padding
           "01 13 00 00",              // version 1, Gone, no flags, no class
           "00 00 00 00",              // no stream
           "00 00 00 00",              // no sequence
           "0c 00 00 00",              // length 12
           "40 00 00 00",              // credits 0x40
           "00 00 00 00",              // no window
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "01 00 00 00",              // link
           "00 00 00 00",              // incarnation
           "02 00 00 00",              // received
           "00 00 00 00",              // padding
           "01 01 00 01",              // version 1, Message, no flags, bulk
           "03 00 00 00",              // stream 3
           "09 00 00 00",              // sequence 0x9
           "01 00 00 00",              // length 1
           "40 00 00 00",              // credits 0x40
           "00 00 20 00",              // window 0x200000
           "00 00 00 00",              // no digest
           "00 00 00 00",              // reserved
           "21",                       // "!"
       }),
       .frames = {{{.type = FrameType::kOpen,
                    .stream = 1,
                    .length = 8,
                    .credits = 0x40,
                    .window = 0x100000},
                   "a stream"},
                  {{.type = FrameType::kMessage,
                    .stream = 1,
                    .sequence = 0x1,
                    .length = 5,
                    .credits = 0x40,
                    .window = 0x100000},
                   "hello"},
                  {{.type = FrameType::kMessage,
                    .stream = 1,
                    .sequence = 0x2,
                    .length = 7,
                    .credits = 0x40,
                    .window = 0x100000},
                   "1234567"},
                  {{.type = FrameType::kGone, .length = 12, .credits = 0x40},
                   Gone{.link = 1, .received = 2}},
                  {{.type = FrameType::kMessage,
                    .message_class = MessageClass::kBulk,
                    .stream = 3,
                    .sequence = 0x9,
                    .length = 1,
                    .credits = 0x40,
                    .window = 0x200000},
                   "!"}}},
      {.name = "several frames with digests",
       .digest = true,
       .bytes = Hex({
           "01 02 01 00",              // version 1, Open, digest, latency
           "01 00 00 00",              // stream 1
           "00 00 00 00",              // sequence 0x0
           "08 00 00 00",              // length 8
           "40 00 00 00",              // credits 0x40
           "00 00 10 00",              // window 0x100000
           "2d 81 62 79",              // digest
           "00 00 00 00",              // reserved
           "61 20 73 74 72 65 61 6d",  // "a stream"
           "01 01 01 00",              // version 1, Message, digest, latency
           "01 00 00 00",              // stream 1
           "01 00 00 00",              // sequence 0x1
           "05 00 00 00",              // length 5
           "40 00 00 00",              // credits 0x40
           "00 00 10 00",              // window 0x100000
           "e9 76 2b 41",              // digest
           "00 00 00 00",              // reserved
           "68 65 6c 6c 6f",           // "hello"
           "00 00 00",                 // padding
           "01 01 01 00",              // version 1, Message, digest, latency
           "01 00 00 00",              // stream 1
           "02 00 00 00",              // sequence 0x2
           "07 00 00 00",              // length 7
           "40 00 00 00",              // credits 0x40
           "00 00 10 00",              // window 0x100000
           "20 42 13 82",              // digest
           "00 00 00 00",              // reserved
           "31 32 33 34 35 36 37",     // "1234567"
           "00",                       // padding
           "01 13 01 00",              // version 1, Gone, digest, no class
           "00 00 00 00",              // no stream
           "00 00 00 00",              // no sequence
           "0c 00 00 00",              // length 12
           "40 00 00 00",              // credits 0x40
           "00 00 00 00",              // no window
           "44 0d 49 c0",              // digest
           "00 00 00 00",              // reserved
           "01 00 00 00",              // link
           "00 00 00 00",              // incarnation
           "02 00 00 00",              // received
           "00 00 00 00",              // padding
           "01 01 01 01",              // version 1, Message, digest, bulk
           "03 00 00 00",              // stream 3
           "09 00 00 00",              // sequence 0x9
           "01 00 00 00",              // length 1
           "40 00 00 00",              // credits 0x40
           "00 00 20 00",              // window 0x200000
           "66 7d ab 0c",              // digest
           "00 00 00 00",              // reserved
           "21",                       // "!"
       }),
       .frames = {{{.type = FrameType::kOpen,
                    .stream = 1,
                    .length = 8,
                    .credits = 0x40,
                    .window = 0x100000},
                   "a stream"},
                  {{.type = FrameType::kMessage,
                    .stream = 1,
                    .sequence = 0x1,
                    .length = 5,
                    .credits = 0x40,
                    .window = 0x100000},
                   "hello"},
                  {{.type = FrameType::kMessage,
                    .stream = 1,
                    .sequence = 0x2,
                    .length = 7,
                    .credits = 0x40,
                    .window = 0x100000},
                   "1234567"},
                  {{.type = FrameType::kGone, .length = 12, .credits = 0x40},
                   Gone{.link = 1, .received = 2}},
                  {{.type = FrameType::kMessage,
                    .message_class = MessageClass::kBulk,
                    .stream = 3,
                    .sequence = 0x9,
                    .length = 1,
                    .credits = 0x40,
                    .window = 0x200000},
                   "!"}}},
  };
}

}  // namespace nd::transport
