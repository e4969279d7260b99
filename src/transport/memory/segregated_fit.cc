#include "transport/memory/segregated_fit.h"

#include <bit>
#include <cassert>

namespace nd::transport {

SegregatedFit::SegregatedFit() {
  for (auto& row : lists_) row.fill(kNone);
}

// Row 0 has a class for each size below 32. Row r has the 32 classes of
// 2^(r+4) units and more, each 2^(r-1) units wide.
SegregatedFit::Class SegregatedFit::ClassOf(uint64_t units) {
  const uint32_t width = std::bit_width(units);
  if (width <= kColumnBits) return {0, static_cast<uint32_t>(units)};
  const uint32_t row = width - kColumnBits;
  return {row, static_cast<uint32_t>(units >> (row - 1)) - kColumns};
}

uint64_t SegregatedFit::ClassSize(uint64_t units) {
  const uint32_t row = ClassOf(units).row;
  if (row <= 1) return units;
  const uint64_t step = uint64_t{1} << (row - 1);
  return (units + step - 1) & ~(step - 1);
}

SegregatedFit::Block SegregatedFit::AddArea(uint32_t area, uint64_t units) {
  assert(units > 0 && ClassOf(units).row < kRows);
  const Block first = NewNode();
  nodes_[first].units = units;
  nodes_[first].area = area;
  Link(first);
  return first;
}

bool SegregatedFit::IsFree(Block first) const {
  return nodes_[first].free && nodes_[first].behind == kNone;
}

void SegregatedFit::RemoveArea(Block first) {
  assert(nodes_[first].begin == 0 && IsFree(first));
  Unlink(first);
  DropNode(first);
}

SegregatedFit::Block SegregatedFit::Take(uint64_t units) {
  assert(units > 0);
  const Block block = FirstFit(units);
  if (block == kNone) return kNone;
  Unlink(block);
  if (nodes_[block].units > units) Split(block, units);
  return block;
}

SegregatedFit::Block SegregatedFit::FirstFit(uint64_t units) const {
  const auto [row, column] = ClassOf(units);
  if (row >= kRows) return kNone;
  const Block own = lists_[row][column];
  if (own != kNone && nodes_[own].units >= units) return own;
  // In 64 bits, so that the last column leaves none of the row.
  const uint64_t in_row = columns_[row] & (~uint64_t{0} << (column + 1));
  if (in_row != 0) return lists_[row][std::countr_zero(in_row)];
  const uint64_t above = rows_ & (~uint64_t{0} << (row + 1));
  if (above == 0) return kNone;
  const int other = std::countr_zero(above);
  return lists_[other][std::countr_zero(columns_[other])];
}

void SegregatedFit::Free(Block block) {
  assert(!nodes_[block].free);
  const Block behind = nodes_[block].behind;
  if (behind != kNone && nodes_[behind].free) {
    Unlink(behind);
    JoinWithNext(block);
  }
  const Block before = nodes_[block].before;
  if (before != kNone && nodes_[before].free) {
    Unlink(before);
    JoinWithNext(before);
    block = before;
  }
  Link(block);
}

void SegregatedFit::Link(Block block) {
  Node& node = nodes_[block];
  const auto [row, column] = ClassOf(node.units);
  Block& head = lists_[row][column];
  node.free = true;
  node.previous = kNone;
  node.next = head;
  if (head != kNone) nodes_[head].previous = block;
  head = block;
  columns_[row] |= uint32_t{1} << column;
  rows_ |= uint64_t{1} << row;
}

void SegregatedFit::Unlink(Block block) {
  Node& node = nodes_[block];
  node.free = false;
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  if (node.previous != kNone) {
    nodes_[node.previous].next = node.next;
    return;
  }
  const auto [row, column] = ClassOf(node.units);
  lists_[row][column] = node.next;
  if (node.next != kNone) return;
  columns_[row] &= ~(uint32_t{1} << column);
  if (columns_[row] == 0) rows_ &= ~(uint64_t{1} << row);
}

// Leaves `units` to the block and makes a free one of the rest.
void SegregatedFit::Split(Block block, uint64_t units) {
  const Block rest = NewNode();
  Node& node = nodes_[block];
  nodes_[rest] = {.begin = node.begin + units,
                  .units = node.units - units,
                  .area = node.area,
                  .before = block,
                  .behind = node.behind};
  if (node.behind != kNone) nodes_[node.behind].before = rest;
  node.behind = rest;
  node.units = units;
  Link(rest);
}

// The lower block's name stays, so that an area's first block keeps its own.
void SegregatedFit::JoinWithNext(Block block) {
  Node& node = nodes_[block];
  const Block joined = node.behind;
  node.units += nodes_[joined].units;
  node.behind = nodes_[joined].behind;
  if (node.behind != kNone) nodes_[node.behind].before = block;
  DropNode(joined);
}

SegregatedFit::Block SegregatedFit::NewNode() {
  if (unused_ == kNone) {
    nodes_.emplace_back();
    return static_cast<Block>(nodes_.size() - 1);
  }
  const Block block = unused_;
  unused_ = nodes_[block].next;
  nodes_[block] = {};
  return block;
}

void SegregatedFit::DropNode(Block block) {
  nodes_[block].next = unused_;
  unused_ = block;
}

}  // namespace nd::transport
