// Which parts of some areas are in use: the bookkeeping of an allocator.
#ifndef ND_TRANSPORT_MEMORY_SEGREGATED_FIT_H_
#define ND_TRANSPORT_MEMORY_SEGREGATED_FIT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nd::transport {

// Two-level segregated fit (TLSF: Masmano, Ripoll, Crespo, Real, ECRTS 2004):
// free blocks in lists by size class, 32 classes to each power of two, and bits
// that say which lists have any. Taking finds a class by two bit scans, takes
// its first block and gives back what is too much; freeing joins a block with
// its free neighbours. Both in constant time.
//
// Unlike the paper's, it keeps all of its own apart from the memory it speaks
// of, in which a peer may write what it likes. It allocates only when more
// blocks exist than ever before.
//
// One thread at a time.
class SegregatedFit {
 public:
  using Block = uint32_t;  // names one that exists
  static constexpr Block kNone = UINT32_MAX;

  SegregatedFit();

  // The least size of a class that is not less than `units`: what leaves no
  // remainder that is of no use, and is found if it exists. units > 0.
  static uint64_t ClassSize(uint64_t units);

  // An area of so many units, all free: one block, whose name stays that of
  // the area's first block for as long as the area is there. `area` is the
  // caller's own name for it.
  Block AddArea(uint32_t area, uint64_t units);
  // Of an area's first block: whether nothing of the area is in use.
  bool IsFree(Block first) const;
  void RemoveArea(Block first);  // of which nothing is in use

  // A block of `units`, from the least class that has one; kNone if there is
  // none. Where `units` is no ClassSize, a block of its own class is found only
  // if it is that class's first.
  Block Take(uint64_t units);
  void Free(Block block);

  uint64_t begin(Block block) const { return nodes_[block].begin; }
  uint64_t units(Block block) const { return nodes_[block].units; }
  uint32_t area(Block block) const { return nodes_[block].area; }

 private:
  static constexpr uint32_t kColumnBits = 5;
  static constexpr uint32_t kColumns = 1 << kColumnBits;
  static constexpr uint32_t kRows = 40;  // blocks of less than 2^44 units

  struct Node {
    uint64_t begin = 0;  // in its area
    uint64_t units = 0;
    uint32_t area = 0;
    Block before = kNone;  // its neighbours in the area
    Block behind = kNone;
    Block previous = kNone;  // in the list of its class, if it is free
    Block next = kNone;      // there, or among the nodes that name nothing
    bool free = false;
  };
  struct Class {
    uint32_t row;
    uint32_t column;
  };

  static Class ClassOf(uint64_t units);
  Block FirstFit(uint64_t units) const;
  void Link(Block block);
  void Unlink(Block block);
  void Split(Block block, uint64_t units);
  void JoinWithNext(Block block);
  Block NewNode();
  void DropNode(Block block);

  std::vector<Node> nodes_;
  Block unused_ = kNone;
  uint64_t rows_ = 0;  // a bit for each row with a bit in columns_
  std::array<uint32_t, kRows> columns_{};
  std::array<std::array<Block, kColumns>, kRows> lists_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_MEMORY_SEGREGATED_FIT_H_
