#include "ndping/text/table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace nd::ndping {

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
  for (Column& column : columns_) {
    column.width = std::max(column.width, column.title.size());
  }
}

std::string Table::Header() const {
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  return Row(titles);
}

std::string Table::Row(const std::vector<std::string>& cells) const {
  std::string line;
  for (size_t i = 0; i < columns_.size() && i < cells.size(); ++i) {
    absl::StrAppendFormat(&line, "%s%*s", i == 0 ? "" : "  ", columns_[i].width,
                          cells[i]);
  }
  return absl::StrCat(line, "\n");
}

}  // namespace nd::ndping
