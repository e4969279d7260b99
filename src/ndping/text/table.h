// An aligned table for people, printed row by row while a test runs: the widths
// are fixed beforehand.
#ifndef ND_NDPING_TEXT_TABLE_H_
#define ND_NDPING_TEXT_TABLE_H_

#include <cstddef>
#include <string>
#include <vector>

namespace nd::ndping {

class Table {
 public:
  struct Column {
    std::string title;
    size_t width = 0;  // of the widest cell; the title's width at least
  };
  explicit Table(std::vector<Column> columns);

  // Lines with an end; cells are aligned to the right, as figures are.
  std::string Header() const;
  // As many cells as columns. A cell wider than its column shifts its row.
  std::string Row(const std::vector<std::string>& cells) const;

 private:
  std::vector<Column> columns_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_TEXT_TABLE_H_
