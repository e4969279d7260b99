#include "ndping/cli/flags.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace nd::ndping {
namespace {

constexpr size_t kNameColumn = 24;
constexpr char kHelpGroup[] = "Options";

// How many characters to insert, delete or replace to make `b` of `a`.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row.back();
}

class ManualPage : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string,
                        CLI::AppFormatMode mode) const override {
    const CLI::App* parent = app->get_parent();
    const std::string name =
        parent == nullptr
            ? app->get_name()
            : absl::StrCat(parent->get_name(), " ", app->get_name());
    // The summary is the first line of the description.
    const std::pair<std::string, std::string> description =
        absl::StrSplit(app->get_description(), absl::MaxSplits('\n', 1));
    std::string page =
        absl::StrCat(Wrap(absl::StrCat(name, " - ", description.first), 0),
                     "\n\n", make_usage(app, name));
    if (!description.second.empty()) {
      absl::StrAppend(&page, "\n", Wrap(description.second, 0), "\n");
    }
    absl::StrAppend(&page, make_positionals(app));
    for (const std::string& group : app->get_groups()) {
      const auto options = app->get_options([&](const CLI::Option* option) {
        return option->get_group() == group && option->nonpositional();
      });
      // CLI11's own group has --help alone, which the reader has found.
      if (group != kHelpGroup && !options.empty()) {
        absl::StrAppend(&page, make_group(group, false, options));
      }
    }
    return absl::StrCat(page, make_subcommands(app, mode), "\n",
                        app->get_footer());
  }

  std::string make_usage(const CLI::App* app, std::string name) const override {
    std::string usage = absl::StrCat("Usage: ", name);
    if (!app->get_subcommands({}).empty()) {
      return absl::StrCat(usage, " COMMAND [ARGUMENT]... [OPTION]...\n");
    }
    for (const CLI::Option* option : Positionals(app)) {
      const std::string argument = option->get_name(true);
      absl::StrAppend(
          &usage, " ",
          option->get_required() ? argument : absl::StrCat("[", argument, "]"));
    }
    const auto options = app->get_options([](const CLI::Option* option) {
      return option->nonpositional() && option->get_group() != kHelpGroup;
    });
    return absl::StrCat(usage, options.empty() ? "\n" : " [OPTION]...\n");
  }

  // What a positional argument is stands like an option, without a heading.
  std::string make_positionals(const CLI::App* app) const override {
    std::string text;
    for (const CLI::Option* option : Positionals(app)) {
      absl::StrAppend(&text, make_option(option, true));
    }
    return text.empty() ? text : absl::StrCat("\n", text);
  }

  std::string make_group(
      std::string group, bool is_positional,
      std::vector<const CLI::Option*> options) const override {
    std::string text = absl::StrCat("\n", group, ":\n");
    for (const CLI::Option* option : options) {
      absl::StrAppend(&text, make_option(option, is_positional));
    }
    return text;
  }

  std::string make_option(const CLI::Option* option,
                          bool is_positional) const override {
    std::string name = absl::StrCat("  ", option->get_name(is_positional));
    if (!is_positional && !option->get_option_text().empty()) {
      absl::StrAppend(&name, " ", option->get_option_text());
    }
    return Entry(name, option->get_description());
  }

  std::string make_subcommand(const CLI::App* sub) const override {
    const std::string description = sub->get_description();
    return Entry(absl::StrCat("  ", sub->get_name()),
                 description.substr(0, description.find('\n')));
  }

 private:
  static std::vector<const CLI::Option*> Positionals(const CLI::App* app) {
    return app->get_options(
        [](const CLI::Option* option) { return option->get_positional(); });
  }

  // A name, and what it means beside or below it.
  static std::string Entry(const std::string& name, const std::string& help) {
    std::string text = name;
    if (name.size() + 2 > kNameColumn) {
      absl::StrAppend(&text, "\n", std::string(kNameColumn, ' '));
    } else {
      text.append(kNameColumn - name.size(), ' ');
    }
    return absl::StrCat(text, Wrap(help, kNameColumn), "\n");
  }
};

}  // namespace

CLI::Option* AddOption(CLI::App& app, const std::string& name,
                       const std::string& value, const std::string& help,
                       Parse parse) {
  auto parse_all = [name,
                    parse = std::move(parse)](const CLI::results_t& values) {
    for (const std::string& text : values) {
      if (const absl::Status status = parse(text); !status.ok()) {
        throw CLI::ValidationError(name, std::string(status.message()));
      }
    }
    return true;
  };
  return app.add_option(name, std::move(parse_all), help)
      ->type_size(1)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false)
      ->option_text(value);
}

CLI::Option* AddSwitch(CLI::App& app, const std::string& name,
                       const std::string& help, bool& target) {
  return app.add_flag_callback(
      name, [&target] { target = true; }, help);
}

void StartGroup(CLI::App& app, const std::string& heading) {
  app.option_defaults()->group(heading);
}

void UseManualPages(CLI::App& app) {
  app.formatter(std::make_shared<ManualPage>());
}

std::string Wrap(absl::string_view text, size_t indent, size_t width) {
  const std::string margin(indent, ' ');
  std::vector<std::string> lines;
  for (absl::string_view paragraph : absl::StrSplit(text, '\n')) {
    std::string line;
    for (absl::string_view word : absl::StrSplit(paragraph, ' ')) {
      if (!line.empty() && indent + line.size() + 1 + word.size() > width) {
        lines.push_back(std::exchange(line, ""));
      }
      absl::StrAppend(&line, line.empty() ? "" : " ", word);
    }
    lines.push_back(line);
  }
  return absl::StrJoin(lines, absl::StrCat("\n", margin));
}

std::vector<std::string> Similar(absl::string_view name,
                                 const std::vector<std::string>& known) {
  std::vector<std::string> similar;
  for (const std::string& candidate : known) {
    const size_t allowed = std::max<size_t>(1, candidate.size() / 4);
    if (EditDistance(name, candidate) <= allowed) similar.push_back(candidate);
  }
  return similar;
}

}  // namespace nd::ndping
