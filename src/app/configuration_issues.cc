#include "app/configuration_issues.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include <fmt/format.h>

#include "base/utf8.h"

namespace tandem::app {
namespace {

// Levenshtein's distance, with neighbours that changed places as one edit.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

// Without what would break the line or the terminal.
std::string OneLine(std::string_view text) {
  std::string clean = utf8::Sanitize(text);
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return clean;
}

}  // namespace

void ConfigurationIssues::Add(std::string_view where, DocumentPosition at, std::string_view path,
                              std::string_view message) {
  if (full()) return;
  issues_.push_back({std::string(where), at, std::string(path), OneLine(message)});
}

void ConfigurationIssues::AddAt(const Configuration& configuration, std::string_view path,
                                std::string_view message) {
  std::string_view around = path;
  auto origin = configuration.origins.find(around);
  while (origin == configuration.origins.end() && !around.empty()) {
    const size_t end = around.find_last_of(".[");
    around = around.substr(0, end == std::string_view::npos ? 0 : end);
    origin = configuration.origins.find(around);
  }
  if (origin == configuration.origins.end()) {
    Add("", {}, path, message);
  } else if (origin->second.kind == Origin::Kind::kFile) {
    Add(origin->second.source, origin->second.at, path, message);
  } else {
    Add(FormatOrigin(origin->second), {}, path, message);
  }
}

Status ConfigurationIssues::ToStatus() const {
  if (issues_.empty()) return {};
  std::vector<const Issue*> sorted;
  sorted.reserve(issues_.size());
  for (const Issue& issue : issues_) sorted.push_back(&issue);
  // Those of one place stay in the order in which they were found: that of their addresses.
  std::ranges::sort(sorted, {}, [](const Issue* issue) {
    return std::tuple<const std::string&, DocumentPosition, const Issue*>(issue->where, issue->at,
                                                                          issue);
  });
  std::string text;
  for (const Issue* issue : sorted) {
    if (!text.empty()) text += '\n';
    if (!issue->where.empty()) text += issue->where;
    if (issue->at.line > 0) text += fmt::format(":{}:{}", issue->at.line, issue->at.column);
    if (!issue->where.empty()) text += ": ";
    if (!issue->path.empty()) text += issue->path + ": ";
    text += issue->message;
  }
  if (full()) text += "\nand perhaps more; correct these first";
  return std::unexpected(Error{ErrorCode::kInvalidArgument, std::move(text), sorted.front()->path});
}

std::string Quoted(std::string_view text) {
  constexpr size_t kMaxBytes = 60;
  return fmt::format("'{}{}'", OneLine(text.substr(0, kMaxBytes)),
                     text.size() > kMaxBytes ? "..." : "");
}

std::string Suggestion(std::string_view unknown, const std::vector<std::string_view>& known) {
  constexpr size_t kMaxBytes = 64;  // the distance costs the product of the lengths
  if (unknown.size() > kMaxBytes) return {};
  std::string_view nearest;
  size_t distance = 0;
  for (const std::string_view name : known) {
    const size_t d = EditDistance(unknown, name);
    if (nearest.empty() || d < distance) {
      nearest = name;
      distance = d;
    }
  }
  if (nearest.empty() || distance > std::max(size_t{1}, nearest.size() / 3)) return {};
  return fmt::format("; did you mean '{}'?", nearest);
}

}  // namespace tandem::app
